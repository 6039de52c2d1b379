//! The settings of pools.

use std::time::Duration;

use crate::settings::{self, Source};

/// The settings that all pools share.
const UNRESPONSIVE_AFTER: &str = "RUSHES_DATABASE_UNRESPONSIVE_AFTER";
const ACCOUNT_PERCENT: &str = "RUSHES_DATABASE_ACCOUNT_PERCENT";

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
    /// How many hundredths of the connections are lent for one account's requests at a time, and at least one. The others are not only
    /// others' to have: each that is busy takes time of the same server.
    pub account_percent: u32,
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
            account_percent: 25,
        }
    }
}

impl PoolSettings {
    /// Reads `RUSHES_DATABASE_UNRESPONSIVE_AFTER` and `RUSHES_DATABASE_ACCOUNT_PERCENT`, which are every pool's, and `{prefix}_MIN`, `_MAX`, `_ACQUIRE`, `_IDLE` and
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
            account_percent: source.or(
                ACCOUNT_PERCENT,
                default.account_percent,
                "hundredths of a pool's connections",
            )?,
        };
        if !(1..=100).contains(&pool.account_percent) {
            return Err(settings::Error::wrong(ACCOUNT_PERCENT, "1 to 100"));
        }
        if pool.max == 0 || pool.min > pool.max {
            let what = format!("at least 1 and not below {}", name("MIN"));
            return Err(settings::Error::wrong(&name("MAX"), &what));
        }
        Ok(pool)
    }

    /// How many connections are lent for one account's requests at a time.
    pub(super) fn max_of_account(&self) -> usize {
        (u64::from(self.max) * u64::from(self.account_percent)).div_ceil(100) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_has_its_part_of_a_pool_and_one_connection_of_the_smallest() {
        let pool = PoolSettings::default();
        for (max, account_percent, expected) in
            [(20, 25, 5), (8, 25, 2), (2, 25, 1), (1, 1, 1), (7, 50, 4), (8, 100, 8)]
        {
            assert_eq!(
                PoolSettings { max, account_percent, ..pool }.max_of_account(),
                expected,
                "{max}, {account_percent}"
            );
        }
        for wrong in ["0", "101", "-1", "half"] {
            let error =
                PoolSettings::read(&Source::of(&[(ACCOUNT_PERCENT, wrong)]), "RUSHES_POOL_READ", pool).unwrap_err();
            assert!(error.to_string().contains(ACCOUNT_PERCENT), "{error}");
        }
    }
}
