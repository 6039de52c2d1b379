//! The only SQL of this service: one file per noun, each statement whole at its call.
//!
//! Invariant: every statement on an account's rows names the account, whatever else identifies the row. The tables' triggers
//! write each change to the outbox, and an operator's change to the audit log, in the same transaction; a statement here only gives
//! them the trace of the change (`rushes.traceparent`) and who made it (`rushes.actor`).

mod account_states;
mod accounts;
mod audit;
mod dashboards;
mod deletion;
mod erasures;
mod notices;
mod projects;
mod scenes;

use chassis::postgres::Pool;
use chassis::{postgres, telemetry};
use url::Url;

use crate::config::Database;

/// The database as this service uses it; cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    /// Reads that users wait for.
    read: Pool,
    /// Writes.
    write: Pool,
}

impl Store {
    /// Pools that connect when they are first used.
    pub(crate) fn connect_lazy(database: &Database) -> Result<Self, postgres::Error> {
        Ok(Self {
            read: Pool::connect_lazy("read", read_pool_url(&database.url).as_str(), &database.read)?,
            write: Pool::connect_lazy("write", database.url.as_str(), &database.write)?,
        })
    }
}

/// The database's URL with settings of the planner for reads, which all take a few rows from the front of an index.
///
/// A statement is planned once for all accounts, because planning the dashboard takes twice as long as running it. Such a
/// plan is made for the average account, of which PostgreSQL would rather fetch all rows and sort them; for an account with a
/// long history that is thousands of rows for ten.
#[must_use]
pub fn read_pool_url(url: &Url) -> Url {
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
