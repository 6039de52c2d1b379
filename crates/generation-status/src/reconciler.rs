//! The reconciler: checks at an interval that the invariants hold, counts and logs each finding by its invariant's name, and
//! repairs what can be repaired without guessing.
//!
//! In a healthy installation it finds nothing: it is a second guard behind transactions, fences and the reaper.

use std::time::Duration;

use chassis::crash;
use domain::id::GenerationId;
use jobs::Notifier;
use tokio_util::sync::CancellationToken;

use crate::crash_points;
use crate::error::Error;
use crate::events;
use crate::generations::Generations;
use crate::metrics;
use crate::store::{INVARIANTS, Repair, Store};

/// Checks and repairs; cheap to clone.
#[derive(Clone)]
pub(crate) struct Reconciler {
    store: Store,
    generations: Generations,
    notifier: Notifier,
}

impl Reconciler {
    pub(crate) fn new(store: Store, generations: Generations, notifier: Notifier) -> Self {
        Self { store, generations, notifier }
    }

    /// Checks at an interval, until `stop`. Every process does: what one repairs, the others do not find.
    pub(crate) async fn run(self, interval: Duration, stop: CancellationToken) {
        let mut tick = tokio::time::interval(interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for invariant in INVARIANTS {
            // The series exists from the start, so that an alert on its increase works for the first finding.
            metrics::violations_found(invariant.name, 0);
        }
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            if let Err(error) = self.reconcile().await {
                tracing::warn!(error = &error as &dyn std::error::Error, "the reconciler failed and will be repeated");
            }
        }
    }

    async fn reconcile(&self) -> Result<(), Error> {
        for invariant in INVARIANTS {
            let violations = self.store.violations(invariant).await?;
            if violations.is_empty() {
                continue;
            }
            metrics::violations_found(invariant.name, violations.len());
            for (account, id) in &violations {
                events::invariant_violated(invariant.name, *account, *id);
                if invariant.repair == Repair::End
                    && let Some(generation) = self.store.end_without_job(*account, GenerationId(*id)).await?
                {
                    crash::point(crash_points::RECONCILER_COMMITTED);
                    self.generations.publish(&generation).await;
                }
            }
            if invariant.repair == Repair::Notify {
                self.notifier.notify().await;
            }
        }
        self.store.run_housekeeping().await
    }
}
