//! The settings of the cache; read once at the start, or written as a struct literal in tests.

use std::time::Duration;

use chassis::postgres::LaneSettings;
use chassis::settings::{Error, Source};

/// How a process caches.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Redis, the second tier; without it L1 and PostgreSQL answer.
    pub redis_url: Option<String>,
    /// The most that L1 holds, in bytes of keys and bodies.
    pub l1_bytes: u64,
    /// The first part of every Redis key and NATS subject: one for each database, so that two stacks may share servers.
    pub space: String,
    /// Whether this process may lead the relay (it needs a database for that).
    pub relay: bool,
    /// How often a leading relay looks at the outbox when nothing wakes it.
    pub tick: Duration,
    /// How long Redis may take for one answer, connecting included.
    pub redis_patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            redis_url: None,
            l1_bytes: 64 << 20,
            space: "rushes".to_owned(),
            relay: true,
            tick: Duration::from_millis(50),
            redis_patience: Duration::from_millis(50),
        }
    }
}

impl Settings {
    /// Reads `RUSHES_REDIS_URL`, `RUSHES_CACHE_L1_BYTES`, `RUSHES_CACHE_SPACE` and `RUSHES_CACHE_RELAY`.
    ///
    /// # Errors
    /// One of them is set and can not be read; the error names it.
    pub fn read(source: &Source) -> Result<Self, Error> {
        let default = Self::default();
        Ok(Self {
            redis_url: source.optional("RUSHES_REDIS_URL", "a URL such as redis://host:6379")?,
            l1_bytes: source.or("RUSHES_CACHE_L1_BYTES", default.l1_bytes, "a number of bytes such as 67108864")?,
            space: source.or("RUSHES_CACHE_SPACE", default.space.clone(), "a word")?,
            relay: source.or("RUSHES_CACHE_RELAY", default.relay, "true or false")?,
            ..default
        })
    }

    /// The lane to give to [`crate::Cache::start`]: its own, since a relay that waits behind a flood of reads lets
    /// every proof age, which sends yet more reads to PostgreSQL.
    #[must_use]
    pub fn lane() -> LaneSettings {
        LaneSettings {
            min: 1,
            max: 6,
            acquire: Duration::from_millis(500),
            idle: Duration::from_secs(60),
            statement: Duration::from_secs(2),
        }
    }
}
