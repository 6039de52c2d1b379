//! The only SQL of this service: one file per noun, each statement whole at its call.
//!
//! Invariant: every statement on an account's rows names the account, whatever else identifies the row. What a statement
//! changes, the triggers of the tables write to the outbox in the same transaction; statements here only hand them the
//! trace (`rushes.traceparent`) that the change belongs to.

mod accounts;
mod dashboards;
mod notices;
mod projects;
mod scenes;

use chassis::postgres::Pool;
use chassis::{postgres, telemetry};
use url::Url;

use crate::config::Pools;

/// The database as this service uses it; cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    /// What users wait for and nothing changes.
    read: Pool,
    /// What changes rows.
    write: Pool,
}

impl Store {
    /// Pools for the database at `url` that connect when first used.
    pub(crate) fn connect_lazy(url: &Url, pools: &Pools) -> Result<Self, postgres::Error> {
        Ok(Self {
            read: Pool::connect_lazy("read", for_reads(url).as_str(), &pools.read)?,
            write: Pool::connect_lazy("write", url.as_str(), &pools.write)?,
        })
    }
}

/// The URL with what the planner is told for reads, which all take a few rows from the front of an index.
///
/// A statement is planned once for all accounts: planning the dashboard takes twice as long as running it. Such a plan goes
/// by the average account, of which PostgreSQL would rather fetch all rows and sort them; for one with a long history that
/// is thousands of rows for ten.
#[must_use]
pub fn for_reads(url: &Url) -> Url {
    let mut url = url.clone();
    url.query_pairs_mut()
        .append_pair("options[plan_cache_mode]", "force_generic_plan")
        .append_pair("options[enable_bitmapscan]", "off")
        .append_pair("options[enable_seqscan]", "off");
    url
}

/// The trace of the running request, for the outbox; empty outside of one.
fn trace() -> String {
    telemetry::traceparent().unwrap_or_default()
}
