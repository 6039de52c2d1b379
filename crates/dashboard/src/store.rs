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

use chassis::postgres::{self, Lane};
use chassis::telemetry;

use crate::config::Lanes;

/// The database as this service uses it; cheap to clone.
#[derive(Clone)]
pub(crate) struct Store {
    /// What users wait for and nothing changes.
    read: Lane,
    /// What changes rows.
    write: Lane,
}

impl Store {
    /// Pools for the database at `url` that connect when first used.
    pub(crate) fn connect_lazy(url: &str, lanes: &Lanes) -> Result<Self, postgres::Error> {
        Ok(Self {
            read: Lane::connect_lazy("read", url, &lanes.read)?,
            write: Lane::connect_lazy("write", url, &lanes.write)?,
        })
    }
}

/// The trace of the running request, for the outbox; empty outside of one.
fn trace() -> String {
    telemetry::traceparent().unwrap_or_default()
}
