//! The reconciler: every so often it polls whether what must hold does hold, counts and logs each finding by its invariant's
//! name, and repairs what can be repaired without guessing.
//!
//! Invariant: in a healthy installation it finds nothing; it is the second wall behind transactions, fences and sweeps.

use std::time::Duration;

use chassis::crash;
use domain::id::GenerationId;
use jobs::Notifier;
use tokio_util::sync::CancellationToken;

use crate::crash_points;
use crate::error::Error;
use crate::generations::Generations;
use crate::store::{INVARIANTS, Repair, Store};

/// Looks after what must hold; cheap to clone.
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

    /// Looks every so often, until `stop`. Every process does: what one repairs, the others do not find.
    pub(crate) async fn keep_reconciling(self, every: Duration, stop: CancellationToken) {
        let mut tick = tokio::time::interval(every);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for invariant in INVARIANTS {
            // From the start there is a series to alert on.
            metrics::counter!("rushes_reconciler_findings_total", "invariant" => invariant.name).absolute(0);
        }
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            if let Err(error) = self.reconcile().await {
                tracing::warn!(error = &error as &dyn std::error::Error, "the reconciler failed and will be repeated");
            }
        }
    }

    async fn reconcile(&self) -> Result<(), Error> {
        for invariant in INVARIANTS {
            let broken = self.store.broken(invariant).await?;
            if broken.is_empty() {
                continue;
            }
            metrics::counter!("rushes_reconciler_findings_total", "invariant" => invariant.name)
                .increment(broken.len() as u64);
            for (account, id) in &broken {
                tracing::error!(invariant = invariant.name, %id, account = %account.0, "the reconciler found something");
                if invariant.repair == Repair::End
                    && let Some(record) = self.store.end_jobless(*account, GenerationId(*id)).await?
                {
                    crash::point(crash_points::RECONCILER_COMMITTED);
                    self.generations.tell(&record).await;
                }
            }
            if invariant.repair == Repair::Wake {
                self.notifier.notify().await;
            }
        }
        self.store.keep_house().await
    }
}
