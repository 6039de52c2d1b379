//! The settings of pools.

use std::time::Duration;

use crate::settings::{self, Source};

/// The setting that all pools share.
const UNRESPONSIVE_AFTER: &str = "RUSHES_DATABASE_UNRESPONSIVE_AFTER";

/// The size and the timeouts of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSettings {
    /// Connections kept open even when idle.
    pub min: u32,
    /// Connections at most.
    pub max: u32,
    /// How long to wait for a free connection before failing with `OVERLOADED`.
    pub acquire: Duration,
    /// After which an idle connection beyond `min` is closed.
    pub idle: Duration,
    /// How long PostgreSQL lets one statement run.
    pub statement: Duration,
    /// After how long without any answer PostgreSQL counts as unresponsive, and calls that need it are refused. Pools to one
    /// database that agree in it share a liveness probe.
    pub unresponsive_after: Duration,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self {
            min: 2,
            max: 20,
            acquire: Duration::from_secs(1),
            idle: Duration::from_secs(30),
            statement: Duration::from_secs(10),
            unresponsive_after: Duration::from_millis(80),
        }
    }
}

impl PoolSettings {
    /// Reads `RUSHES_DATABASE_UNRESPONSIVE_AFTER`, which is every pool's, and `{prefix}_MIN`, `_MAX`, `_ACQUIRE`, `_IDLE` and
    /// `_STATEMENT`, such as `RUSHES_POOL_READ_MAX`; what is unset keeps its value from `default`.
    ///
    /// # Errors
    /// When one cannot be read, or when the minimum is above the maximum.
    pub fn read(source: &Source, prefix: &str, default: Self) -> Result<Self, settings::Error> {
        let name = |end: &str| format!("{prefix}_{end}");
        let pool = Self {
            min: source.or(&name("MIN"), default.min, "a count of connections")?,
            max: source.or(&name("MAX"), default.max, "a count of connections")?,
            acquire: source.duration(&name("ACQUIRE"), default.acquire, "a wait")?,
            idle: source.duration(&name("IDLE"), default.idle, "a time")?,
            statement: source.duration(&name("STATEMENT"), default.statement, "a time")?,
            unresponsive_after: source.duration(UNRESPONSIVE_AFTER, default.unresponsive_after, "a time")?,
        };
        if pool.max == 0 || pool.min > pool.max {
            let what = format!("at least 1 and not below {}", name("MIN"));
            return Err(settings::Error::wrong(&name("MAX"), &what));
        }
        Ok(pool)
    }
}
