//! The gateway's settings, one struct for each subsystem, read once at the start. A wrong one is an error that names its
//! variable; the README lists them.

use std::{str::FromStr, time::Duration};

use chassis::{
    blobs,
    keyring::InternalKeys,
    links::AssetAccess,
    server,
    settings::{Error, Source},
    telemetry,
};
use http::{HeaderValue, Uri};

use crate::limits;

/// The watches that an account has open at a time unless a setting says otherwise.
const MAX_WATCHES: usize = 1_000;

/// The answers with an asset that are sent at a time unless a setting says otherwise: each may hold an open file.
const MAX_ASSET_ANSWERS: usize = 512;
/// Those of one address. A browser asks for at most a hundred things over one connection.
const MAX_ASSET_ANSWERS_PER_ADDRESS: usize = 128;

/// Everything that the process reads from its environment.
#[derive(Clone, Debug)]
pub struct Config {
    /// Logs and traces.
    pub telemetry: telemetry::Settings,
    /// The public port and the admin port.
    pub server: server::Settings,
    /// The services behind.
    pub upstreams: Upstreams,
    /// Where assets are read from.
    pub blobs: blobs::Settings,
    /// The web pages that may call from a browser.
    pub origins: Origins,
    /// How long an answer about an API key is acted on without asking again.
    pub key_lifetime: Duration,
    /// How many watches one account has open at a time through this gateway.
    pub max_watches: usize,
    /// What accounts and keys may ask for.
    pub limits: limits::Settings,
    /// NATS, over which changes of keys come before that time is over; without it they take effect after that time.
    pub nats_url: Option<String>,
    /// What is asked of an asset's address.
    pub assets: AssetAccess,
    /// What the services sign with: who calls, links for models' providers, and tokens of callers' own writes.
    pub internal_keys: InternalKeys,
    /// What the public port grants.
    pub door: server::Door,
    /// How many answers with an asset are sent at a time.
    pub max_asset_answers: usize,
    /// How many of them go to one address.
    pub max_asset_answers_per_address: usize,
    /// The names of the messages of changes, and the size of what is kept here; see the cache's own settings.
    pub cache: cache::Settings,
    /// Whether answers are kept here.
    pub cache_answers: bool,
}

/// Where the services behind the gateway answer.
#[derive(Clone, Debug)]
pub struct Upstreams {
    /// Projects, scenes, dashboards.
    pub dashboard: Uri,
    /// Accounts and their keys: the internal door of the same service.
    pub dashboard_internal: Uri,
    /// Generations and credits.
    pub generation_status: Uri,
    /// Assets and thumbnails.
    pub thumbnail_worker: Uri,
    /// Providers' webhooks, an internal door; without it there is no address for them.
    pub generation_worker_internal: Option<Uri>,
}

/// The origins that a browser may call from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Every one. No cookie authenticates anything here, so a foreign page gains nothing.
    Any,
    /// These alone, such as `https://app.example.com`.
    Only(Vec<HeaderValue>),
}

impl FromStr for Origins {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text.trim() == "*" {
            return Ok(Self::Any);
        }
        let origin = |text: &str| {
            let uri: Uri = text.trim().parse().map_err(|_| ())?;
            match (uri.scheme_str(), uri.authority(), uri.path()) {
                (Some(scheme), Some(authority), "/") => {
                    HeaderValue::try_from(format!("{scheme}://{authority}")).map_err(|_| ())
                }
                _ => Err(()),
            }
        };
        text.split(',').map(origin).collect::<Result<_, _>>().map(Self::Only)
    }
}

impl Config {
    /// Reads every setting.
    ///
    /// # Errors
    /// One sentence about the first that is missing or wrong.
    pub fn read(source: &Source) -> Result<Self, Error> {
        let url = "a URL such as http://127.0.0.1:8080";
        let internal = "a URL such as http://127.0.0.1:8081";
        let origins = "* or a list such as https://app.example.com,https://studio.example.com";
        let nats_url = source.optional("RUSHES_NATS_URL", "a URL such as nats://127.0.0.1:4222")?;
        let cache_answers = source.or("RUSHES_CACHE_ANSWERS", false, "true or false")?;
        if cache_answers && nats_url.is_none() {
            return Err(Error::wrong(
                "RUSHES_CACHE_ANSWERS",
                "false without RUSHES_NATS_URL, since nothing proves then what is kept",
            ));
        }
        Ok(Self {
            telemetry: telemetry::Settings::read(source)?,
            server: server::Settings::read(source)?,
            upstreams: Upstreams {
                dashboard: source.required("RUSHES_DASHBOARD_URL", url)?,
                dashboard_internal: source.required("RUSHES_DASHBOARD_INTERNAL_URL", internal)?,
                generation_status: source.required("RUSHES_GENERATION_STATUS_URL", url)?,
                thumbnail_worker: source.required("RUSHES_THUMBNAIL_WORKER_URL", url)?,
                generation_worker_internal: source.optional("RUSHES_GENERATION_WORKER_INTERNAL_URL", internal)?,
            },
            blobs: blobs::Settings::read(source)?,
            origins: source.or("RUSHES_CORS_ORIGINS", Origins::Any, origins)?,
            key_lifetime: source.duration("RUSHES_KEY_LIFETIME", Duration::from_secs(1), "a time")?,
            max_watches: source.or("RUSHES_MAX_WATCHES_PER_ACCOUNT", MAX_WATCHES, "a number of watches")?,
            limits: limits::Settings::read(source)?,
            nats_url,
            assets: AssetAccess::read(source)?,
            internal_keys: InternalKeys::required(source)?,
            door: server::Door::read(source)?,
            max_asset_answers: source.or("RUSHES_MAX_ASSET_ANSWERS", MAX_ASSET_ANSWERS, "a number of answers")?,
            max_asset_answers_per_address: source.or(
                "RUSHES_MAX_ASSET_ANSWERS_PER_ADDRESS",
                MAX_ASSET_ANSWERS_PER_ADDRESS,
                "a number of answers",
            )?,
            cache: cache::Settings::read(source)?,
            cache_answers,
        })
    }

    /// Tries the object storage that the settings name.
    ///
    /// # Errors
    /// One sentence about what somebody has to change; what is only away is no error.
    pub async fn check(&self) -> anyhow::Result<()> {
        chassis::blobs::Store::open(&self.blobs)?.check(chassis::blobs::Access::Read).await?;
        if let Some(url) = &self.nats_url {
            chassis::nats::check(url).await?;
        }
        self.cache.check().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: &[(&str, &str)] = &[
        ("RUSHES_DASHBOARD_URL", "http://127.0.0.1:1"),
        ("RUSHES_DASHBOARD_INTERNAL_URL", "http://127.0.0.1:4"),
        ("RUSHES_GENERATION_STATUS_URL", "http://127.0.0.1:2"),
        ("RUSHES_THUMBNAIL_WORKER_URL", "http://127.0.0.1:3"),
        ("RUSHES_BLOBS_URL", "file:///tmp/x"),
        ("RUSHES_INTERNAL_KEYS", "0123456789abcdef0123456789abcdef"),
    ];

    #[test]
    fn each_required_setting_is_named_when_it_is_missing() {
        assert!(Config::read(&Source::of(SET)).is_ok());
        for at in 0..SET.len() {
            let mut rest = SET.to_vec();
            let (name, _) = rest.remove(at);
            let error = Config::read(&Source::of(&rest)).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }

    #[test]
    fn nothing_is_kept_without_messages_of_changes() {
        let with = |more: &[(&'static str, &'static str)]| Config::read(&Source::of(&[SET, more].concat()));
        let error = with(&[("RUSHES_CACHE_ANSWERS", "true")]).unwrap_err().to_string();
        assert!(error.starts_with("RUSHES_CACHE_ANSWERS") && error.contains("RUSHES_NATS_URL"), "{error}");
        let config = with(&[("RUSHES_CACHE_ANSWERS", "true"), ("RUSHES_NATS_URL", "nats://127.0.0.1:1")]);
        assert!(config.unwrap().cache_answers);
        assert!(!with(&[]).unwrap().cache_answers);
    }

    #[test]
    fn origins_are_a_star_or_a_list() {
        assert_eq!("*".parse(), Ok(Origins::Any));
        let two = Origins::Only(vec![
            HeaderValue::from_static("https://a.example"),
            HeaderValue::from_static("http://localhost:3000"),
        ]);
        assert_eq!("https://a.example, http://localhost:3000".parse(), Ok(two));
        for wrong in ["a.example", "https://a.example/path", "https://a.example,,"] {
            assert_eq!(wrong.parse::<Origins>(), Err(()), "{wrong}");
        }
    }
}
