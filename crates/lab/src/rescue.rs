//! How soon the jobs of a dead worker are with another: from the kill until the job has a new lease or is over.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use sqlx::PgPool;
use tokio::task::JoinHandle;
use uuid::Uuid;

/// A job that is not back by then is told as so late.
const LIMIT: Duration = Duration::from_secs(120);

/// All rescues so far.
#[derive(Clone, Default)]
pub(crate) struct Rescues {
    took: Arc<Mutex<Vec<Duration>>>,
    under_way: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Rescues {
    /// Begins to measure for a worker that died just now.
    pub(crate) fn begin(&self, pool: &PgPool, worker: u32) {
        let (pool, took) = (pool.clone(), Arc::clone(&self.took));
        let measuring = tokio::spawn(async move {
            let died = Instant::now();
            let mut left = loop {
                // The database may be away as well.
                match held(&pool, worker).await {
                    Ok(held) => break held,
                    Err(_) if died.elapsed() > LIMIT => return,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            };
            while !left.is_empty() && died.elapsed() < LIMIT {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let Ok(still) = unmoved(&pool, &left).await else { continue };
                let back = left.len() - still.len();
                left = still;
                took.lock().unwrap_or_else(PoisonError::into_inner).extend((0..back).map(|_| died.elapsed()));
            }
            took.lock().unwrap_or_else(PoisonError::into_inner).extend(left.iter().map(|_| LIMIT));
        });
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).push(measuring);
    }

    /// Every rescue's time, in order, once all are through.
    pub(crate) async fn all(&self) -> Vec<Duration> {
        let under_way = std::mem::take(&mut *self.under_way.lock().unwrap_or_else(PoisonError::into_inner));
        for measuring in under_way {
            let _ = measuring.await;
        }
        let mut took = self.took.lock().unwrap_or_else(PoisonError::into_inner).clone();
        took.sort_unstable();
        took
    }
}

/// The value below which `share` of an ordered list lies; zero of none.
pub(crate) fn percentile(ordered: &[Duration], share: f64) -> Duration {
    let at = (ordered.len() as f64 * share).ceil() as usize;
    ordered.get(at.saturating_sub(1)).or(ordered.last()).copied().unwrap_or_default()
}

/// The jobs that the worker with this process id holds, with their fences.
async fn held(pool: &PgPool, worker: u32) -> Result<Vec<(Uuid, i64)>> {
    let query = sqlx::query_as("select id, fence from jobs where state = 'leased' and worker like '%/' || $1::text");
    Ok(query.bind(worker.to_string()).fetch_all(pool).await?)
}

/// Which of these are where they were. One that is back in its queue while its provider is paused waits for the provider, and not for the
/// dead worker's lease.
async fn unmoved(pool: &PgPool, jobs: &[(Uuid, i64)]) -> Result<Vec<(Uuid, i64)>> {
    let ids: Vec<Uuid> = jobs.iter().map(|(id, _)| *id).collect();
    let query = sqlx::query_as(
        "select id, fence from jobs where id = any ($1) and finished_at is null
         and not (state = 'waiting' and cause is not null)
         and not (state = 'queued' and exists (
             select from job_breakers b where b.kind = jobs.kind and b.open_time is not null))",
    );
    let now: Vec<(Uuid, i64)> = query.bind(&ids).fetch_all(pool).await?;
    Ok(jobs.iter().filter(|job| now.contains(job)).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_is_there() {
        let seconds: Vec<_> = (1..=10).map(Duration::from_secs).collect();
        assert_eq!(percentile(&seconds, 0.5), Duration::from_secs(5));
        assert_eq!(percentile(&seconds, 0.9), Duration::from_secs(9));
        assert_eq!(percentile(&seconds, 1.0), Duration::from_secs(10));
        assert_eq!(percentile(&[], 0.9), Duration::ZERO);
    }
}
