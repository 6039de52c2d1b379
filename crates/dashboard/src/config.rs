//! The service's settings, one struct for each subsystem, read once at the start. A wrong one is an error that names its
//! variable; the README lists them.

use std::time::Duration;

use chassis::keyring::InternalKeys;
use chassis::links::AssetUrls;
use chassis::postgres::PoolSettings;
use chassis::settings::{Error, Source};
use chassis::{server, telemetry};
use url::Url;

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
    /// Redis and the process's own memory.
    pub cache: cache::Settings,
    /// NATS, which only shortens waiting: without it other processes' changes come by the cache's other ways.
    pub nats_url: Option<String>,
    /// How dashboards are read and presented.
    pub dashboards: Dashboards,
    /// Heartbeats and ages of watches.
    pub watch: cache::watch::Settings,
    /// How accounts are erased.
    pub erasures: Erasures,
}

/// PostgreSQL, with one pool per workload, so that neither starves the other.
#[derive(Clone, Debug)]
pub struct Database {
    /// `postgres://user:password@host:5432/name`.
    pub url: Url,
    /// Reads that users wait for.
    pub read: PoolSettings,
    /// Writes.
    pub write: PoolSettings,
}

/// How dashboards are read and presented.
#[derive(Clone, Debug)]
pub struct Dashboards {
    /// The addresses of pictures.
    pub assets: AssetUrls,
    /// How long one section may take when the sections are read one by one.
    pub section_timeout: Duration,
}

/// How accounts are erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Erasures {
    /// The pause between two searches for accounts to erase.
    pub interval: Duration,
    /// How many rows one batch deletes of a table.
    pub batch: u32,
}

impl Config {
    /// Reads every setting.
    ///
    /// # Errors
    /// One sentence about the first that is missing or wrong.
    pub fn read(source: &Source) -> Result<Self, Error> {
        let section_timeout = "how long one section of a dashboard may take";
        Ok(Self {
            telemetry: telemetry::Settings::read(source)?,
            server: server::Settings::read(source)?,
            internal_keys: InternalKeys::required(source)?,
            database: Database::read(source)?,
            cache: cache::Settings::read(source)?,
            nats_url: source.optional("RUSHES_NATS_URL", "a URL such as nats://host:4222")?,
            dashboards: Dashboards {
                assets: AssetUrls::read(source)?,
                section_timeout: source.duration(
                    "RUSHES_SECTION_TIMEOUT",
                    Duration::from_millis(500),
                    section_timeout,
                )?,
            },
            watch: cache::watch::Settings::read(source)?,
            erasures: Erasures {
                interval: source.interval("RUSHES_ERASURE_INTERVAL", Duration::from_secs(15))?,
                batch: 500,
            },
        })
    }

    /// Tries the database that the settings name.
    ///
    /// # Errors
    /// One sentence about what somebody has to change; what is only away is no error.
    pub async fn check(&self) -> anyhow::Result<()> {
        chassis::postgres::check(self.database.url.as_str()).await?;
        if let Some(url) = &self.nats_url {
            chassis::nats::check(url).await?;
        }
        self.cache.check().await?;
        Ok(())
    }
}

impl Database {
    fn read(source: &Source) -> Result<Self, Error> {
        let url = source.required("RUSHES_DATABASE_URL", "a URL such as postgres://user:password@host:5432/name")?;
        // The read pool's longest statement and the timeout of a section together stay below the default deadline of 2 s, so
        // that a dashboard of which one section hangs is still answered.
        let read = PoolSettings { statement: Duration::from_secs(1), ..PoolSettings::default() };
        let write = PoolSettings { min: 1, max: 10, statement: Duration::from_secs(5), ..PoolSettings::default() };
        Ok(Self {
            url,
            read: PoolSettings::read(source, "RUSHES_POOL_READ", read)?,
            write: PoolSettings::read(source, "RUSHES_POOL_WRITE", write)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_setting_is_named() {
        let set = [
            ("RUSHES_INTERNAL_KEYS", "0123456789abcdef0123456789abcdef"),
            ("RUSHES_DATABASE_URL", "postgres://localhost/rushes"),
            ("RUSHES_PUBLIC_URL", "https://rushes.test"),
        ];
        assert!(Config::read(&Source::of(&set)).is_ok());
        for at in 0..set.len() {
            let mut rest = set.to_vec();
            let (name, _) = rest.remove(at);
            let error = Config::read(&Source::of(&rest)).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }

    #[test]
    fn each_pool_has_settings_of_its_own() {
        let source = Source::of(&[
            ("RUSHES_DATABASE_URL", "postgres://localhost/rushes"),
            ("RUSHES_PUBLIC_URL", "https://rushes.test"),
            ("RUSHES_INTERNAL_KEYS", "0123456789abcdef0123456789abcdef"),
            ("RUSHES_ASSET_URLS", "public"),
            ("RUSHES_POOL_READ_MAX", "7"),
            ("RUSHES_POOL_WRITE_STATEMENT", "3s"),
        ]);
        let Database { read, write, .. } = Config::read(&source).unwrap().database;
        assert_eq!((read.max, read.statement), (7, Duration::from_secs(1)));
        assert_eq!((write.max, write.statement), (10, Duration::from_secs(3)));
    }
}
