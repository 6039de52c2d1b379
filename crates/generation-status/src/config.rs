//! The service's settings, read once at the start. Each names its variable when it is wrong.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use chassis::egress::Reach;
use chassis::settings::{Error, Source};
use chassis::{postgres::PoolSettings, server, telemetry};

use crate::models::Catalogue;
use crate::webhooks;

/// All that the process needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Logs and traces.
    pub telemetry: telemetry::Settings,
    /// The two ports.
    pub server: server::Settings,
    /// What the service itself runs with.
    pub service: Settings,
}

/// What the service runs with; tests build it by hand.
#[derive(Clone, Debug)]
pub struct Settings {
    /// PostgreSQL.
    pub database_url: String,
    /// The pool for reads.
    pub read: PoolSettings,
    /// The pool for what users write.
    pub write: PoolSettings,
    /// The pool for claims, which wait for one another.
    pub claim: PoolSettings,
    /// The pool that is reserved for what workers report, so that paid work is never kept from being finished.
    pub finalize: PoolSettings,
    /// The pool that is reserved for what takes back what dead workers left, so that it never waits behind the living.
    pub rescue: PoolSettings,
    /// The pool that sends webhooks.
    pub webhook: PoolSettings,
    /// NATS, which only shortens waiting.
    pub nats_url: Option<String>,
    /// The cache and its relay.
    pub cache: cache::Settings,
    /// Where clients fetch assets: the gateway's own address.
    pub public_url: String,
    /// How long a worker's lease lasts without a heartbeat.
    pub lease: Duration,
    /// How often leases that ran out are taken back, and deadlines enforced.
    pub sweep: Duration,
    /// How often it is looked whether what must hold does hold.
    pub reconcile: Duration,
    /// What can be asked for, and at what price.
    pub models: Catalogue,
    /// How many generations of an account may be with workers and providers at once, unless it was set otherwise.
    pub account_running: i32,
    /// How many generations of an account may be under way, queued ones included.
    pub account_open: i32,
    /// How watches behave.
    pub watch: cache::watch::Settings,
    /// How webhooks are sent.
    pub webhooks: webhooks::Settings,
}

impl Config {
    /// Reads every setting.
    ///
    /// # Errors
    /// One sentence about the first that is missing or wrong.
    pub fn read(source: &Source) -> Result<Self, Error> {
        Ok(Self {
            telemetry: telemetry::Settings::read(source)?,
            server: server::Settings::read(source)?,
            service: Settings::read(source)?,
        })
    }
}

impl Settings {
    /// Everything at its default, for a database and the gateway's public URL.
    #[must_use]
    pub fn of(database_url: impl Into<String>, public_url: impl Into<String>) -> Self {
        let pool = PoolSettings::default();
        Self {
            database_url: database_url.into(),
            read: PoolSettings { min: 1, max: 8, ..pool },
            write: PoolSettings { min: 1, max: 8, ..pool },
            claim: PoolSettings { min: 1, max: 2, ..pool },
            finalize: PoolSettings { min: 1, max: 4, ..pool },
            rescue: PoolSettings { min: 0, max: 2, ..pool },
            webhook: PoolSettings { min: 0, max: 2, ..pool },
            nats_url: None,
            cache: cache::Settings::default(),
            public_url: public_url.into(),
            lease: Duration::from_secs(30),
            sweep: Duration::from_secs(5),
            reconcile: Duration::from_secs(15),
            models: Catalogue::built_in(),
            account_running: 100,
            account_open: 100_000,
            watch: cache::watch::Settings::default(),
            webhooks: webhooks::Settings::default(),
        }
    }

    fn read(source: &Source) -> Result<Self, Error> {
        let default = Self::of(
            source
                .required::<String>("RUSHES_DATABASE_URL", "a URL such as postgres://user:password@host:5432/name")?,
            source.required::<String>("RUSHES_PUBLIC_URL", "the gateway's address as clients see it, http://…")?,
        );
        let settings = Self {
            read: PoolSettings::read(source, "RUSHES_POOL_READ", default.read)?,
            write: PoolSettings::read(source, "RUSHES_POOL_WRITE", default.write)?,
            claim: PoolSettings::read(source, "RUSHES_POOL_CLAIM", default.claim)?,
            finalize: PoolSettings::read(source, "RUSHES_POOL_FINALIZE", default.finalize)?,
            rescue: PoolSettings::read(source, "RUSHES_POOL_REAPER", default.rescue)?,
            webhook: PoolSettings::read(source, "RUSHES_POOL_WEBHOOK", default.webhook)?,
            nats_url: source.optional("RUSHES_NATS_URL", "a URL such as nats://host:4222")?,
            cache: cache::Settings::read(source)?,
            lease: source.duration("RUSHES_LEASE", default.lease, "a time")?,
            sweep: source.duration("RUSHES_REAP_INTERVAL", default.sweep, "a time")?,
            reconcile: source.duration("RUSHES_RECONCILE_INTERVAL", default.reconcile, "a time")?,
            models: models(source)?,
            account_running: count(source, "RUSHES_ACCOUNT_RUNNING", default.account_running)?,
            account_open: count(source, "RUSHES_ACCOUNT_OPEN", default.account_open)?,
            watch: cache::watch::Settings::read(source)?,
            webhooks: webhooks::Settings { reach: reach(source)?, ..default.webhooks },
            ..default
        };
        let times = [
            ("RUSHES_LEASE", settings.lease),
            ("RUSHES_REAP_INTERVAL", settings.sweep),
            ("RUSHES_RECONCILE_INTERVAL", settings.reconcile),
        ];
        match times.into_iter().find(|(_, time)| time.is_zero()) {
            Some((name, _)) => Err(Error::wrong(name, "more than 0")),
            None => Ok(settings),
        }
    }
}

/// The catalogue of the file that `RUSHES_MODELS` names.
fn models(source: &Source) -> Result<Catalogue, Error> {
    let Some(path) = source.optional::<PathBuf>("RUSHES_MODELS", "a JSON file of models")? else {
        return Ok(Catalogue::built_in());
    };
    let wrong = |why: &dyn Display| {
        Error::wrong("RUSHES_MODELS", &format!("a JSON file of models; {} is none: {why}", path.display()))
    };
    let text = std::fs::read_to_string(&path).map_err(|error| wrong(&error))?;
    Catalogue::read(&text).map_err(|why| wrong(&why))
}

/// Where webhooks may go.
fn reach(source: &Source) -> Result<Reach, Error> {
    let should = "public, or anywhere for local stacks and tests";
    match source.optional::<String>("RUSHES_WEBHOOK_REACH", should)?.as_deref() {
        None | Some("public") => Ok(Reach::Public),
        Some("anywhere") => Ok(Reach::Anywhere),
        Some(_) => Err(Error::wrong("RUSHES_WEBHOOK_REACH", should)),
    }
}

fn count(source: &Source, name: &'static str, default: i32) -> Result<i32, Error> {
    let count = source.optional::<i32>(name, "a whole number more than 0")?.unwrap_or(default);
    if count > 0 { Ok(count) } else { Err(Error::wrong(name, "a whole number more than 0")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let set = [("RUSHES_DATABASE_URL", "postgres://h/d"), ("RUSHES_PUBLIC_URL", "http://h")];
        assert!(Config::read(&Source::of(&set)).is_ok());
        for at in 0..set.len() {
            let error = Config::read(&Source::of(&[set[1 - at]])).unwrap_err().to_string();
            assert!(error.starts_with(set[at].0), "{error}");
        }
        for (name, value) in [
            ("RUSHES_LEASE", "0s"),
            ("RUSHES_REAP_INTERVAL", "soon"),
            ("RUSHES_POOL_READ_MAX", "0"),
            ("RUSHES_ACCOUNT_RUNNING", "0"),
            ("RUSHES_ACCOUNT_OPEN", "many"),
            ("RUSHES_WATCH_HEARTBEAT", "0s"),
            ("RUSHES_WEBHOOK_REACH", "private"),
            ("RUSHES_MODELS", "/dev/null"),
            ("RUSHES_MODELS", "/nowhere"),
        ] {
            let error = Config::read(&Source::of(&[set[0], set[1], (name, value)])).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }
}
