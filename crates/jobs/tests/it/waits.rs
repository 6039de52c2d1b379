//! Jobs that wait for what goes on elsewhere: no lease, polls that are no attempts, and decisions without a poll.

use std::time::Duration;

use jobs::{Decision, LEASES_IN_ROW, Pause};
use uuid::Uuid;

use crate::stage::{KIND, Stage};

const NOW: Pause<'_> = Pause { poll_after: Some(Duration::ZERO), cause: None, detail: None };
const WHEN_HEARD: Pause<'_> = Pause { poll_after: None, cause: Some("IN_DOUBT"), detail: Some("cut off") };

#[tokio::test]
async fn a_look_is_leased_like_work_and_is_no_attempt() {
    let stage = Stage::new().await;
    let job = stage.job(Uuid::now_v7()).await;
    let mut leased = stage.one().await;
    for poll in 0..5 {
        jobs::suspend(&mut *stage.connection().await, leased.lease, NOW).await.unwrap();
        assert_eq!(stage.state(job).await, "waiting");
        assert!(jobs::lock_lease(&mut *stage.connection().await, leased.lease).await.is_err(), "the lease is over");
        let next = stage.one().await;
        assert_eq!((next.poll, next.polls, next.attempt, next.lease.fence), (true, poll, 1, leased.lease.fence + 1));
        leased = next;
    }
    jobs::complete(&mut *stage.connection().await, leased.lease).await.unwrap();
    assert_eq!(stage.history(job).await, ["queued", "leased", "waiting", "done"], "polls are no events");
}

#[tokio::test]
async fn looks_go_before_work_and_not_before_their_time() {
    let stage = Stage::new().await;
    let waiting = stage.job(Uuid::now_v7()).await;
    let leased = stage.one().await;
    let later = Pause { poll_after: Some(Duration::from_secs(60)), ..NOW };
    jobs::suspend(&mut *stage.connection().await, leased.lease, later).await.unwrap();
    let queued = stage.job(Uuid::now_v7()).await;
    assert_eq!(stage.claim("a", 1).await[0].lease.job, queued);
    stage.job(Uuid::now_v7()).await;
    stage.hasten(waiting).await;
    let first = &stage.claim("b", 1).await[0];
    assert_eq!((first.lease.job, first.poll), (waiting, true));
}

#[tokio::test]
async fn what_waits_for_a_word_is_due_when_it_comes() {
    let stage = Stage::new().await;
    let account = Uuid::now_v7();
    for stops in [false, true] {
        let job = stage.job(account).await;
        let leased = stage.one().await;
        jobs::suspend(&mut *stage.connection().await, leased.lease, WHEN_HEARD).await.unwrap();
        assert!(stage.claim("w", 10).await.is_empty());
        let mut connection = stage.connection().await;
        if stops {
            assert!(jobs::ask_to_stop(&mut connection, account, job).await.unwrap());
        } else {
            assert!(jobs::hint(&mut connection, job).await.unwrap());
        }
        let poll = stage.one().await;
        assert_eq!((poll.lease.job, poll.cancel_requested), (job, stops));
        assert!(!jobs::hint(&mut connection, job).await.unwrap(), "a worker has it");
        jobs::complete(&mut connection, poll.lease).await.unwrap();
    }
}

#[tokio::test]
async fn a_look_that_is_lost_is_due_again_and_kills_at_most_three() {
    let stage = Stage::new().await;
    let job = stage.job(Uuid::now_v7()).await;
    let leased = stage.one().await;
    jobs::suspend(&mut *stage.connection().await, leased.lease, NOW).await.unwrap();
    for lost in 1..=LEASES_IN_ROW {
        let poll = stage.one().await;
        assert_eq!((poll.poll, poll.attempt), (true, 1));
        stage.expire(poll.lease).await;
        let reaped = jobs::reap(&mut *stage.connection().await, KIND).await.unwrap();
        assert_eq!(
            (reaped.requeued.len(), reaped.dead_lettered.len()),
            if lost < LEASES_IN_ROW { (1, 0) } else { (0, 1) }
        );
    }
    assert_eq!(stage.state(job).await, "dead");
}

#[tokio::test]
async fn a_look_given_back_is_due_again() {
    let stage = Stage::new().await;
    let job = stage.job(Uuid::now_v7()).await;
    let leased = stage.one().await;
    jobs::suspend(&mut *stage.connection().await, leased.lease, NOW).await.unwrap();
    let poll = stage.one().await;
    jobs::release(&mut *stage.connection().await, poll.lease).await.unwrap();
    assert_eq!(stage.state(job).await, "waiting");
    assert_eq!(stage.one().await.attempt, 1);
}

#[tokio::test]
async fn decisions_end_a_wait_and_leave_their_line() {
    let stage = Stage::new().await;
    let account = Uuid::now_v7();
    for (decision, state) in
        [(Decision::Requeue, "queued"), (Decision::Fail, "failed"), (Decision::Cancel, "cancelled")]
    {
        let job = stage.job(account).await;
        let leased = stage.one().await;
        let mut connection = stage.connection().await;
        let why = ("DECIDED", "ada: looked");
        assert!(!jobs::decide(&mut connection, account, job, decision, why).await.unwrap(), "a worker has it");
        jobs::suspend(&mut connection, leased.lease, WHEN_HEARD).await.unwrap();
        assert!(!jobs::decide(&mut connection, Uuid::now_v7(), job, decision, why).await.unwrap(), "another's");
        assert!(jobs::decide(&mut connection, account, job, decision, why).await.unwrap());
        assert_eq!(stage.state(job).await, state);
        let line: (String, String) =
            sqlx::query_as("select cause, detail from job_events where job_id = $1 order by id desc limit 1")
                .bind(job)
                .fetch_one(&stage.pool)
                .await
                .unwrap();
        assert_eq!((line.0.as_str(), line.1.as_str()), why);
        if decision == Decision::Requeue {
            let again = stage.one().await;
            assert_eq!((again.poll, again.attempt), (false, 2));
            jobs::complete(&mut connection, again.lease).await.unwrap();
        }
    }
}

/// A worker that stands still keeps its stream: it must not be given the same job until that is dead.
#[tokio::test]
async fn a_lease_that_ran_out_is_for_others_first() {
    let stage = Stage::new().await;
    stage.job(Uuid::now_v7()).await;
    let lost = stage.claim("asleep", 1).await[0].lease;
    stage.expire(lost).await;
    jobs::reap(&mut *stage.connection().await, KIND).await.unwrap();
    assert!(stage.claim("asleep", 1).await.is_empty());
    // Where nobody else takes it, it comes back after all.
    sqlx::query("update jobs set run_at = now() - interval '31 s'").execute(&stage.pool).await.unwrap();
    let again = stage.claim("asleep", 1).await[0].lease;
    stage.expire(again).await;
    jobs::reap(&mut *stage.connection().await, KIND).await.unwrap();
    assert_eq!(stage.claim("awake", 1).await[0].lease.job, lost.job);
}
