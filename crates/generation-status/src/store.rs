//! The only SQL of this service, by noun, and the pools that it runs on.

mod audit;
mod bulk;
mod change;
mod copies;
mod costs;
mod credits;
mod deadlines;
mod deletions;
mod deliveries;
mod delivery_jobs;
mod delivery_results;
mod end_users;
mod erasures;
mod filtered;
mod forgotten_orders;
mod generations;
mod inputs;
mod job_events;
mod margins;
mod models;
#[cfg(test)]
mod numbers;
mod order_keys;
mod orders;
mod outputs;
mod paces;
mod provider_calls;
mod queues;
mod reconcile;
mod rows;
mod secrets;
mod start;
mod takes;
mod tombstones;
mod transitions;
mod usage;
mod webhooks;
mod work;

use std::sync::Arc;

use chassis::postgres::Pool;
use chassis::server::Shares;
use uuid::Uuid;

pub(crate) use copies::{COPIES, CheckedCopy};
pub(crate) use reconcile::{INVARIANTS, Invariant, Repair};
pub(crate) use secrets::Resealed;

use crate::secret_keys::SecretKeys;

/// The database; cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    pools: Pools,
    limits: AccountLimits,
    secrets: Arc<SecretKeys>,
    /// Of each account the one start that is under way.
    starts: Shares<Uuid>,
}

/// One pool per workload, so that none starves another: what finishes paid work never waits behind reads.
#[derive(Clone)]
pub(crate) struct Pools {
    pub(crate) read: Pool,
    /// Writes of users and operators.
    pub(crate) write: Pool,
    /// Claims, which wait for one another.
    pub(crate) claim: Pool,
    /// Reports of workers.
    pub(crate) finalize: Pool,
    /// The reaper, deadlines, deletions and the reconciler.
    pub(crate) reaper: Pool,
    /// The sending of webhooks.
    pub(crate) webhook: Pool,
}

/// How many generations an account may have, unless an operator set another limit for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AccountLimits {
    /// With a worker or at a provider at once.
    pub(crate) running: i32,
    /// Open, queued ones included.
    pub(crate) open: i32,
}

impl Store {
    pub(crate) fn new(pools: Pools, limits: AccountLimits, secrets: Arc<SecretKeys>) -> Self {
        Self { pools, limits, secrets, starts: Shares::default() }
    }

    /// The limits that claims keep to.
    pub(crate) fn limits(&self) -> jobs::Limits {
        jobs::Limits { account: self.limits.running }
    }
}
