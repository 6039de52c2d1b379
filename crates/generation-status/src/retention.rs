//! Retention: what ended long ago is deleted, a bounded batch at a time.
//!
//! Rows are deleted in ranges of the times in their ids, and no partitions are dropped: a job is found by its idempotency key, which must
//! be unique over all times, and PostgreSQL keeps that only within a partition.

use std::time::Duration;

use domain::generation::DELETION_JOBS;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::events;
use crate::metrics;
use crate::model::{DELIVERY_JOBS, GENERATION_JOBS};
use crate::store::Store;

/// How many jobs one batch reads.
const BATCH: u32 = 1_000;

/// How long what has ended is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Jobs of generations, with the events that `ListGenerationEvents` shows; `None`: for ever.
    pub generation_jobs: Option<Duration>,
    /// Jobs that nothing shows: attempts at deliveries, deletions that were carried out; `None`: for ever.
    pub internal_jobs: Option<Duration>,
    /// The pause between two batches.
    pub interval: Duration,
}

impl Settings {
    fn kinds(&self) -> Vec<(&'static str, Duration)> {
        let generations = self.generation_jobs.map(|age| (GENERATION_JOBS, age));
        let internal = self.internal_jobs.into_iter().flat_map(|age| [(DELIVERY_JOBS, age), (DELETION_JOBS, age)]);
        generations.into_iter().chain(internal).collect()
    }
}

/// Deletes one batch after the other until `stop`. Every process does: what one deletes the others do not find.
pub(crate) async fn run(store: Store, settings: Settings, stop: CancellationToken) {
    let kinds = settings.kinds();
    if kinds.is_empty() {
        return;
    }
    let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + settings.interval, settings.interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut after = Uuid::nil();
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        match store.delete_ended_jobs(&kinds, after, BATCH).await {
            Ok(retained) => {
                after = retained.next;
                metrics::jobs_deleted(retained.deleted);
                events::jobs_deleted(retained.deleted);
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "ended jobs cannot be deleted and will be tried again");
            }
        }
    }
}
