//! The queue from outside: one job for each key, the order of claims, cancelling, requeueing, depths.

use std::time::Duration;

use jobs::{ClaimRequest, Enqueued, Failure, Held, NewJob, Retry};
use uuid::Uuid;

use crate::cluster::{Cluster, KIND, LEASE, new_job};

#[tokio::test]
async fn the_same_key_makes_one_job() {
    let cluster = Cluster::new().await;
    let account = Uuid::now_v7();
    let first = NewJob { request_hash: vec![1], ..NewJob::new(account, KIND, "key") };
    let again = NewJob { id: Uuid::now_v7(), ..first.clone() };
    let other = NewJob { id: Uuid::now_v7(), request_hash: vec![2], ..first.clone() };
    let foreign = NewJob { id: Uuid::now_v7(), account: Uuid::now_v7(), ..first.clone() };

    assert_eq!(cluster.enqueue(&first).await, Enqueued::Created(first.id));
    assert_eq!(cluster.enqueue(&again).await, Enqueued::Duplicate(first.id));
    assert_eq!(cluster.enqueue(&other).await, Enqueued::Conflict(first.id));
    assert_eq!(cluster.enqueue(&foreign).await, Enqueued::Created(foreign.id));
    assert_eq!(cluster.claim("worker", 10).await.len(), 2);
}

#[tokio::test]
async fn a_job_is_rolled_back_with_its_transaction() {
    let cluster = Cluster::new().await;
    let mut tx = cluster.pool.begin().await.unwrap();
    jobs::enqueue(&mut tx, &new_job(Uuid::now_v7())).await.unwrap();
    tx.rollback().await.unwrap();
    assert!(cluster.claim("worker", 10).await.is_empty());
}

#[tokio::test]
async fn priority_goes_first_and_a_delayed_job_waits() {
    let cluster = Cluster::new().await;
    let account = Uuid::now_v7();
    let ordinary = new_job(account);
    let urgent = NewJob { priority: 1, ..new_job(account) };
    let later = NewJob { delay: Duration::from_secs(60), ..new_job(account) };
    for job in [&ordinary, &urgent, &later] {
        cluster.enqueue(job).await;
    }
    let first = cluster.claim("worker", 1).await;
    assert_eq!(first[0].lease.job, urgent.id);
    let rest = cluster.claim("worker", 10).await;
    assert_eq!(rest.iter().map(|job| job.lease.job).collect::<Vec<_>>(), [ordinary.id]);
    assert!(!cluster.any_due().await, "a delayed job is nothing to come for");
    cluster.make_due(later.id).await;
    assert!(cluster.any_due().await);
}

#[tokio::test]
async fn a_worker_gets_only_what_it_can_serve() {
    let cluster = Cluster::new().await;
    let account = Uuid::now_v7();
    for queue in ["red", "green", "blue"] {
        for _ in 0..3 {
            cluster.enqueue(&NewJob { queue: queue.to_owned(), ..new_job(account) }).await;
        }
    }
    let queues = ["red".to_owned(), "blue".to_owned()];
    let request = ClaimRequest { kind: KIND, queues: &queues, worker: "worker", limit: 4, lease: LEASE, limits: None };
    let mut connection = cluster.connection().await;
    let mut served = Vec::new();
    for expected in [4, 2, 0] {
        let leased = jobs::claim(&mut connection, request).await.unwrap();
        assert_eq!(leased.len(), expected);
        served.extend(leased.into_iter().map(|job| job.queue));
    }
    assert!(served.iter().all(|queue| queue != "green"), "{served:?}");
}

#[tokio::test]
async fn a_queued_job_is_cancelled_and_a_running_one_is_asked_to() {
    let cluster = Cluster::new().await;
    let account = Uuid::now_v7();
    let mut connection = cluster.connection().await;

    let waiting = cluster.enqueue_for(account).await;
    assert!(!jobs::cancel_queued(&mut connection, Uuid::now_v7(), waiting).await.unwrap(), "another account's");
    assert!(jobs::cancel_queued(&mut connection, account, waiting).await.unwrap());
    assert!(!jobs::cancel_queued(&mut connection, account, waiting).await.unwrap());
    assert!(!jobs::request_cancel(&mut connection, account, waiting).await.unwrap());
    assert_eq!(cluster.state(waiting).await, "cancelled");

    cluster.enqueue_for(account).await;
    let running = cluster.claim_only().await.lease;
    assert!(!jobs::cancel_queued(&mut connection, account, running.job).await.unwrap());
    assert!(!jobs::request_cancel(&mut connection, Uuid::now_v7(), running.job).await.unwrap(), "another account's");
    assert!(!jobs::lock_lease(&mut connection, running).await.unwrap().cancel_requested);
    for _ in 0..2 {
        assert!(jobs::request_cancel(&mut connection, account, running.job).await.unwrap());
    }
    assert_eq!(jobs::lock_lease(&mut connection, running).await.unwrap(), Held { account, cancel_requested: true });
    let statuses = jobs::heartbeat(&mut connection, &[running], LEASE).await.unwrap();
    assert_eq!(statuses[0].held, Some(Held { account, cancel_requested: true }));
    assert_eq!(jobs::lock_leases(&mut connection, &[running]).await.unwrap(), statuses);
    jobs::cancel(&mut connection, running).await.unwrap();
    assert_eq!(cluster.history(running.job).await, ["queued", "leased", "cancelled"]);
}

#[tokio::test]
async fn a_requeued_dead_letter_says_who_in_its_history() {
    let cluster = Cluster::new().await;
    let job = NewJob { max_attempts: 1, ..new_job(Uuid::now_v7()) };
    cluster.enqueue(&job).await;
    let mut connection = cluster.connection().await;
    assert!(!jobs::requeue(&mut connection, job.id, "operator").await.unwrap());
    let failure = Failure { retry: Retry::Counted { after: None }, cause: "BROKEN".into(), detail: "it broke".into() };
    jobs::fail(&mut connection, cluster.claim_only().await.lease, &failure).await.unwrap();
    assert_eq!(cluster.state(job.id).await, "dead");
    assert!(jobs::requeue(&mut connection, job.id, "operator").await.unwrap());
    let requeued = cluster.claim_only().await;
    assert_eq!((requeued.attempt, requeued.lease.fence), (1, 2));
    let audit: String = sqlx::query_scalar("select detail from job_events where job_id = $1 and cause = 'REQUEUED'")
        .bind(job.id)
        .fetch_one(&cluster.pool)
        .await
        .unwrap();
    assert_eq!(audit, "operator");
}

#[tokio::test]
async fn the_history_is_append_only() {
    let cluster = Cluster::new().await;
    cluster.enqueue_for(Uuid::now_v7()).await;
    let forge = "update job_events set cause = 'forged'";
    let denied = sqlx::query(forge).execute(&cluster.pool).await;
    assert!(denied.unwrap_err().to_string().contains("permission denied"));
    let changed = sqlx::query(forge).execute(&mut cluster.owner().await).await;
    assert!(changed.unwrap_err().to_string().contains("append only"));
}

#[tokio::test]
async fn depths_count_every_state() {
    let cluster = Cluster::new().await;
    let account = Uuid::now_v7();
    for _ in 0..4 {
        cluster.enqueue_for(account).await;
    }
    cluster.enqueue(&NewJob { delay: Duration::from_secs(60), ..new_job(account) }).await;
    let leased = cluster.claim("worker", 2).await;
    let mut connection = cluster.connection().await;
    jobs::complete(&mut connection, leased[0].lease).await.unwrap();
    let depths = jobs::depths(&mut connection, KIND).await.unwrap();
    let [depth] = depths.as_slice() else { panic!("one queue: {depths:?}") };
    assert_eq!((depth.ready, depth.delayed, depth.leased, depth.dead), (2, 1, 1, 0));
    jobs::observe(&mut connection, KIND).await.unwrap();
}
