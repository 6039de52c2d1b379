//! Suspended jobs: no lease while they wait, polls that are no attempts, and resolutions without a poll.

use std::time::Duration;

use jobs::{Failure, MAX_EXPIRED_IN_ROW, Resolution, Retry, Suspension};
use uuid::Uuid;

use crate::cluster::{Cluster, KIND};

const POLL_AT_ONCE: Suspension<'_> = Suspension { poll_after: Some(Duration::ZERO), cause: None, detail: None };
const NO_POLL: Suspension<'_> = Suspension { poll_after: None, cause: Some("IN_DOUBT"), detail: Some("cut off") };

#[tokio::test]
async fn a_poll_is_leased_like_an_attempt_and_is_none() {
    let cluster = Cluster::new().await;
    let job = cluster.enqueue_for(Uuid::now_v7()).await;
    let mut leased = cluster.claim_only().await;
    for poll in 0..5 {
        jobs::suspend(&mut *cluster.connection().await, leased.lease, POLL_AT_ONCE).await.unwrap();
        assert_eq!(cluster.state(job).await, "waiting");
        assert!(jobs::lock_lease(&mut *cluster.connection().await, leased.lease).await.is_err(), "the lease is over");
        let next = cluster.claim_only().await;
        assert_eq!((next.poll, next.polls, next.attempt, next.lease.fence), (true, poll, 1, leased.lease.fence + 1));
        leased = next;
    }
    jobs::complete(&mut *cluster.connection().await, leased.lease).await.unwrap();
    assert_eq!(cluster.history(job).await, ["queued", "leased", "waiting", "done"], "polls are no events");
}

#[tokio::test]
async fn polls_go_before_attempts_and_not_before_their_time() {
    let cluster = Cluster::new().await;
    let waiting = cluster.enqueue_for(Uuid::now_v7()).await;
    let leased = cluster.claim_only().await;
    let later = Suspension { poll_after: Some(Duration::from_secs(60)), ..POLL_AT_ONCE };
    jobs::suspend(&mut *cluster.connection().await, leased.lease, later).await.unwrap();
    let queued = cluster.enqueue_for(Uuid::now_v7()).await;
    assert_eq!(cluster.claim("a", 1).await[0].lease.job, queued);
    assert!(!cluster.any_due().await, "a poll that is not due is nothing to come for");
    cluster.enqueue_for(Uuid::now_v7()).await;
    cluster.make_due(waiting).await;
    let first = &cluster.claim("b", 1).await[0];
    assert_eq!((first.lease.job, first.poll), (waiting, true));
}

#[tokio::test]
async fn a_job_without_a_next_poll_is_due_when_asked_for() {
    let cluster = Cluster::new().await;
    let account = Uuid::now_v7();
    for stops in [false, true] {
        let job = cluster.enqueue_for(account).await;
        let leased = cluster.claim_only().await;
        jobs::suspend(&mut *cluster.connection().await, leased.lease, NO_POLL).await.unwrap();
        assert!(cluster.claim("w", 10).await.is_empty());
        let mut connection = cluster.connection().await;
        if stops {
            assert!(jobs::request_cancel(&mut connection, account, job).await.unwrap());
        } else {
            assert!(jobs::poll_now(&mut connection, job).await.unwrap());
        }
        let poll = cluster.claim_only().await;
        assert_eq!((poll.lease.job, poll.cancel_requested), (job, stops));
        assert!(!jobs::poll_now(&mut connection, job).await.unwrap(), "a worker has it");
        jobs::complete(&mut connection, poll.lease).await.unwrap();
    }
}

#[tokio::test]
async fn a_lost_poll_is_due_again_at_once_and_after_three_in_a_row_later() {
    let cluster = Cluster::new().await;
    let job = cluster.enqueue_for(Uuid::now_v7()).await;
    let leased = cluster.claim_only().await;
    jobs::suspend(&mut *cluster.connection().await, leased.lease, POLL_AT_ONCE).await.unwrap();
    for lost in 1..=MAX_EXPIRED_IN_ROW {
        let poll = cluster.claim_only().await;
        assert_eq!((poll.poll, poll.attempt), (true, 1));
        cluster.expire(poll.lease).await;
        let reaped = jobs::reap(&mut *cluster.connection().await, KIND).await.unwrap();
        assert_eq!((reaped.requeued.len(), reaped.dead_lettered.len()), (1, 0), "{lost} lost");
    }
    // What it polls is paid for, and news of it makes the next poll due.
    assert_eq!(cluster.state(job).await, "waiting");
    assert!(cluster.claim("another", 10).await.is_empty(), "not at once");
    assert!(jobs::poll_now(&mut *cluster.connection().await, job).await.unwrap());
    assert!(cluster.claim_only().await.poll);
}

#[tokio::test]
async fn an_attempt_that_began_elsewhere_is_waited_for_when_its_worker_is_lost() {
    let cluster = Cluster::new().await;
    for given_back in [false, true] {
        let job = cluster.enqueue_for(Uuid::now_v7()).await;
        let leased = cluster.claim_only().await;
        jobs::begin_elsewhere(&mut *cluster.connection().await, leased.lease).await.unwrap();
        if given_back {
            jobs::release(&mut *cluster.connection().await, leased.lease).await.unwrap();
        } else {
            cluster.expire(leased.lease).await;
            jobs::reap(&mut *cluster.connection().await, KIND).await.unwrap();
        }
        assert_eq!(cluster.state(job).await, "waiting");
        assert!(
            jobs::begin_elsewhere(&mut *cluster.connection().await, leased.lease).await.is_err(),
            "the lease is over"
        );
        let poll = cluster.claim_only().await;
        assert_eq!((poll.poll, poll.attempt), (true, 1));
        // The next attempt has begun nowhere.
        let failure = Failure {
            retry: Retry::Counted { after: None },
            cause: "BROKEN".to_owned(),
            detail: "it broke".to_owned(),
        };
        jobs::fail(&mut *cluster.connection().await, poll.lease, &failure).await.unwrap();
        cluster.make_due(job).await;
        let next = cluster.claim_only().await;
        assert_eq!((next.poll, next.attempt), (false, 2));
        cluster.expire(next.lease).await;
        jobs::reap(&mut *cluster.connection().await, KIND).await.unwrap();
        assert_eq!(cluster.state(job).await, "queued");
        jobs::complete(&mut *cluster.connection().await, cluster.claim_only().await.lease).await.unwrap();
    }
}

#[tokio::test]
async fn a_released_poll_is_due_again() {
    let cluster = Cluster::new().await;
    let job = cluster.enqueue_for(Uuid::now_v7()).await;
    let leased = cluster.claim_only().await;
    jobs::suspend(&mut *cluster.connection().await, leased.lease, POLL_AT_ONCE).await.unwrap();
    let poll = cluster.claim_only().await;
    jobs::release(&mut *cluster.connection().await, poll.lease).await.unwrap();
    assert_eq!(cluster.state(job).await, "waiting");
    assert_eq!(cluster.claim_only().await.attempt, 1);
}

#[tokio::test]
async fn a_resolution_ends_a_wait_and_says_why_in_the_history() {
    let cluster = Cluster::new().await;
    let account = Uuid::now_v7();
    for (resolution, state) in
        [(Resolution::Requeue, "queued"), (Resolution::Fail, "failed"), (Resolution::Cancel, "cancelled")]
    {
        let job = cluster.enqueue_for(account).await;
        let leased = cluster.claim_only().await;
        let mut connection = cluster.connection().await;
        let why = ("RESOLVED", "ada: asked the provider");
        assert!(!jobs::resolve(&mut connection, account, job, resolution, why).await.unwrap(), "a worker has it");
        jobs::suspend(&mut connection, leased.lease, NO_POLL).await.unwrap();
        assert!(!jobs::resolve(&mut connection, Uuid::now_v7(), job, resolution, why).await.unwrap(), "another's");
        assert!(jobs::resolve(&mut connection, account, job, resolution, why).await.unwrap());
        assert_eq!(cluster.state(job).await, state);
        let line: (String, String) =
            sqlx::query_as("select cause, detail from job_events where job_id = $1 order by id desc limit 1")
                .bind(job)
                .fetch_one(&cluster.pool)
                .await
                .unwrap();
        assert_eq!((line.0.as_str(), line.1.as_str()), why);
        if resolution == Resolution::Requeue {
            let again = cluster.claim_only().await;
            assert_eq!((again.poll, again.attempt), (false, 2));
            jobs::complete(&mut connection, again.lease).await.unwrap();
        }
    }
}

/// A stopped worker keeps its claim session: it must not get the same job until that is dead.
#[tokio::test]
async fn a_job_whose_lease_expired_goes_to_other_workers_first() {
    let cluster = Cluster::new().await;
    cluster.enqueue_for(Uuid::now_v7()).await;
    let lost = cluster.claim("stopped", 1).await[0].lease;
    cluster.expire(lost).await;
    jobs::reap(&mut *cluster.connection().await, KIND).await.unwrap();
    assert!(cluster.claim("stopped", 1).await.is_empty());
    // Where nobody else takes it, it comes back after all.
    sqlx::query("update jobs set run_at = now() - interval '31 s'").execute(&cluster.pool).await.unwrap();
    let again = cluster.claim("stopped", 1).await[0].lease;
    cluster.expire(again).await;
    jobs::reap(&mut *cluster.connection().await, KIND).await.unwrap();
    assert_eq!(cluster.claim("awake", 1).await[0].lease.job, lost.job);
}
