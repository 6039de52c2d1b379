//! The way in: one job for one key, the order out, cancelling, reviving, measuring.

use std::time::Duration;

use jobs::{Enqueued, Failure, Held, NewJob, Retry, Wanted};
use uuid::Uuid;

use crate::stage::{KIND, LEASE, Stage, new_job};

#[tokio::test]
async fn the_same_key_makes_one_job() {
    let stage = Stage::new().await;
    let account = Uuid::now_v7();
    let first = NewJob { request_hash: vec![1], ..NewJob::new(account, KIND, "key") };
    let again = NewJob { id: Uuid::now_v7(), ..first.clone() };
    let other = NewJob { id: Uuid::now_v7(), request_hash: vec![2], ..first.clone() };
    let foreign = NewJob { id: Uuid::now_v7(), account: Uuid::now_v7(), ..first.clone() };

    assert_eq!(stage.enqueue(&first).await, Enqueued::New(first.id));
    assert_eq!(stage.enqueue(&again).await, Enqueued::Same(first.id));
    assert_eq!(stage.enqueue(&other).await, Enqueued::Other(first.id));
    assert_eq!(stage.enqueue(&foreign).await, Enqueued::New(foreign.id));
    assert_eq!(stage.claim("worker", 10).await.len(), 2);
}

#[tokio::test]
async fn a_job_goes_with_its_transaction() {
    let stage = Stage::new().await;
    let mut tx = stage.pool.begin().await.unwrap();
    jobs::enqueue(&mut tx, &new_job(Uuid::now_v7())).await.unwrap();
    tx.rollback().await.unwrap();
    assert!(stage.claim("worker", 10).await.is_empty());
}

#[tokio::test]
async fn priority_goes_first_and_delay_waits() {
    let stage = Stage::new().await;
    let account = Uuid::now_v7();
    let ordinary = new_job(account);
    let urgent = NewJob { priority: 1, ..new_job(account) };
    let later = NewJob { delay: Duration::from_secs(60), ..new_job(account) };
    for job in [&ordinary, &urgent, &later] {
        stage.enqueue(job).await;
    }
    let first = stage.claim("worker", 1).await;
    assert_eq!(first[0].lease.job, urgent.id);
    let rest = stage.claim("worker", 10).await;
    assert_eq!(rest.iter().map(|job| job.lease.job).collect::<Vec<_>>(), [ordinary.id]);
}

#[tokio::test]
async fn a_worker_gets_only_what_it_can_serve() {
    let stage = Stage::new().await;
    let account = Uuid::now_v7();
    for queue in ["red", "green", "blue"] {
        for _ in 0..3 {
            stage.enqueue(&NewJob { queue: queue.to_owned(), ..new_job(account) }).await;
        }
    }
    let queues = ["red".to_owned(), "blue".to_owned()];
    let wanted = Wanted { kind: KIND, queues: &queues, worker: "worker", limit: 4, lease: LEASE, limits: None };
    let mut connection = stage.connection().await;
    let mut served = Vec::new();
    for expected in [4, 2, 0] {
        let leased = jobs::claim(&mut connection, wanted).await.unwrap();
        assert_eq!(leased.len(), expected);
        served.extend(leased.into_iter().map(|job| job.queue));
    }
    assert!(served.iter().all(|queue| queue != "green"), "{served:?}");
}

#[tokio::test]
async fn what_waits_is_withdrawn_and_what_runs_is_asked() {
    let stage = Stage::new().await;
    let account = Uuid::now_v7();
    let mut connection = stage.connection().await;

    let waiting = stage.job(account).await;
    assert!(!jobs::withdraw(&mut connection, Uuid::now_v7(), waiting).await.unwrap(), "another account's");
    assert!(jobs::withdraw(&mut connection, account, waiting).await.unwrap());
    assert!(!jobs::withdraw(&mut connection, account, waiting).await.unwrap());
    assert!(!jobs::ask_to_stop(&mut connection, account, waiting).await.unwrap());
    assert_eq!(stage.state(waiting).await, "cancelled");

    stage.job(account).await;
    let running = stage.one().await.lease;
    assert!(!jobs::withdraw(&mut connection, account, running.job).await.unwrap());
    assert!(!jobs::ask_to_stop(&mut connection, Uuid::now_v7(), running.job).await.unwrap(), "another account's");
    assert!(!jobs::lock_lease(&mut connection, running).await.unwrap().cancel_requested);
    for _ in 0..2 {
        assert!(jobs::ask_to_stop(&mut connection, account, running.job).await.unwrap());
    }
    assert_eq!(jobs::lock_lease(&mut connection, running).await.unwrap(), Held { account, cancel_requested: true });
    let told = jobs::heartbeat(&mut connection, &[running], LEASE).await.unwrap();
    assert_eq!(told[0].held, Some(Held { account, cancel_requested: true }));
    assert_eq!(jobs::lock_leases(&mut connection, &[running]).await.unwrap(), told);
    jobs::cancelled(&mut connection, running).await.unwrap();
    assert_eq!(stage.history(running.job).await, ["queued", "leased", "cancelled"]);
}

#[tokio::test]
async fn a_dead_letter_is_revived_with_an_audit_line() {
    let stage = Stage::new().await;
    let job = NewJob { max_attempts: 1, ..new_job(Uuid::now_v7()) };
    stage.enqueue(&job).await;
    let mut connection = stage.connection().await;
    assert!(!jobs::requeue(&mut connection, job.id, "operator").await.unwrap());
    let failure = Failure { retry: Retry::Counted { after: None }, cause: "BROKEN".into(), detail: "it broke".into() };
    jobs::fail(&mut connection, stage.one().await.lease, &failure).await.unwrap();
    assert_eq!(stage.state(job.id).await, "dead");
    assert!(jobs::requeue(&mut connection, job.id, "operator").await.unwrap());
    let revived = stage.one().await;
    assert_eq!((revived.attempt, revived.lease.fence), (1, 2));
    let audit: String = sqlx::query_scalar("select detail from job_events where job_id = $1 and cause = 'REQUEUED'")
        .bind(job.id)
        .fetch_one(&stage.pool)
        .await
        .unwrap();
    assert_eq!(audit, "operator");
}

#[tokio::test]
async fn history_is_only_added_to() {
    let stage = Stage::new().await;
    stage.job(Uuid::now_v7()).await;
    let changed = sqlx::query("update job_events set cause = 'forged'").execute(&stage.pool).await;
    assert!(changed.unwrap_err().to_string().contains("append only"));
}

#[tokio::test]
async fn depths_count_every_state() {
    let stage = Stage::new().await;
    let account = Uuid::now_v7();
    for _ in 0..4 {
        stage.job(account).await;
    }
    stage.enqueue(&NewJob { delay: Duration::from_secs(60), ..new_job(account) }).await;
    let leased = stage.claim("worker", 2).await;
    let mut connection = stage.connection().await;
    jobs::complete(&mut connection, leased[0].lease).await.unwrap();
    let depths = jobs::depths(&mut connection, KIND).await.unwrap();
    let [depth] = depths.as_slice() else { panic!("one queue: {depths:?}") };
    assert_eq!((depth.ready, depth.delayed, depth.leased, depth.dead), (2, 1, 1, 0));
    jobs::observe(&mut connection, KIND).await.unwrap();
}
