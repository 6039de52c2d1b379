//! Failed attempts: which count, how long the back-off is, when the job ends.

use std::time::Duration;

use jobs::{Failure, NewJob, Retry, RetryDecision};
use uuid::Uuid;

use crate::cluster::{Cluster, new_job};

fn failure(retry: Retry) -> Failure {
    Failure { retry, cause: "BROKEN".into(), detail: "it broke".into() }
}

/// Fails an attempt and returns its back-off in seconds; the job is due again afterwards.
async fn back_off(cluster: &Cluster, job: Uuid, retry: Retry) -> f64 {
    let mut tx = cluster.pool.begin().await.unwrap();
    let lease = crate::cluster::claim(&mut tx, "worker", 1, crate::cluster::LEASE).await[0].lease;
    assert_eq!(lease.job, job);
    let decision = jobs::fail(&mut tx, lease, &failure(retry)).await.unwrap();
    assert!(matches!(decision, RetryDecision::Retry(_)), "{decision:?}");
    let back_off =
        sqlx::query_scalar("select extract(epoch from run_at - now())::double precision from jobs where id = $1")
            .bind(job)
            .fetch_one(&mut *tx)
            .await
            .unwrap();
    tx.commit().await.unwrap();
    cluster.make_due(job).await;
    back_off
}

#[tokio::test]
async fn back_off_is_random_and_grows_to_five_minutes() {
    let cluster = Cluster::new().await;
    let mut longest = vec![0.0_f64; 12];
    let mut shortest = vec![f64::MAX; 12];
    for _ in 0..24 {
        let job = NewJob { max_attempts: 100, ..new_job(Uuid::now_v7()) };
        cluster.enqueue(&job).await;
        for n in 0..12 {
            let back_off = back_off(&cluster, job.id, Retry::Counted { after: None }).await;
            let limit = 300.0_f64.min(2.0_f64.powi(i32::try_from(n).unwrap()));
            assert!((0.0..=limit).contains(&back_off), "attempt {n}: {back_off} s of at most {limit} s");
            longest[n] = longest[n].max(back_off / limit);
            shortest[n] = shortest[n].min(back_off / limit);
        }
        let over = failure(Retry::Never);
        let lease = cluster.claim_only().await.lease;
        assert_eq!(jobs::fail(&mut *cluster.connection().await, lease, &over).await.unwrap(), RetryDecision::Failed);
    }
    // Full jitter: over 24 jobs the back-offs spread over the whole interval (each bound fails once in 10^7 runs).
    assert!(longest.iter().all(|share| *share > 0.5), "{longest:?}");
    assert!(shortest.iter().all(|share| *share < 0.5), "{shortest:?}");
}

#[tokio::test]
async fn the_other_sides_retry_after_is_honoured() {
    let cluster = Cluster::new().await;
    let job = NewJob { max_attempts: 3, ..new_job(Uuid::now_v7()) };
    cluster.enqueue(&job).await;
    for _ in 0..2 {
        let after = Some(Duration::from_secs(90));
        let back_off = back_off(&cluster, job.id, Retry::Counted { after }).await;
        assert!((90.0..=92.0).contains(&back_off), "{back_off}");
    }
}

#[tokio::test]
async fn counted_attempts_are_used_up_and_others_are_not() {
    let cluster = Cluster::new().await;
    let job = NewJob { max_attempts: 3, ..new_job(Uuid::now_v7()) };
    cluster.enqueue(&job).await;
    for _ in 0..10 {
        back_off(&cluster, job.id, Retry::Uncounted { after: None }).await;
    }
    for _ in 1..3 {
        back_off(&cluster, job.id, Retry::Counted { after: None }).await;
    }
    let last = cluster.claim_only().await;
    assert_eq!((last.attempt, last.lease.fence), (3, 13));
    let counted = failure(Retry::Counted { after: None });
    let decision = jobs::fail(&mut *cluster.connection().await, last.lease, &counted).await.unwrap();
    assert_eq!(decision, RetryDecision::Dead);
    assert_eq!(cluster.state(job.id).await, "dead");
}

#[tokio::test]
async fn a_failure_without_retry_is_no_dead_letter() {
    let cluster = Cluster::new().await;
    let job = cluster.enqueue_for(Uuid::now_v7()).await;
    let lease = cluster.claim_only().await.lease;
    let decision = jobs::fail(&mut *cluster.connection().await, lease, &failure(Retry::Never)).await.unwrap();
    assert_eq!(decision, RetryDecision::Failed);
    assert_eq!(cluster.history(job).await, ["queued", "leased", "failed"]);
}
