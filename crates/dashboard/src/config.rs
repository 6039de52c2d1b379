//! The service's settings, read once at the start. The README lists them.

use std::time::Duration;

use chassis::postgres::PoolSettings;
use chassis::settings::{Error, Source};
use chassis::{server, telemetry};
use url::Url;

/// All that the service needs to know before it binds its ports.
#[derive(Clone, Debug)]
pub struct Config {
    /// Logs and traces.
    pub telemetry: telemetry::Settings,
    /// The gRPC port and the admin port.
    pub server: server::Settings,
    /// PostgreSQL, the truth.
    pub database_url: Url,
    /// The pools.
    pub pools: Pools,
    /// Redis and what the process itself remembers.
    pub cache: cache::Settings,
    /// NATS, which brings other processes' changes sooner; without it they come by the cache's other ways.
    pub nats_url: Option<String>,
    /// Where the gateway is seen from outside; the addresses of pictures begin with it.
    pub public_url: Url,
    /// How long one section of a dashboard may take when the dashboard has to be read section by section.
    pub section_patience: Duration,
    /// How watches behave.
    pub watch: cache::watch::Settings,
}

/// The pools of connections, each for one kind of work.
#[derive(Clone, Copy, Debug)]
pub struct Pools {
    /// What users wait for and nothing changes.
    pub read: PoolSettings,
    /// What changes rows.
    pub write: PoolSettings,
}

impl Default for Pools {
    fn default() -> Self {
        Self {
            // Its longest statement and a section's patience together stay below the usual deadline of 2 s, so that a
            // dashboard of which one section hangs is still answered.
            read: PoolSettings { statement: Duration::from_secs(1), ..PoolSettings::default() },
            write: PoolSettings { min: 1, max: 10, statement: Duration::from_secs(5), ..PoolSettings::default() },
        }
    }
}

impl Config {
    /// Reads the settings that the README lists.
    ///
    /// # Errors
    /// When one is missing or cannot be read; the error names it.
    pub fn read(source: &Source) -> Result<Self, Error> {
        let pools = Pools::default();
        let public = "a URL such as https://rushes.example.com";
        Ok(Self {
            telemetry: telemetry::Settings::read(source)?,
            server: server::Settings::read(source)?,
            database_url: source
                .required("RUSHES_DATABASE_URL", "a URL such as postgres://user:password@host:5432/name")?,
            pools: Pools {
                read: PoolSettings::read(source, "RUSHES_POOL_READ", pools.read)?,
                write: PoolSettings::read(source, "RUSHES_POOL_WRITE", pools.write)?,
            },
            cache: cache::Settings::read(source)?,
            nats_url: source.optional("RUSHES_NATS_URL", "a URL such as nats://host:4222")?,
            public_url: source.required("RUSHES_PUBLIC_URL", public)?,
            section_patience: source.duration(
                "RUSHES_SECTION_TIMEOUT",
                Duration::from_millis(500),
                "how long one section of a dashboard may take",
            )?,
            watch: cache::watch::Settings::read(source)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_setting_is_named() {
        let error = Config::read(&Source::of(&[("RUSHES_PUBLIC_URL", "https://rushes.test")]));
        assert!(error.unwrap_err().to_string().starts_with("RUSHES_DATABASE_URL is not set"));
        let error = Config::read(&Source::of(&[("RUSHES_DATABASE_URL", "postgres://localhost/rushes")]));
        assert!(error.unwrap_err().to_string().starts_with("RUSHES_PUBLIC_URL is not set"));
    }

    #[test]
    fn the_pools_are_set_apart() {
        let source = Source::of(&[
            ("RUSHES_DATABASE_URL", "postgres://localhost/rushes"),
            ("RUSHES_PUBLIC_URL", "https://rushes.test"),
            ("RUSHES_POOL_READ_MAX", "7"),
            ("RUSHES_POOL_WRITE_STATEMENT", "3s"),
        ]);
        let Pools { read, write } = Config::read(&source).unwrap().pools;
        assert_eq!((read.max, read.statement), (7, Duration::from_secs(1)));
        assert_eq!((write.max, write.statement), (10, Duration::from_secs(3)));
    }
}
