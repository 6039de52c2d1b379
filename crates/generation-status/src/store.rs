//! The only SQL of this service, by noun. Every lane has its own pool: what finishes paid work never waits behind reads.

mod calls;
mod change;
mod credits;
mod deadlines;
mod deliveries;
mod generations;
mod history;
mod models;
mod parcels;
mod queues;
mod reconcile;
mod row;
mod start;
mod steps;
mod webhooks;
mod work;

use chassis::postgres::Lane;
use domain::id::LedgerId;
use uuid::Uuid;

pub(crate) use calls::Suspension;
pub(crate) use credits::Issued;
pub(crate) use deadlines::Resolution;
pub(crate) use history::Event;
pub(crate) use models::Pace;
pub(crate) use reconcile::{INVARIANTS, Repair};
pub(crate) use start::{Draft, KIND, Started};
pub(crate) use work::{Claimed, Step, Stopped};

/// The database; cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    lanes: Lanes,
    account: Account,
}

/// Connections by what they are kept for, so that none of it waits for the rest.
#[derive(Clone)]
pub(crate) struct Lanes {
    pub(crate) read: Lane,
    /// What users write.
    pub(crate) write: Lane,
    /// Claims, which wait for one another.
    pub(crate) claim: Lane,
    /// What workers report.
    pub(crate) finalize: Lane,
    /// What takes back, ends and repairs what was left behind.
    pub(crate) rescue: Lane,
    /// What sends webhooks.
    pub(crate) webhook: Lane,
}

/// What every account may have under way, unless something else is set for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    /// With a worker or at a provider at once.
    pub(crate) running: i32,
    /// Under way at all, queued ones included.
    pub(crate) open: i32,
}

impl Store {
    pub(crate) fn new(lanes: Lanes, account: Account) -> Self {
        Self { lanes, account }
    }

    /// What claims keep to.
    pub(crate) fn limits(&self) -> jobs::Limits {
        jobs::Limits { account: self.account.running }
    }
}

/// Ids for the lines of one settlement.
fn ledger_ids() -> Vec<Uuid> {
    (0..3).map(|_| LedgerId::new().0).collect()
}
