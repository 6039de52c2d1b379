//! The reconciler: checks at an interval that the invariants hold, counts and logs each finding by its invariant's name, and
//! repairs what can be repaired without guessing.
//!
//! In a healthy installation it finds nothing: it is a second guard behind transactions, fences and the reaper.

use std::collections::HashMap;
use std::time::Duration;

use chassis::crash;
use domain::id::{AccountId, GenerationId};
use jobs::Notifier;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::crash_points;
use crate::error::Error;
use crate::events;
use crate::generations::Generations;
use crate::metrics;
use crate::model::Violation;
use crate::store::{COPIES, CheckedCopy, INVARIANTS, Invariant, Repair, Store};

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
        // The first round comes after one interval: processes that start together have enough to do.
        let mut tick = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for name in INVARIANTS.iter().map(|invariant| invariant.name).chain(COPIES.iter().map(|copy| copy.name)) {
            // The series exists from the start, so that an alert on its increase works for the first finding.
            metrics::violations_found(name, 0);
        }
        let mut ranges = HashMap::new();
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            self.reconcile(&mut ranges).await;
        }
    }

    /// One round. `ranges` has the id after which the next range of each copy begins. What cannot be checked keeps nothing else from it.
    async fn reconcile(&self, ranges: &mut HashMap<&'static str, Uuid>) {
        for invariant in INVARIANTS {
            report(invariant.name, self.check(invariant).await);
        }
        for copy in COPIES {
            report(copy.name, self.compare(*copy, ranges.entry(copy.name).or_default()).await);
        }
        report("housekeeping", self.store.run_housekeeping().await);
    }

    async fn check(&self, invariant: &Invariant) -> Result<(), Error> {
        let violations = self.store.violations(invariant).await?;
        if violations.is_empty() {
            return Ok(());
        }
        metrics::violations_found(invariant.name, violations.len());
        for Violation { account, id } in violations {
            events::invariant_violated(invariant.name, account, id);
            let repaired = match invariant.repair {
                Repair::End => self.end_without_job(account, GenerationId(id)).await,
                Repair::Cancel => self.generations.cancel(account, GenerationId(id)).await.map(drop),
                Repair::Reaper | Repair::Notify | Repair::None => Ok(()),
            };
            if let Err(error) = repaired {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(invariant = invariant.name, %id, error, "a repair failed and will be repeated");
            }
        }
        if invariant.repair == Repair::Notify {
            self.notifier.notify().await;
        }
        Ok(())
    }

    /// Compares the copies after `range` with their source, and moves it on.
    async fn compare(&self, copy: CheckedCopy, range: &mut Uuid) -> Result<(), Error> {
        let checked = self.store.check_copies(copy, *range).await?;
        *range = checked.next;
        metrics::violations_found(copy.name, checked.violations.len());
        for Violation { account, id } in checked.violations {
            events::invariant_violated(copy.name, account, id);
        }
        Ok(())
    }

    async fn end_without_job(&self, account: AccountId, id: GenerationId) -> Result<(), Error> {
        if let Some(generation) = self.store.end_without_job(account, id).await? {
            crash::point(crash_points::RECONCILER_COMMITTED);
            self.generations.publish(&generation).await;
        }
        Ok(())
    }
}

fn report(name: &str, checked: Result<(), Error>) {
    if let Err(error) = checked {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(invariant = name, error, "an invariant could not be checked and will be again");
    }
}
