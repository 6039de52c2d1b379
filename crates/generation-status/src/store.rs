//! The only SQL of this service, by noun. Every pool has its own pool: what finishes paid work never waits behind reads.

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

use chassis::postgres::Pool;
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
    pools: Pools,
    account: Account,
}

/// Connections by what they are kept for, so that none of it waits for the rest.
#[derive(Clone)]
pub(crate) struct Pools {
    pub(crate) read: Pool,
    /// What users write.
    pub(crate) write: Pool,
    /// Claims, which wait for one another.
    pub(crate) claim: Pool,
    /// What workers report.
    pub(crate) finalize: Pool,
    /// What takes back, ends and repairs what was left behind.
    pub(crate) rescue: Pool,
    /// What sends webhooks.
    pub(crate) webhook: Pool,
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
    pub(crate) fn new(pools: Pools, account: Account) -> Self {
        Self { pools, account }
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
