//! Leases and fences: a job has one holder at a time, a zombie changes nothing, and a dead worker's job comes back.

use jobs::{Cause, Error, Failure, Lease, MAX_EXPIRED_IN_ROW, NewJob, Retry};
use uuid::Uuid;

use crate::cluster::{Cluster, KIND, LEASE, new_job};

/// Tries every write of a worker, and expects each to be refused and to change nothing.
async fn expect_refused(cluster: &Cluster, lease: Lease) {
    let failure = Failure { retry: Retry::Counted { after: None }, cause: "X".into(), detail: String::new() };
    let mut connection = cluster.connection().await;
    let before: (String, i64, i32) = row(cluster, lease.job).await;
    let tries = [
        jobs::complete(&mut connection, lease).await.map(drop),
        jobs::cancel(&mut connection, lease).await.map(drop),
        jobs::release(&mut connection, lease).await.map(drop),
        jobs::fail(&mut connection, lease, &failure).await.map(drop),
        jobs::lock_lease(&mut connection, lease).await.map(drop),
    ];
    for tried in tries {
        assert!(matches!(tried, Err(Error::StaleFence)), "{tried:?}");
    }
    assert!(jobs::heartbeat(&mut connection, &[lease], LEASE).await.unwrap()[0].held.is_none());
    assert!(jobs::lock_leases(&mut connection, &[lease]).await.unwrap()[0].held.is_none());
    assert_eq!(row(cluster, lease.job).await, before);
}

async fn row(cluster: &Cluster, job: Uuid) -> (String, i64, i32) {
    sqlx::query_as("select state, fence, attempt from jobs where id = $1")
        .bind(job)
        .fetch_one(&cluster.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_lease_has_one_holder_and_ends_once() {
    let cluster = Cluster::new().await;
    cluster.enqueue_for(Uuid::now_v7()).await;
    let leased = cluster.claim_only().await;
    assert_eq!((leased.attempt, leased.lease.fence), (1, 1));
    assert!(cluster.claim("other", 10).await.is_empty());
    expect_refused(&cluster, Lease { fence: 2, ..leased.lease }).await;
    jobs::complete(&mut *cluster.connection().await, leased.lease).await.unwrap();
    expect_refused(&cluster, leased.lease).await;
    assert_eq!(cluster.history(leased.lease.job).await, ["queued", "leased", "done"]);
}

#[tokio::test]
async fn a_zombie_changes_nothing() {
    let cluster = Cluster::new().await;
    cluster.enqueue_for(Uuid::now_v7()).await;
    let zombie = cluster.claim_only().await.lease;
    cluster.expire(zombie).await;
    let reaped = jobs::reap(&mut *cluster.connection().await, KIND).await.unwrap();
    assert_eq!(reaped.requeued, [zombie.job]);
    expect_refused(&cluster, zombie).await;
    let successor = cluster.claim_only().await;
    assert_eq!((successor.attempt, successor.lease.fence), (2, 2));
    expect_refused(&cluster, zombie).await;
    jobs::complete(&mut *cluster.connection().await, successor.lease).await.unwrap();
    expect_refused(&cluster, zombie).await;
}

#[tokio::test]
async fn a_heartbeat_prolongs_the_leases_that_it_names() {
    let cluster = Cluster::new().await;
    for _ in 0..3 {
        cluster.enqueue_for(Uuid::now_v7()).await;
    }
    let leases: Vec<_> = cluster.claim("worker", 3).await.iter().map(|job| job.lease).collect();
    for &lease in &leases {
        cluster.expire(lease).await;
    }
    // The first has run out but was not reaped; the second is not named; the third is named with a wrong fence.
    let asked = [leases[0], Lease { fence: 9, ..leases[2] }];
    let statuses = jobs::heartbeat(&mut *cluster.connection().await, &asked, LEASE).await.unwrap();
    assert_eq!(statuses.iter().map(|status| status.held.is_some()).collect::<Vec<_>>(), [true, false]);
    assert_eq!(statuses[1].lease, asked[1]);
    let mut reaped = jobs::reap(&mut *cluster.connection().await, KIND).await.unwrap().requeued;
    reaped.sort();
    let mut expected = [leases[1].job, leases[2].job];
    expected.sort();
    assert_eq!(reaped, expected);
}

#[tokio::test]
async fn a_job_that_kills_its_workers_becomes_a_dead_letter() {
    let cluster = Cluster::new().await;
    let job = NewJob { max_attempts: 100, ..new_job(Uuid::now_v7()) };
    cluster.enqueue(&job).await;
    for round in 1..=MAX_EXPIRED_IN_ROW {
        let lease = cluster.claim_only().await.lease;
        cluster.expire(lease).await;
        let reaped = jobs::reap(&mut *cluster.connection().await, KIND).await.unwrap();
        if round < MAX_EXPIRED_IN_ROW {
            assert_eq!((reaped.requeued.len(), reaped.dead_lettered.len()), (1, 0), "round {round}");
        } else {
            let [dead_lettered] = reaped.dead_lettered.as_slice() else { panic!("{reaped:?}") };
            assert_eq!((dead_lettered.job, dead_lettered.cause), (job.id, Cause::LeaseExpired));
            assert_eq!((dead_lettered.account, dead_lettered.attempts), (job.account, MAX_EXPIRED_IN_ROW));
        }
    }
    assert_eq!(cluster.state(job.id).await, "dead");
    assert!(cluster.claim("worker", 1).await.is_empty());
}

#[tokio::test]
async fn a_lease_ended_by_its_worker_resets_the_expiries_in_a_row() {
    let cluster = Cluster::new().await;
    let job = NewJob { max_attempts: 100, ..new_job(Uuid::now_v7()) };
    cluster.enqueue(&job).await;
    for _ in 0..4 {
        for _ in 1..MAX_EXPIRED_IN_ROW {
            cluster.expire(cluster.claim_only().await.lease).await;
            assert_eq!(jobs::reap(&mut *cluster.connection().await, KIND).await.unwrap().requeued, [job.id]);
        }
        jobs::release(&mut *cluster.connection().await, cluster.claim_only().await.lease).await.unwrap();
    }
}

#[tokio::test]
async fn expired_leases_use_up_attempts() {
    let cluster = Cluster::new().await;
    let job = NewJob { max_attempts: 2, ..new_job(Uuid::now_v7()) };
    cluster.enqueue(&job).await;
    for _ in 0..2 {
        cluster.expire(cluster.claim_only().await.lease).await;
        jobs::reap(&mut *cluster.connection().await, KIND).await.unwrap();
    }
    let cause: String =
        sqlx::query_scalar("select cause from jobs where id = $1").bind(job.id).fetch_one(&cluster.pool).await.unwrap();
    assert_eq!((cluster.state(job.id).await.as_str(), cause.as_str()), ("dead", "ATTEMPTS_EXHAUSTED"));
}

#[tokio::test]
async fn a_job_past_its_start_deadline_becomes_a_dead_letter() {
    let cluster = Cluster::new().await;
    let job = NewJob { deadline: Some(std::time::Duration::ZERO), ..new_job(Uuid::now_v7()) };
    cluster.enqueue(&job).await;
    assert!(cluster.claim("worker", 1).await.is_empty(), "past its start deadline");
    let reaped = jobs::reap(&mut *cluster.connection().await, KIND).await.unwrap();
    assert_eq!(reaped.dead_lettered[0].cause, Cause::StartDeadline);
    assert_eq!(cluster.history(job.id).await, ["queued", "dead"]);
}

#[tokio::test]
async fn a_release_does_not_count_as_an_attempt() {
    let cluster = Cluster::new().await;
    cluster.enqueue_for(Uuid::now_v7()).await;
    for round in 1..=20 {
        let leased = cluster.claim_only().await;
        assert_eq!((leased.attempt, leased.lease.fence), (1, round));
        jobs::release(&mut *cluster.connection().await, leased.lease).await.unwrap();
    }
}
