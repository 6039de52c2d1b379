//! The service's rows: assets and thumbnails, and the jobs that belong to them.
//!
//! Invariant: a thumbnail that is ready stays ready; nothing puts it back to processing or failed. A queued thumbnail and its
//! job are written in one transaction, and so are its end and the job's.

mod assets;
mod erasures;
mod leases;
mod listing;
mod payload;
mod quotas;
mod reconcile;
mod removals;
mod rendered;
mod retention;
mod scans;
mod thumbnails;

use chassis::postgres::Pool;
use jobs::Notifier;

pub(crate) use assets::Put;
pub(crate) use leases::Reaped;
pub use payload::KIND;
pub(crate) use reconcile::Findings;
pub(crate) use scans::Part;

/// The database, and the notifier that wakes workers for new jobs.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    notifier: Notifier,
}

impl Store {
    /// The store on `pool`; whoever commits a new job notifies `notifier`.
    #[must_use]
    pub fn new(pool: Pool, notifier: Notifier) -> Self {
        Self { pool, notifier }
    }
}
