//! The worker's settings, read once at the start. Each names its variable when it is wrong.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use chassis::settings::{Error, Source};
use chassis::{blobs, server, telemetry};
use http::{HeaderValue, Uri};
use serde::Deserialize;
use url::Url;

use crate::providers::{fal, replicate};

/// All that the process needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Logs and traces.
    pub telemetry: telemetry::Settings,
    /// The port for webhooks that the gateway passes on, and the admin port.
    pub server: server::Settings,
    /// What the worker itself runs with.
    pub worker: Settings,
    /// What the built-in provider runs with.
    pub local: Local,
    /// Replicate, where there is a token for it.
    pub replicate: Option<replicate::Settings>,
    /// fal, where there is a key for it.
    pub fal: Option<fal::Settings>,
    /// What the models of others are called here.
    pub models: Vec<Remote>,
}

/// A model of another's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// `models/{model}`, as the catalogue has it.
    pub name: String,
    /// Whose it is.
    pub provider: String,
    /// What it is called there.
    pub model: String,
}

/// The catalogue's file, of which a worker reads who makes what; generation-status checks the rest.
#[derive(Deserialize)]
struct Catalogue {
    models: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    provider: String,
    #[serde(default)]
    model: String,
}

impl Remote {
    /// The models of others in a catalogue.
    fn all(json: &str) -> Result<Vec<Self>, String> {
        let Catalogue { models } = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let remote = models.into_iter().enumerate().filter(|(_, entry)| entry.provider != "local");
        remote
            .map(|(at, Entry { id, provider, model })| {
                if ![replicate::NAME, fal::NAME].contains(&provider.as_str()) {
                    return Err(format!("models[{at}].provider must be local, replicate or fal"));
                }
                let mut parts = model.split('/');
                if parts.clone().count() < 2 || parts.any(str::is_empty) {
                    return Err(format!(
                        "models[{at}].model must be owner/model, owner/model:version or owner/app/endpoint"
                    ));
                }
                if id.is_empty() || id.contains('/') {
                    return Err(format!("models[{at}].id must be a name without '/'"));
                }
                Ok(Self { name: format!("models/{id}"), provider, model })
            })
            .collect()
    }
}

/// What the worker runs with; tests build it by hand.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where work comes from.
    pub generation_status: Uri,
    /// Who makes posters.
    pub thumbnail_worker: Uri,
    /// Object storage.
    pub blobs: blobs::Settings,
    /// Pieces of work that are carried out at one time.
    pub slots: u32,
    /// Longest video that is brought home, in bytes.
    pub video_bytes: u64,
    /// How long a provider may take for one order.
    pub order_limit: Duration,
    /// How often leases are prolonged.
    pub heartbeat: Duration,
}

/// What the built-in provider runs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// The least time that a sketch takes, so that its progress can be watched.
    pub pace: Duration,
    /// Sketches that are drawn at one time.
    pub threads: usize,
}

impl Config {
    /// Reads every setting.
    ///
    /// # Errors
    /// One sentence about the first that is missing or wrong.
    pub fn read(source: &Source) -> Result<Self, Error> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let seconds = "a number of seconds, from 0 to 600";
        let pace: f64 = source.or("RUSHES_LOCAL_PACE", 4.0, seconds)?;
        if !(0.0..=600.0).contains(&pace) {
            return Err(Error::wrong("RUSHES_LOCAL_PACE", seconds));
        }
        let hooks: Option<Url> = source.optional("RUSHES_HOOKS_URL", "a URL, https://host/hooks")?;
        let url = |name: &str, default: &str| {
            source.or(name, Url::parse(default).map_err(|_| Error::wrong(name, "a URL"))?, "a URL")
        };
        let replicate = match source.optional::<String>("RUSHES_REPLICATE_TOKEN", "a token")? {
            None => None,
            Some(token) => Some(replicate::Settings {
                url: url("RUSHES_REPLICATE_URL", "https://api.replicate.com/v1")?,
                authorization: authorization("RUSHES_REPLICATE_TOKEN", "Bearer", &token)?,
                hooks: hooks.clone(),
                secrets: list(source, "RUSHES_REPLICATE_WEBHOOK_SECRETS", "whsec_…, with commas between several")?
                    .iter()
                    .map(|text| {
                        replicate::secret(text)
                            .ok_or_else(|| Error::wrong("RUSHES_REPLICATE_WEBHOOK_SECRETS", "whsec_… and base64"))
                    })
                    .collect::<Result<_, _>>()?,
            }),
        };
        let fal = match source.optional::<String>("RUSHES_FAL_KEY", "a key")? {
            None => None,
            Some(key) => Some(fal::Settings {
                url: url("RUSHES_FAL_URL", "https://queue.fal.run")?,
                authorization: authorization("RUSHES_FAL_KEY", "Key", &key)?,
                hooks,
                keys: url("RUSHES_FAL_JWKS_URL", "https://rest.fal.ai/.well-known/jwks.json")?,
            }),
        };
        let models = models(source)?;
        Ok(Self {
            telemetry: telemetry::Settings::read(source)?,
            server: server::Settings::read(source)?,
            worker: Settings {
                generation_status: source.required("RUSHES_GENERATION_STATUS_URL", "a URL, http://host:8080")?,
                thumbnail_worker: source.required("RUSHES_THUMBNAIL_WORKER_URL", "a URL, http://host:8080")?,
                blobs: blobs::Settings::read(source)?,
                slots: source.or("RUSHES_WORKER_SLOTS", 4, "how many generations are worked on at one time")?,
                video_bytes: source.or("RUSHES_VIDEO_MAX_BYTES", 256 << 20, "a number of bytes")?,
                order_limit: source.duration("RUSHES_ORDER_LIMIT", Duration::from_secs(1_800), "a time")?,
                heartbeat: source.duration("RUSHES_HEARTBEAT", Duration::from_secs(10), "a time")?,
            },
            local: Local {
                pace: Duration::from_secs_f64(pace),
                threads: source.or("RUSHES_LOCAL_THREADS", cores, "a number of threads")?,
            },
            replicate,
            fal,
            models,
        })
    }
}

fn list(source: &Source, name: &str, what: &str) -> Result<Vec<String>, Error> {
    let all: String = source.or(name, String::new(), what)?;
    Ok(all.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect())
}

/// The models of others in the catalogue that `RUSHES_MODELS` names.
fn models(source: &Source) -> Result<Vec<Remote>, Error> {
    let Some(path) = source.optional::<PathBuf>("RUSHES_MODELS", "a JSON file of models")? else {
        return Ok(Vec::new());
    };
    let wrong = |why: &dyn Display| {
        Error::wrong("RUSHES_MODELS", &format!("a JSON file of models; {} is none: {why}", path.display()))
    };
    let text = std::fs::read_to_string(&path).map_err(|error| wrong(&error))?;
    Remote::all(&text).map_err(|why| wrong(&why))
}

/// A credential as a header that is not shown when it is printed.
fn authorization(name: &str, scheme: &str, credential: &str) -> Result<HeaderValue, Error> {
    let value = HeaderValue::from_str(&format!("{scheme} {}", credential.trim()));
    let mut value = value.map_err(|_| Error::wrong(name, "printable, in one line"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDED: [(&str, &str); 3] = [
        ("RUSHES_GENERATION_STATUS_URL", "http://127.0.0.1:1"),
        ("RUSHES_THUMBNAIL_WORKER_URL", "http://127.0.0.1:2"),
        ("RUSHES_BLOBS_URL", "file:///tmp/blobs"),
    ];

    fn read(more: &[(&str, &str)]) -> Result<Config, Error> {
        Config::read(&Source::of(&[&NEEDED[..], more].concat()))
    }

    #[test]
    fn a_provider_without_a_key_is_off() {
        let config = read(&[]).unwrap();
        assert!(config.replicate.is_none() && config.fal.is_none() && config.models.is_empty());
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
        assert_eq!(config.replicate.unwrap().authorization, "Bearer r8-hidden");
        assert_eq!(config.fal.unwrap().authorization, "Key fal-hidden");
    }

    #[test]
    fn the_models_of_others_come_from_the_catalogue() {
        let json = r#"{"models": [
            {"id": "local-sketch", "provider": "local", "price_micros": 1},
            {"id": "one", "provider": "replicate", "model": "acme/one:v1", "price_micros": 2},
            {"id": "two", "provider": "fal", "model": "fal-ai/two/text-to-video", "price_micros": 3}
        ]}"#;
        let models = Remote::all(json).unwrap();
        assert_eq!(models.len(), 2);
        assert_eq!((models[0].name.as_str(), models[0].model.as_str()), ("models/one", "acme/one:v1"));
        assert_eq!((models[1].provider.as_str(), models[1].model.as_str()), ("fal", "fal-ai/two/text-to-video"));
        for (wrong, right) in [
            ("fal-ai/two/text-to-video", "two"),
            ("acme/one:v1", "acme//one"),
            ("\"fal\"", "\"luma\""),
            ("two\",", "t/o\","),
        ] {
            let error = Remote::all(&json.replace(wrong, right)).unwrap_err();
            assert!(error.starts_with("models["), "{error}");
        }
    }

    #[test]
    fn a_wrong_setting_is_named_and_its_value_is_not() {
        for (name, value) in [
            ("RUSHES_REPLICATE_WEBHOOK_SECRETS", "hidden"),
            ("RUSHES_MODELS", "/dev/null"),
            ("RUSHES_MODELS", "/nowhere"),
        ] {
            let error = read(&[("RUSHES_REPLICATE_TOKEN", "r8"), (name, value)]).unwrap_err().to_string();
            assert!(error.contains(name) && !error.contains("hidden"), "{error}");
        }
    }
}
