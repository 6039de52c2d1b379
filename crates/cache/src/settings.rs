//! The settings of the cache; read once at the start, or written as a struct literal in tests.

use std::time::Duration;

use chassis::keyring::{InternalKeys, Keyring};
use chassis::postgres::PoolSettings;
use chassis::settings::{Error, Source};

/// The share of hits and changes that is observed by default.
const OBSERVE: f64 = 0.001;

/// How a process caches.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Redis, the second tier; without it L1 and PostgreSQL answer.
    pub redis_url: Option<String>,
    /// The maximum size of L1, in bytes of keys and bodies.
    pub l1_bytes: u64,
    /// The first part of every Redis key and NATS subject: one for each database, so that two clusters may share servers.
    pub space: String,
    /// Whether this process may lead the relay (it needs a database for that).
    pub relay: bool,
    /// How often a leading relay drains the outbox when nothing wakes it; where nothing changes, as often as proofs go out.
    pub tick: Duration,
    /// The share of hits and of changes that the observer checks, 0 to 1; 0 turns it off. [`Settings::read`] turns it on;
    /// it is off by default, since what it reads would disturb a test that counts statements.
    pub observe: f64,
    /// When the observer asks all processes what they would serve, after a change; never before the bound.
    pub probe_after: [Duration; 3],
    /// What values in Redis are sealed with, so that whoever writes there makes nothing that is believed. [`Settings::read`] has it
    /// wherever there is a Redis; without it values are neither sealed nor checked.
    pub seal: Option<Keyring>,
    /// The timeout of one call to Redis, connecting included.
    pub redis_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            redis_url: None,
            l1_bytes: 64 << 20,
            space: "rushes".to_owned(),
            relay: true,
            tick: Duration::from_millis(50),
            observe: 0.0,
            probe_after: [Duration::from_secs(1), Duration::from_secs(10), Duration::from_secs(300)],
            seal: None,
            redis_timeout: Duration::from_millis(50),
        }
    }
}

impl Settings {
    /// Reads `RUSHES_REDIS_URL`, `RUSHES_INTERNAL_KEYS`, `RUSHES_CACHE_L1_BYTES`, `RUSHES_CACHE_SPACE`, `RUSHES_CACHE_RELAY` and
    /// `RUSHES_CACHE_OBSERVE`.
    ///
    /// # Errors
    /// One of them is set and cannot be read; the error names it.
    pub fn read(source: &Source) -> Result<Self, Error> {
        let default = Self::default();
        let share = "a share from 0 to 1 such as 0.001";
        let observe = source.or("RUSHES_CACHE_OBSERVE", OBSERVE, share)?;
        if !(0.0..=1.0).contains(&observe) {
            return Err(Error::wrong("RUSHES_CACHE_OBSERVE", share));
        }
        let redis_url: Option<String> =
            source.optional("RUSHES_REDIS_URL", "a URL such as redis://host:6379 or rediss://host:6379")?;
        let seal = redis_url.is_some().then(|| InternalKeys::required(source)).transpose()?;
        Ok(Self {
            redis_url,
            seal: seal.map(|keys| keys.of(crate::seal::PURPOSE)),
            l1_bytes: source.or("RUSHES_CACHE_L1_BYTES", default.l1_bytes, "a number of bytes such as 67108864")?,
            space: source.or("RUSHES_CACHE_SPACE", default.space.clone(), "a word")?,
            relay: source.or("RUSHES_CACHE_RELAY", default.relay, "true or false")?,
            observe,
            ..default
        })
    }

    /// Checks the URL of Redis, and what it leads to if that answers within three seconds.
    ///
    /// # Errors
    /// One sentence about what somebody has to change; what is only away is no error.
    pub async fn check(&self) -> Result<(), Error> {
        match &self.redis_url {
            Some(url) => crate::redis::check(url).await,
            None => Ok(()),
        }
    }

    /// The pool to give to [`crate::Cache::start`]: its own, since a relay that waits behind a flood of reads lets
    /// every proof age, which sends yet more reads to PostgreSQL.
    #[must_use]
    pub fn pool() -> PoolSettings {
        PoolSettings {
            min: 1,
            max: 6,
            acquire: Duration::from_millis(500),
            idle: Duration::from_secs(60),
            statement: Duration::from_secs(2),
            ..PoolSettings::default()
        }
    }
}
