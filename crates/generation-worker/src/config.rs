//! The worker's settings, one struct for each subsystem, read once at the start. A wrong one is named with what it should be.

mod provider_key;

use std::collections::BTreeMap;
use std::time::Duration;

use chassis::keyring::InternalKeys;
use chassis::links::FetchLinks;
use chassis::settings::{Error, Source};
use chassis::{blobs, server, telemetry};
use domain::provider::Provider;
use http::{HeaderValue, Uri};
use ring::hmac;
use url::Url;

pub use self::provider_key::ProviderKey;
use crate::hook_addresses::HookAddresses;
use crate::signatures;

/// All that the process needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Logs and traces.
    pub telemetry: telemetry::Settings,
    /// The internal port, for webhooks that the gateway passes on, and the admin port.
    pub server: server::Settings,
    /// What callers show and what this service shows: the keys that all services share.
    pub internal_keys: InternalKeys,
    /// The services beside this one.
    pub upstreams: Upstreams,
    /// Object storage.
    pub blobs: blobs::Settings,
    /// How work is claimed and carried out.
    pub work: Work,
    /// How outputs are downloaded.
    pub downloads: Downloads,
    /// The links by which providers fetch inputs, where there are any.
    pub links: Option<FetchLinks>,
    /// Where webhooks reach us; nothing: none are asked for, and none are taken.
    pub hooks: Option<HookAddresses>,
    /// The built-in provider.
    pub local: Local,
    /// Replicate, where there is a token for it.
    pub replicate: Option<Replicate>,
    /// fal, where there is a key for it.
    pub fal: Option<Fal>,
    /// OpenRouter, where there is a key for it.
    pub openrouter: Option<OpenRouter>,
    /// Boxes of one's own that speak Cog's predictions, by their names.
    pub cog: BTreeMap<String, CogBox>,
}

/// The internal doors of the services beside this one.
#[derive(Clone, Debug)]
pub struct Upstreams {
    /// Where work comes from.
    pub generation_status: Uri,
    /// Who makes posters.
    pub thumbnail_worker: Uri,
}

/// How work is claimed and carried out.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Generations that are worked on at one time.
    pub slots: u32,
    /// How often leases are prolonged.
    pub heartbeat: Duration,
    /// How long a provider may take for one order.
    pub order_timeout: Duration,
}

/// How outputs are downloaded.
#[derive(Clone, Copy, Debug)]
pub struct Downloads {
    /// Downloads at one time.
    pub slots: usize,
    /// How long one may take in all.
    pub timeout: Duration,
    /// The longest video that is stored, in bytes.
    pub max_video_bytes: u64,
    /// The memory that all downloads of a process may take, in bytes.
    pub memory_bytes: u64,
}

/// The built-in provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// The shortest time that a sketch takes, so that its progress can be watched.
    pub pace: Duration,
    /// Sketches that are drawn at one time.
    pub threads: usize,
}

/// Replicate.
#[derive(Clone, Debug)]
pub struct Replicate {
    /// The API, `https://api.replicate.com/v1`.
    pub url: Url,
    /// The tokens, at least one.
    pub keys: Vec<ProviderKey>,
    /// Where webhooks reach us; nothing: none are asked for.
    pub hooks: Option<HookAddresses>,
    /// What webhooks are signed with; more than one while they change.
    pub secrets: Vec<hmac::Key>,
}

/// fal.
#[derive(Clone, Debug)]
pub struct Fal {
    /// The queue, `https://queue.fal.run`.
    pub url: Url,
    /// The keys, at least one.
    pub keys: Vec<ProviderKey>,
    /// Where webhooks reach us; nothing: none are asked for.
    pub hooks: Option<HookAddresses>,
    /// Our user ids at fal, of which its webhooks must name one.
    pub users: Vec<String>,
    /// Where the keys are that webhooks are signed with.
    pub key_set: Url,
    /// The API of its storage, `https://rest.fal.ai`.
    pub rest_url: Url,
    /// The API that has prices, `https://api.fal.ai/v1`.
    pub api_url: Url,
}

/// OpenRouter.
#[derive(Clone, Debug)]
pub struct OpenRouter {
    /// The API, `https://openrouter.ai/api/v1`.
    pub url: Url,
    /// The keys, at least one.
    pub keys: Vec<ProviderKey>,
}

/// A box that speaks Cog's predictions.
#[derive(Clone, Debug)]
pub struct CogBox {
    /// Its address; predictions are at `{it}/predictions`.
    pub url: Url,
    /// `Bearer` and the token, marked as sensitive; nothing: it asks for none.
    pub authorization: Option<HeaderValue>,
}

impl Config {
    /// Reads every setting.
    ///
    /// # Errors
    /// One sentence about the first that is missing or wrong.
    pub fn read(source: &Source) -> Result<Self, Error> {
        let hooks = read_hooks(source)?;
        Ok(Self {
            telemetry: telemetry::Settings::read(source)?,
            server: server::Settings::read(source)?,
            internal_keys: InternalKeys::required(source)?,
            upstreams: Upstreams::read(source)?,
            blobs: blobs::Settings::read(source)?,
            work: Work::read(source)?,
            downloads: Downloads::read(source)?,
            links: FetchLinks::read(source)?,
            hooks: hooks.clone(),
            local: Local::read(source)?,
            replicate: Replicate::read(source, hooks.as_ref())?,
            fal: Fal::read(source, hooks.as_ref())?,
            openrouter: OpenRouter::read(source)?,
            cog: CogBox::read_all(source)?,
        })
    }

    /// Tries the object storage that the settings name.
    ///
    /// # Errors
    /// One sentence about what somebody has to change; what is only away is no error.
    pub async fn check(&self) -> anyhow::Result<()> {
        chassis::blobs::Store::open(&self.blobs)?.check(chassis::blobs::Access::Write).await?;
        Ok(())
    }
}

impl Upstreams {
    fn read(source: &Source) -> Result<Self, Error> {
        let url = "a URL, http://host:8081";
        Ok(Self {
            generation_status: source.required("RUSHES_GENERATION_STATUS_INTERNAL_URL", url)?,
            thumbnail_worker: source.required("RUSHES_THUMBNAIL_WORKER_INTERNAL_URL", url)?,
        })
    }
}

impl Work {
    fn read(source: &Source) -> Result<Self, Error> {
        Ok(Self {
            slots: source.or("RUSHES_WORKER_SLOTS", 4, "how many generations are worked on at one time")?,
            heartbeat: source.duration("RUSHES_HEARTBEAT", Duration::from_secs(10), "a time")?,
            order_timeout: source.duration("RUSHES_ORDER_LIMIT", Duration::from_secs(1_800), "a time")?,
        })
    }
}

impl Downloads {
    fn read(source: &Source) -> Result<Self, Error> {
        let max_video_bytes = source.or("RUSHES_VIDEO_MAX_BYTES", 256 << 20, "a number of bytes")?;
        Ok(Self {
            slots: source.or("RUSHES_DOWNLOAD_SLOTS", 16, "how many outputs are downloaded at one time")?,
            timeout: source.duration("RUSHES_DOWNLOAD_TIMEOUT", Duration::from_secs(900), "a time")?,
            max_video_bytes,
            memory_bytes: source.or("RUSHES_DOWNLOAD_MEMORY", 2 * max_video_bytes, "a number of bytes")?,
        })
    }
}

impl Local {
    fn read(source: &Source) -> Result<Self, Error> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let seconds = "a number of seconds, from 0 to 600";
        let pace: f64 = source.or("RUSHES_LOCAL_PACE", 4.0, seconds)?;
        if !(0.0..=600.0).contains(&pace) {
            return Err(Error::wrong("RUSHES_LOCAL_PACE", seconds));
        }
        Ok(Self {
            pace: Duration::from_secs_f64(pace),
            threads: source.or("RUSHES_LOCAL_THREADS", cores, "a number of threads")?,
        })
    }
}

impl Replicate {
    fn read(source: &Source, hooks: Option<&HookAddresses>) -> Result<Option<Self>, Error> {
        let keys = ProviderKey::read_all(source, "RUSHES_REPLICATE_TOKEN", Provider::Replicate, "Bearer")?;
        if keys.is_empty() {
            return Ok(None);
        }
        let (name, expected) = ("RUSHES_REPLICATE_WEBHOOK_SECRETS", "whsec_… and base64, with commas between several");
        let secrets: String = source.or(name, String::new(), expected)?;
        let secrets = secrets.split(',').map(str::trim).filter(|secret| !secret.is_empty());
        let secrets = secrets.map(|text| signatures::parse_secret(text).ok_or_else(|| Error::wrong(name, expected)));
        let secrets = secrets.collect::<Result<Vec<_>, _>>()?;
        if hooks.is_some() && secrets.is_empty() {
            let should = "set where RUSHES_HOOKS_URL and RUSHES_REPLICATE_TOKEN are: without it no webhook of Replicate can be verified";
            return Err(Error::wrong(name, should));
        }
        Ok(Some(Self {
            url: read_url(source, "RUSHES_REPLICATE_URL", "https://api.replicate.com/v1")?,
            keys,
            hooks: hooks.cloned(),
            secrets,
        }))
    }
}

impl Fal {
    fn read(source: &Source, hooks: Option<&HookAddresses>) -> Result<Option<Self>, Error> {
        let keys = ProviderKey::read_all(source, "RUSHES_FAL_KEY", Provider::Fal, "Key")?;
        if keys.is_empty() {
            return Ok(None);
        }
        let should = "the user id of the account at fal, with commas between those of several accounts, where RUSHES_HOOKS_URL and RUSHES_FAL_KEY are: fal signs webhooks of all users alike";
        let users = source.optional::<String>("RUSHES_FAL_USER_ID", should)?.unwrap_or_default();
        let users = users.split(',').map(str::trim).filter(|user| !user.is_empty());
        let users: Vec<String> = users.map(str::to_owned).collect();
        if hooks.is_some() && users.is_empty() {
            return Err(Error::wrong("RUSHES_FAL_USER_ID", should));
        }
        Ok(Some(Self {
            url: read_url(source, "RUSHES_FAL_URL", "https://queue.fal.run")?,
            keys,
            hooks: hooks.cloned(),
            users,
            key_set: read_url(source, "RUSHES_FAL_JWKS_URL", "https://rest.fal.ai/.well-known/jwks.json")?,
            rest_url: read_url(source, "RUSHES_FAL_REST_URL", "https://rest.fal.ai")?,
            api_url: read_url(source, "RUSHES_FAL_API_URL", "https://api.fal.ai/v1")?,
        }))
    }
}

impl OpenRouter {
    fn read(source: &Source) -> Result<Option<Self>, Error> {
        let keys = ProviderKey::read_all(source, "RUSHES_OPENROUTER_KEY", Provider::OpenRouter, "Bearer")?;
        if keys.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self { url: read_url(source, "RUSHES_OPENROUTER_URL", "https://openrouter.ai/api/v1")?, keys }))
    }
}

impl CogBox {
    /// `RUSHES_COG_URL` is a box that needs no name, `RUSHES_COG_URL_{NAME}` one called so, in lower case and with hyphens; each may
    /// have `RUSHES_COG_TOKEN` or `RUSHES_COG_TOKEN_{NAME}` beside it.
    fn read_all(source: &Source) -> Result<BTreeMap<String, Self>, Error> {
        const URL: &str = "RUSHES_COG_URL";
        const TOKEN: &str = "RUSHES_COG_TOKEN";
        let what = "the address of a box that speaks Cog's predictions, http://host:5000";
        let mut boxes = BTreeMap::new();
        for (setting, text) in source.starting(URL) {
            let setting = setting.to_ascii_uppercase();
            let suffix = setting.strip_prefix(URL).unwrap_or_default();
            let is_name = suffix.is_empty() || (suffix.starts_with('_') && suffix.len() > 1);
            let url = Url::parse(text.trim()).ok().filter(|url| is_name && url.has_host());
            let url = url.filter(|url| matches!(url.scheme(), "http" | "https"));
            let url = url.ok_or_else(|| Error::wrong(&setting, what))?;
            let token = format!("{TOKEN}{suffix}");
            let authorization = source.optional::<String>(&token, "a token")?;
            let authorization = authorization.map(|text| parse_authorization(&token, "Bearer", &text)).transpose()?;
            let name = suffix.trim_start_matches('_').to_ascii_lowercase().replace('_', "-");
            boxes.insert(name, Self { url, authorization });
        }
        Ok(boxes)
    }
}

/// Where webhooks reach us, with the keys that bind an address to its job.
fn read_hooks(source: &Source) -> Result<Option<HookAddresses>, Error> {
    let Some(url) = source.optional::<Url>("RUSHES_HOOKS_URL", "a URL, https://host/hooks")? else { return Ok(None) };
    Ok(Some(HookAddresses::new(url, &InternalKeys::required(source)?)))
}

fn read_url(source: &Source, name: &str, default: &str) -> Result<Url, Error> {
    source.or(name, Url::parse(default).map_err(|_| Error::wrong(name, "a URL"))?, "a URL")
}

/// A credential as a header that is not shown when it is printed.
fn parse_authorization(name: &str, scheme: &str, credential: &str) -> Result<HeaderValue, Error> {
    let value = HeaderValue::from_str(&format!("{scheme} {}", credential.trim()));
    let mut value = value.map_err(|_| Error::wrong(name, "printable, in one line"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDED: [(&str, &str); 4] = [
        ("RUSHES_GENERATION_STATUS_INTERNAL_URL", "http://127.0.0.1:1"),
        ("RUSHES_THUMBNAIL_WORKER_INTERNAL_URL", "http://127.0.0.1:2"),
        ("RUSHES_INTERNAL_KEYS", "test-test-test-test-test-test-test"),
        ("RUSHES_BLOBS_URL", "file:///tmp/blobs"),
    ];

    fn read(more: &[(&str, &str)]) -> Result<Config, Error> {
        Config::read(&Source::of(&[&NEEDED[..], more].concat()))
    }

    #[test]
    fn a_provider_without_a_key_is_off() {
        let config = read(&[]).unwrap();
        assert!(config.replicate.is_none() && config.fal.is_none());
    }

    #[test]
    fn what_every_worker_needs_is_named_when_it_is_missing() {
        for at in 0..NEEDED.len() {
            let mut rest = NEEDED.to_vec();
            let (name, _) = rest.remove(at);
            let error = Config::read(&Source::of(&rest)).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }

    #[test]
    fn keys_are_not_printed() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let given = [
            ("RUSHES_REPLICATE_TOKEN", "r8-hidden"),
            ("RUSHES_FAL_KEY", "fal-hidden"),
            ("RUSHES_REPLICATE_WEBHOOK_SECRETS", secret),
        ];
        let config = read(&given).unwrap();
        let printed = format!("{config:?}");
        assert!(!printed.contains("hidden") && !printed.contains("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), "{printed}");
        assert_eq!(config.replicate.unwrap().keys[0].authorization, "Bearer r8-hidden");
        assert_eq!(config.fal.unwrap().keys[0].authorization, "Key fal-hidden");
    }

    #[test]
    fn webhooks_that_nobody_could_verify_are_not_asked_for() {
        let (hooks, token) = (("RUSHES_HOOKS_URL", "https://rushes.example/hooks"), ("RUSHES_REPLICATE_TOKEN", "r8"));
        let secret = ("RUSHES_REPLICATE_WEBHOOK_SECRETS", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let error = read(&[hooks, token]).unwrap_err().to_string();
        assert!(error.starts_with("RUSHES_REPLICATE_WEBHOOK_SECRETS should be set"), "{error}");
        assert!(read(&[hooks, token, secret]).is_ok() && read(&[token]).is_ok());
        // fal signs with keys of its own, for all of its users.
        let fal = ("RUSHES_FAL_KEY", "key");
        let error = read(&[hooks, fal]).unwrap_err().to_string();
        assert!(error.starts_with("RUSHES_FAL_USER_ID should be"), "{error}");
        assert!(read(&[hooks, fal, ("RUSHES_FAL_USER_ID", "user-1")]).is_ok() && read(&[fal]).is_ok());
    }

    #[test]
    fn boxes_have_names_addresses_and_perhaps_tokens() {
        let config = read(&[
            ("RUSHES_COG_URL", "http://10.0.0.7:5000"),
            ("RUSHES_COG_URL_BIG_GPU", "https://gpu.test/cog"),
            ("RUSHES_COG_TOKEN_BIG_GPU", "hidden"),
        ]);
        let boxes = config.unwrap().cog;
        assert_eq!(boxes.keys().collect::<Vec<_>>(), ["", "big-gpu"]);
        assert!(boxes[""].authorization.is_none());
        assert_eq!(boxes["big-gpu"].authorization.as_ref().unwrap(), "Bearer hidden");
        for (name, value) in
            [("RUSHES_COG_URL_GPU", "gpu"), ("RUSHES_COG_URL_", "http://a"), ("RUSHES_COG_URL", "ftp://a")]
        {
            let error = read(&[(name, value)]).unwrap_err().to_string();
            assert!(error.starts_with(name), "{error}");
        }
    }

    #[test]
    fn a_wrong_setting_is_named_and_its_value_is_not() {
        for (name, value) in [("RUSHES_REPLICATE_WEBHOOK_SECRETS", "hidden"), ("RUSHES_REPLICATE_URL", "hidden")] {
            let error = read(&[("RUSHES_REPLICATE_TOKEN", "r8"), (name, value)]).unwrap_err().to_string();
            assert!(error.contains(name) && !error.contains("hidden"), "{error}");
        }
    }
}
