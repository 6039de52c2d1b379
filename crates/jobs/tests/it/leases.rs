//! Leases and fences: one holder at a time, a zombie changes nothing, a dead worker's job comes back.

use jobs::{Error, Failure, LEASES_IN_ROW, Lease, NewJob, Retry};
use uuid::Uuid;

use crate::stage::{KIND, LEASE, Stage, new_job};

/// Every write that a worker can do, refused.
async fn refused(stage: &Stage, lease: Lease) {
    let failure = Failure { retry: Retry::Counted { after: None }, cause: "X".into(), detail: String::new() };
    let mut connection = stage.connection().await;
    let before: (String, i64, i32) = row(stage, lease.job).await;
    let tries = [
        jobs::complete(&mut connection, lease).await.map(drop),
        jobs::cancelled(&mut connection, lease).await.map(drop),
        jobs::release(&mut connection, lease).await.map(drop),
        jobs::fail(&mut connection, lease, &failure).await.map(drop),
        jobs::lock_lease(&mut connection, lease).await.map(drop),
    ];
    for tried in tries {
        assert!(matches!(tried, Err(Error::StaleFence)), "{tried:?}");
    }
    assert!(jobs::heartbeat(&mut connection, &[lease], LEASE).await.unwrap()[0].held.is_none());
    assert!(jobs::lock_leases(&mut connection, &[lease]).await.unwrap()[0].held.is_none());
    assert_eq!(row(stage, lease.job).await, before);
}

async fn row(stage: &Stage, job: Uuid) -> (String, i64, i32) {
    sqlx::query_as("select state, fence, attempt from jobs where id = $1")
        .bind(job)
        .fetch_one(&stage.pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_lease_has_one_holder_and_ends_once() {
    let stage = Stage::new().await;
    stage.job(Uuid::now_v7()).await;
    let leased = stage.one().await;
    assert_eq!((leased.attempt, leased.lease.fence), (1, 1));
    assert!(stage.claim("other", 10).await.is_empty());
    refused(&stage, Lease { fence: 2, ..leased.lease }).await;
    jobs::complete(&mut *stage.connection().await, leased.lease).await.unwrap();
    refused(&stage, leased.lease).await;
    assert_eq!(stage.history(leased.lease.job).await, ["queued", "leased", "done"]);
}

#[tokio::test]
async fn a_zombie_changes_nothing() {
    let stage = Stage::new().await;
    stage.job(Uuid::now_v7()).await;
    let zombie = stage.one().await.lease;
    stage.expire(zombie).await;
    let reaped = jobs::reap(&mut *stage.connection().await, KIND).await.unwrap();
    assert_eq!(reaped.requeued, [zombie.job]);
    refused(&stage, zombie).await;
    let heir = stage.one().await;
    assert_eq!((heir.attempt, heir.lease.fence), (2, 2));
    refused(&stage, zombie).await;
    jobs::complete(&mut *stage.connection().await, heir.lease).await.unwrap();
    refused(&stage, zombie).await;
}

#[tokio::test]
async fn a_heartbeat_keeps_what_it_names() {
    let stage = Stage::new().await;
    for _ in 0..3 {
        stage.job(Uuid::now_v7()).await;
    }
    let leases: Vec<_> = stage.claim("worker", 3).await.iter().map(|job| job.lease).collect();
    for &lease in &leases {
        stage.expire(lease).await;
    }
    // The first is late but nobody's yet; the second is not asked for; the third is asked for with a wrong fence.
    let asked = [leases[0], Lease { fence: 9, ..leases[2] }];
    let statuses = jobs::heartbeat(&mut *stage.connection().await, &asked, LEASE).await.unwrap();
    assert_eq!(statuses.iter().map(|status| status.held.is_some()).collect::<Vec<_>>(), [true, false]);
    assert_eq!(statuses[1].lease, asked[1]);
    let mut reaped = jobs::reap(&mut *stage.connection().await, KIND).await.unwrap().requeued;
    reaped.sort();
    let mut expected = [leases[1].job, leases[2].job];
    expected.sort();
    assert_eq!(reaped, expected);
}

#[tokio::test]
async fn a_job_that_kills_its_workers_is_buried() {
    let stage = Stage::new().await;
    let job = NewJob { max_attempts: 100, ..new_job(Uuid::now_v7()) };
    stage.enqueue(&job).await;
    for round in 1..=LEASES_IN_ROW {
        let lease = stage.one().await.lease;
        stage.expire(lease).await;
        let reaped = jobs::reap(&mut *stage.connection().await, KIND).await.unwrap();
        if round < LEASES_IN_ROW {
            assert_eq!((reaped.requeued.len(), reaped.dead_lettered.len()), (1, 0), "round {round}");
        } else {
            let [dead_lettered] = reaped.dead_lettered.as_slice() else { panic!("{reaped:?}") };
            assert_eq!((dead_lettered.job, dead_lettered.cause.as_str()), (job.id, "LEASE_EXPIRED"));
            assert_eq!((dead_lettered.account, dead_lettered.attempts), (job.account, LEASES_IN_ROW));
        }
    }
    assert_eq!(stage.state(job.id).await, "dead");
    assert!(stage.claim("worker", 1).await.is_empty());
}

#[tokio::test]
async fn a_worker_that_lives_ends_the_row_of_expiries() {
    let stage = Stage::new().await;
    let job = NewJob { max_attempts: 100, ..new_job(Uuid::now_v7()) };
    stage.enqueue(&job).await;
    for _ in 0..4 {
        for _ in 1..LEASES_IN_ROW {
            stage.expire(stage.one().await.lease).await;
            assert_eq!(jobs::reap(&mut *stage.connection().await, KIND).await.unwrap().requeued, [job.id]);
        }
        jobs::release(&mut *stage.connection().await, stage.one().await.lease).await.unwrap();
    }
}

#[tokio::test]
async fn attempts_run_out_by_expiry_too() {
    let stage = Stage::new().await;
    let job = NewJob { max_attempts: 2, ..new_job(Uuid::now_v7()) };
    stage.enqueue(&job).await;
    for _ in 0..2 {
        stage.expire(stage.one().await.lease).await;
        jobs::reap(&mut *stage.connection().await, KIND).await.unwrap();
    }
    let cause: String =
        sqlx::query_scalar("select cause from jobs where id = $1").bind(job.id).fetch_one(&stage.pool).await.unwrap();
    assert_eq!((stage.state(job.id).await.as_str(), cause.as_str()), ("dead", "ATTEMPTS_EXHAUSTED"));
}

#[tokio::test]
async fn what_nobody_took_in_time_is_buried() {
    let stage = Stage::new().await;
    let job = NewJob { deadline: Some(std::time::Duration::ZERO), ..new_job(Uuid::now_v7()) };
    stage.enqueue(&job).await;
    assert!(stage.claim("worker", 1).await.is_empty(), "too late to begin");
    let reaped = jobs::reap(&mut *stage.connection().await, KIND).await.unwrap();
    assert_eq!(reaped.dead_lettered[0].cause, "START_DEADLINE");
    assert_eq!(stage.history(job.id).await, ["queued", "dead"]);
}

#[tokio::test]
async fn a_release_is_no_attempt() {
    let stage = Stage::new().await;
    stage.job(Uuid::now_v7()).await;
    for round in 1..=20 {
        let leased = stage.one().await;
        assert_eq!((leased.attempt, leased.lease.fence), (1, round));
        jobs::release(&mut *stage.connection().await, leased.lease).await.unwrap();
    }
}
