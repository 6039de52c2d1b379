//! Many workers that act at random and lose leases: each job ends exactly once, by the holder of its last lease.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jobs::{Error, Failure, NewJob, Retry};
use sqlx::{Connection as _, PgPool};
use uuid::Uuid;

use crate::cluster::{Cluster, KIND, claim, new_job};

const JOBS: usize = 120;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_job_ends_once_whatever_workers_do() {
    let cluster = Cluster::new().await;
    let accounts: Vec<Uuid> = (0..5).map(|_| Uuid::now_v7()).collect();
    for at in 0..JOBS {
        cluster.enqueue(&NewJob { max_attempts: 1000, ..new_job(accounts[at % 5]) }).await;
    }
    let ends = Arc::new(Mutex::new(HashMap::<Uuid, u32>::new()));
    let workers = (0..6).map(|seed| tokio::spawn(worker(cluster.pool.clone(), seed, ends.clone())));
    let workers: Vec<_> = workers.collect();
    for worker in workers {
        tokio::time::timeout(Duration::from_secs(60), worker).await.expect("the storm ends").unwrap();
    }
    let ends = ends.lock().unwrap().clone();
    assert_eq!(ends.len(), JOBS);
    assert!(ends.values().all(|count| *count == 1), "each ended once: {ends:?}");
    let leased: i64 =
        sqlx::query_scalar("select count(*) from jobs where state <> 'done'").fetch_one(&cluster.pool).await.unwrap();
    assert_eq!(leased, 0);
    // The history is complete: it has every lease, and each job's fence is the number of its leases.
    let broken: i64 = sqlx::query_scalar(
        "select count(*) from jobs j where fence <> (select count(*) from job_events e where e.job_id = j.id and to_state = 'leased')
            or claims <> fence",
    )
    .fetch_one(&cluster.pool)
    .await
    .unwrap();
    assert_eq!(broken, 0);
}

async fn worker(pool: PgPool, seed: u64, ends: Arc<Mutex<HashMap<Uuid, u32>>>) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut connection = pool.acquire().await.unwrap();
    loop {
        let left: i64 = sqlx::query_scalar("select count(*) from jobs where state <> 'done'")
            .fetch_one(&mut *connection)
            .await
            .unwrap();
        if left == 0 {
            return;
        }
        for leased in claim(&mut connection, &format!("worker-{seed}"), 4, Duration::from_millis(3)).await {
            if random.bool() {
                // Another worker's reap may take the lease away meanwhile.
                tokio::time::sleep(Duration::from_millis(random.u64(0..6))).await;
            }
            let failure =
                Failure { retry: Retry::Uncounted { after: None }, cause: "STORM".into(), detail: String::new() };
            let done = match random.u8(0..10) {
                0 => jobs::release(&mut connection, leased.lease).await.map(drop),
                1 => jobs::fail(&mut connection, leased.lease, &failure).await.map(drop),
                // Dies: says nothing.
                2 | 3 => Ok(()),
                _ => match jobs::complete(&mut connection, leased.lease).await {
                    Ok(_) => {
                        *ends.lock().unwrap().entry(leased.lease.job).or_default() += 1;
                        Ok(())
                    }
                    refused => refused.map(drop),
                },
            };
            assert!(matches!(done, Ok(()) | Err(Error::StaleFence)), "{done:?}");
        }
        // Time passes for failed jobs.
        sqlx::query(
            "update jobs set run_at = now() where id in (
                 select id from jobs where state = 'queued' and run_at > now() for update skip locked)",
        )
        .execute(&mut *connection)
        .await
        .unwrap();
        // As services do, in a transaction: what a reap has found is locked until it is written, so that two never wait for each other.
        let mut tx = connection.begin().await.unwrap();
        // Three workers in a row may have died; an operator requeues the job each time.
        for dead_lettered in jobs::reap(&mut tx, KIND).await.unwrap().dead_lettered {
            assert!(jobs::requeue(&mut tx, dead_lettered.job, "operator").await.unwrap());
        }
        tx.commit().await.unwrap();
    }
}
