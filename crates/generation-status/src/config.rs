//! The service's settings, one struct for each subsystem, read once at the start. A wrong one is an error that names its
//! variable.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chassis::egress::Reach;
use chassis::keyring::InternalKeys;
use chassis::links::AssetUrls;
use chassis::settings::{Error, Source};
use chassis::{postgres::PoolSettings, server, telemetry};

use crate::live_catalogue::LiveCatalogue;
use crate::secret_keys::SecretKeys;
use crate::{erasures, retention};

/// Seconds of a day.
const DAY: u64 = 86_400;

/// Everything that the process reads from its environment.
#[derive(Clone, Debug)]
pub struct Config {
    /// Logs and traces.
    pub telemetry: telemetry::Settings,
    /// The public, the internal and the admin port.
    pub server: server::Settings,
    /// What the tokens of callers are signed with.
    pub internal_keys: InternalKeys,
    /// PostgreSQL.
    pub database: Database,
    /// NATS, which only shortens waiting.
    pub nats_url: Option<String>,
    /// The cache and its relay.
    pub cache: cache::Settings,
    /// What can be generated, and how much of it at once.
    pub generations: Generations,
    /// How work is leased, reaped and reconciled.
    pub work: Work,
    /// Heartbeats and ages of watches.
    pub watch: cache::watch::Settings,
    /// How webhooks are sent.
    pub webhooks: Webhooks,
    /// How long what has ended is kept.
    pub retention: retention::Settings,
    /// How accounts are erased.
    pub erasures: erasures::Settings,
}

/// PostgreSQL, with one pool per workload, so that none starves another.
#[derive(Clone, Debug)]
pub struct Database {
    /// `postgres://user:password@host:5432/name`.
    pub url: String,
    /// Reads.
    pub read: PoolSettings,
    /// Writes of users and operators.
    pub write: PoolSettings,
    /// Claims, which wait for one another.
    pub claim: PoolSettings,
    /// Reports of workers: reserved, so that paid work is never kept from being finished.
    pub finalize: PoolSettings,
    /// The reaper, deadlines, deletions and the reconciler: reserved, so that dead workers' jobs never wait behind living ones' requests.
    pub reaper: PoolSettings,
    /// The sending of webhooks.
    pub webhook: PoolSettings,
}

/// What can be generated, and how much of it at once.
#[derive(Clone, Debug)]
pub struct Generations {
    /// Where clients fetch assets: the gateway's own address.
    pub assets: AssetUrls,
    /// What can be asked for, and at what price.
    pub catalogue: LiveCatalogue,
    /// How many generations of an account may be with workers and providers at once, unless an operator set another limit.
    pub account_running: i32,
    /// How many open generations an account may have, queued ones included.
    pub account_open: i32,
}

/// How work is leased, reaped and reconciled.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// How long a worker's lease lasts without a heartbeat.
    pub lease: Duration,
    /// How often expired leases are taken back and deadlines enforced.
    pub reap_interval: Duration,
    /// How often the reconciler checks its invariants.
    pub reconcile_interval: Duration,
}

/// How webhooks are sent.
#[derive(Clone, Debug)]
pub struct Webhooks {
    /// What endpoints may be: addresses of the public internet, or any, for local stacks and tests.
    pub reach: Reach,
    /// How long an endpoint may take to answer; less than the half minute of a delivery's lease.
    pub timeout: Duration,
    /// What their secrets are stored under.
    pub secrets: Arc<SecretKeys>,
}

impl Config {
    /// Everything at its default, for a database, the gateway's public URL, and the services' keys.
    #[must_use]
    pub fn new(database_url: impl Into<String>, assets: AssetUrls, internal_keys: InternalKeys) -> Self {
        let pool = PoolSettings::default();
        Self {
            telemetry: telemetry::Settings::default(),
            server: server::Settings::FREE,
            internal_keys,
            database: Database {
                url: database_url.into(),
                read: PoolSettings { min: 1, max: 8, ..pool },
                write: PoolSettings { min: 1, max: 8, ..pool },
                claim: PoolSettings { min: 1, max: 2, ..pool },
                finalize: PoolSettings { min: 1, max: 4, ..pool },
                reaper: PoolSettings { min: 0, max: 2, ..pool },
                webhook: PoolSettings { min: 0, max: 2, ..pool },
            },
            nats_url: None,
            cache: cache::Settings::default(),
            generations: Generations {
                assets,
                catalogue: LiveCatalogue::built_in(),
                account_running: 100,
                account_open: 100_000,
            },
            work: Work {
                lease: Duration::from_secs(30),
                reap_interval: Duration::from_secs(5),
                reconcile_interval: Duration::from_secs(15),
            },
            watch: cache::watch::Settings::default(),
            webhooks: Webhooks { reach: Reach::Public, timeout: Duration::from_secs(15), secrets: Arc::default() },
            retention: retention::Settings {
                generation_jobs: None,
                internal_jobs: Some(Duration::from_secs(30 * DAY)),
                interval: Duration::from_secs(15),
            },
            erasures: erasures::Settings { interval: Duration::from_secs(15), batch: 500 },
        }
    }

    /// Reads every setting.
    ///
    /// # Errors
    /// One sentence about the first that is missing or wrong.
    pub fn read(source: &Source) -> Result<Self, Error> {
        let Self { internal_keys, database, generations, work, webhooks, retention, erasures, .. } = Self::new(
            source
                .required::<String>("RUSHES_DATABASE_URL", "a URL such as postgres://user:password@host:5432/name")?,
            AssetUrls::read(source)?,
            InternalKeys::required(source)?,
        );
        Ok(Self {
            telemetry: telemetry::Settings::read(source)?,
            server: server::Settings::read(source)?,
            internal_keys,
            database: database.read(source)?,
            nats_url: source.optional("RUSHES_NATS_URL", "a URL such as nats://host:4222")?,
            cache: cache::Settings::read(source)?,
            generations: generations.read(source)?,
            work: work.read(source)?,
            watch: cache::watch::Settings::read(source)?,
            webhooks: Webhooks { reach: read_reach(source)?, secrets: Arc::new(read_secrets(source)?), ..webhooks },
            retention: retention::Settings {
                generation_jobs: read_days(source, "RUSHES_RETENTION_GENERATION_JOBS", retention.generation_jobs)?,
                internal_jobs: read_days(source, "RUSHES_RETENTION_INTERNAL_JOBS", retention.internal_jobs)?,
                ..retention
            },
            erasures: erasures::Settings {
                interval: source.interval("RUSHES_ERASURE_INTERVAL", erasures.interval)?,
                ..erasures
            },
        })
    }

    /// Tries the database that the settings name.
    ///
    /// # Errors
    /// One sentence about what somebody has to change; what is only away is no error.
    pub async fn check(&self) -> anyhow::Result<()> {
        chassis::postgres::check(&self.database.url).await?;
        if let Some(url) = &self.nats_url {
            chassis::nats::check(url).await?;
        }
        self.cache.check().await?;
        Ok(())
    }
}

impl Database {
    fn read(self, source: &Source) -> Result<Self, Error> {
        Ok(Self {
            read: PoolSettings::read(source, "RUSHES_POOL_READ", self.read)?,
            write: PoolSettings::read(source, "RUSHES_POOL_WRITE", self.write)?,
            claim: PoolSettings::read(source, "RUSHES_POOL_CLAIM", self.claim)?,
            finalize: PoolSettings::read(source, "RUSHES_POOL_FINALIZE", self.finalize)?,
            reaper: PoolSettings::read(source, "RUSHES_POOL_REAPER", self.reaper)?,
            webhook: PoolSettings::read(source, "RUSHES_POOL_WEBHOOK", self.webhook)?,
            ..self
        })
    }
}

impl Generations {
    fn read(self, source: &Source) -> Result<Self, Error> {
        Ok(Self {
            catalogue: read_catalogue(source)?,
            account_running: read_count(source, "RUSHES_ACCOUNT_RUNNING", self.account_running)?,
            account_open: read_count(source, "RUSHES_ACCOUNT_OPEN", self.account_open)?,
            ..self
        })
    }
}

impl Work {
    fn read(self, source: &Source) -> Result<Self, Error> {
        Ok(Self {
            lease: source.interval("RUSHES_LEASE", self.lease)?,
            reap_interval: source.interval("RUSHES_REAP_INTERVAL", self.reap_interval)?,
            reconcile_interval: source.interval("RUSHES_RECONCILE_INTERVAL", self.reconcile_interval)?,
        })
    }
}

fn read_catalogue(source: &Source) -> Result<LiveCatalogue, Error> {
    let what = "a TOML file of models";
    let Some(path) = source.optional::<PathBuf>("RUSHES_MODELS", what)? else { return Ok(LiveCatalogue::built_in()) };
    let wrong = |why| Error::wrong("RUSHES_MODELS", &format!("{what}; {} is none: {why}", path.display()));
    LiveCatalogue::open(path.clone()).map_err(wrong)
}

fn read_reach(source: &Source) -> Result<Reach, Error> {
    let should = "public, or anywhere for local stacks and tests";
    match source.optional::<String>("RUSHES_WEBHOOK_REACH", should)?.as_deref() {
        None | Some("public") => Ok(Reach::Public),
        Some("anywhere") => Ok(Reach::Anywhere),
        Some(_) => Err(Error::wrong("RUSHES_WEBHOOK_REACH", should)),
    }
}

fn read_secrets(source: &Source) -> Result<SecretKeys, Error> {
    let should = "32 or more random characters; with commas between several while they change";
    match source.optional::<String>("RUSHES_SECRETS_KEYS", should)? {
        None => Ok(SecretKeys::default()),
        Some(keys) => SecretKeys::parse(&keys).ok_or_else(|| Error::wrong("RUSHES_SECRETS_KEYS", should)),
    }
}

fn read_count(source: &Source, name: &'static str, default: i32) -> Result<i32, Error> {
    let count = source.optional::<i32>(name, "a whole number more than 0")?.unwrap_or(default);
    if count > 0 { Ok(count) } else { Err(Error::wrong(name, "a whole number more than 0")) }
}

/// A number of days, at least one; 0 is for ever.
fn read_days(source: &Source, name: &'static str, default: Option<Duration>) -> Result<Option<Duration>, Error> {
    let days = source.optional::<u32>(name, "a number of days, or 0 to keep them for ever")?;
    Ok(days.map_or(default, |days| (days > 0).then(|| Duration::from_secs(u64::from(days) * DAY))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_variable_that_is_missing_or_wrong() {
        let set = [
            ("RUSHES_DATABASE_URL", "postgres://h/d"),
            ("RUSHES_PUBLIC_URL", "http://h"),
            ("RUSHES_INTERNAL_KEYS", "0123456789abcdef0123456789abcdef"),
        ];
        assert!(Config::read(&Source::of(&set)).is_ok());
        for at in 0..set.len() {
            let mut rest = set.to_vec();
            let (name, _) = rest.remove(at);
            let error = Config::read(&Source::of(&rest)).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
        for (name, value) in [
            ("RUSHES_LEASE", "0s"),
            ("RUSHES_REAP_INTERVAL", "soon"),
            ("RUSHES_POOL_READ_MAX", "0"),
            ("RUSHES_ACCOUNT_RUNNING", "0"),
            ("RUSHES_ACCOUNT_OPEN", "many"),
            ("RUSHES_WATCH_HEARTBEAT", "0s"),
            ("RUSHES_WEBHOOK_REACH", "private"),
            ("RUSHES_SECRETS_KEYS", "short"),
            ("RUSHES_MODELS", "/dev/null"),
            ("RUSHES_MODELS", "/nowhere"),
        ] {
            let error = Config::read(&Source::of(&[set[0], set[1], set[2], (name, value)])).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }

    /// Such a file used to stop the worker, which makes the model's videos, and not the service that sells them.
    #[test]
    fn a_catalogue_that_is_wrong_in_any_field_is_refused() {
        let path = std::env::temp_dir().join(format!("rushes-status-models-{}.json", std::process::id()));
        let whole = r#"{"models": [{"id": "one", "provider": "fal", "model": "a/b", "price_micros": 1}]}"#;
        for (json, named) in [
            (whole.to_owned(), ""),
            (whole.replace("price_micros", "prize_micros"), "prize_micros"),
            (whole.replace("one", "One"), "id must be"),
            (whole.replace("a/b", "a"), "model must be"),
        ] {
            std::fs::write(&path, json).unwrap();
            let set = [
                ("RUSHES_DATABASE_URL", "postgres://h/d"),
                ("RUSHES_PUBLIC_URL", "http://h"),
                ("RUSHES_ASSET_URLS", "public"),
                ("RUSHES_INTERNAL_KEYS", "0123456789abcdef0123456789abcdef"),
            ];
            let source = Source::of(&[&set[..], &[("RUSHES_MODELS", path.to_str().unwrap())]].concat());
            let read = Config::read(&source).map_err(|error| error.to_string());
            assert_eq!(read.is_ok(), named.is_empty(), "{named}");
            let error = read.err().unwrap_or_default();
            assert!(error.contains(named) && error.is_empty() == named.is_empty(), "{named}: {error}");
        }
        std::fs::remove_file(path).unwrap();
    }
}
