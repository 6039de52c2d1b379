//! Failed attempts: which count, how long the pause is, when it is over.

use std::time::Duration;

use jobs::{Failure, NewJob, Retry, RetryDecision};
use uuid::Uuid;

use crate::stage::{Stage, new_job};

fn failure(retry: Retry) -> Failure {
    Failure { retry, cause: "BROKEN".into(), detail: "it broke".into() }
}

/// The pause in seconds that PostgreSQL gave a failed job.
async fn pause(stage: &Stage, job: Uuid, retry: Retry) -> f64 {
    let mut tx = stage.pool.begin().await.unwrap();
    let lease = crate::stage::claim(&mut tx, "worker", 1, crate::stage::LEASE).await[0].lease;
    assert_eq!(lease.job, job);
    let verdict = jobs::fail(&mut tx, lease, &failure(retry)).await.unwrap();
    assert!(matches!(verdict, RetryDecision::Retry(_)), "{verdict:?}");
    let pause =
        sqlx::query_scalar("select extract(epoch from run_at - now())::double precision from jobs where id = $1")
            .bind(job)
            .fetch_one(&mut *tx)
            .await
            .unwrap();
    tx.commit().await.unwrap();
    stage.hasten(job).await;
    pause
}

#[tokio::test]
async fn pauses_are_random_and_grow_to_five_minutes() {
    let stage = Stage::new().await;
    let mut longest = vec![0.0_f64; 12];
    let mut shortest = vec![f64::MAX; 12];
    for _ in 0..24 {
        let job = NewJob { max_attempts: 100, ..new_job(Uuid::now_v7()) };
        stage.enqueue(&job).await;
        for n in 0..12 {
            let pause = pause(&stage, job.id, Retry::Counted { after: None }).await;
            let limit = 300.0_f64.min(2.0_f64.powi(i32::try_from(n).unwrap()));
            assert!((0.0..=limit).contains(&pause), "attempt {n}: {pause} s of at most {limit} s");
            longest[n] = longest[n].max(pause / limit);
            shortest[n] = shortest[n].min(pause / limit);
        }
        let over = failure(Retry::Never);
        let lease = stage.one().await.lease;
        assert_eq!(jobs::fail(&mut *stage.connection().await, lease, &over).await.unwrap(), RetryDecision::Failed);
    }
    // Full jitter: over 24 jobs the pauses spread over the whole interval (each bound fails once in 10^7 runs).
    assert!(longest.iter().all(|share| *share > 0.5), "{longest:?}");
    assert!(shortest.iter().all(|share| *share < 0.5), "{shortest:?}");
}

#[tokio::test]
async fn the_other_sides_pause_is_honoured() {
    let stage = Stage::new().await;
    let job = NewJob { max_attempts: 3, ..new_job(Uuid::now_v7()) };
    stage.enqueue(&job).await;
    for _ in 0..2 {
        let after = Some(Duration::from_secs(90));
        let pause = pause(&stage, job.id, Retry::Counted { after }).await;
        assert!((90.0..=92.0).contains(&pause), "{pause}");
    }
}

#[tokio::test]
async fn counted_attempts_run_out_and_others_do_not() {
    let stage = Stage::new().await;
    let job = NewJob { max_attempts: 3, ..new_job(Uuid::now_v7()) };
    stage.enqueue(&job).await;
    for _ in 0..10 {
        pause(&stage, job.id, Retry::Uncounted { after: None }).await;
    }
    for _ in 1..3 {
        pause(&stage, job.id, Retry::Counted { after: None }).await;
    }
    let last = stage.one().await;
    assert_eq!((last.attempt, last.lease.fence), (3, 13));
    let counted = failure(Retry::Counted { after: None });
    let verdict = jobs::fail(&mut *stage.connection().await, last.lease, &counted).await.unwrap();
    assert_eq!(verdict, RetryDecision::Dead);
    assert_eq!(stage.state(job.id).await, "dead");
}

#[tokio::test]
async fn a_final_refusal_is_no_dead_letter() {
    let stage = Stage::new().await;
    let job = stage.job(Uuid::now_v7()).await;
    let lease = stage.one().await.lease;
    let verdict = jobs::fail(&mut *stage.connection().await, lease, &failure(Retry::Never)).await.unwrap();
    assert_eq!(verdict, RetryDecision::Failed);
    assert_eq!(stage.history(job).await, ["queued", "leased", "failed"]);
}
