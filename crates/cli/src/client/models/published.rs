//! What providers publish of their models: fetched from where each publishes it, or read from a file.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use catalogue::{Document, Provider};
use chassis::egress::{Egress, Reach};
use chassis::settings::Source;
use http::{Method, StatusCode};
use serde_json::Value;
use url::Url;

use crate::failure::{Exit, Failure};

/// The largest document that is read, in bytes. Replicate's descriptions of models carry an example with its logs.
const MAX_BYTES: usize = 16 << 20;
const TIMEOUT: Duration = Duration::from_secs(30);
const FAL_DOCUMENTS: &str = "https://fal.ai/api/openapi/queue/openapi.json";
const FAL_PRICES: &str = "https://api.fal.ai/v1/models/pricing";

/// The keys of providers, by the settings that generation-worker has them from.
#[derive(Debug, clap::Args)]
pub(super) struct Keys {
    /// fal's key; only for its unit price, its documents are public.
    #[arg(long, env = "RUSHES_FAL_KEY", hide_env_values = true, value_name = "KEY")]
    fal_key: Option<String>,
    /// Replicate's token.
    #[arg(long, env = "RUSHES_REPLICATE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    replicate_token: Option<String>,
    /// OpenRouter's key; its list is public.
    #[arg(long, env = "RUSHES_OPENROUTER_KEY", hide_env_values = true, value_name = "KEY")]
    openrouter_key: Option<String>,
    /// The token of a box; without it RUSHES_COG_TOKEN_{NAME}, or RUSHES_COG_TOKEN for the box without a name.
    #[arg(long, value_name = "TOKEN")]
    cog_token: Option<String>,
    #[arg(long, env = "RUSHES_REPLICATE_URL", hide = true, default_value = "https://api.replicate.com/v1")]
    replicate_url: Url,
    #[arg(long, env = "RUSHES_OPENROUTER_URL", hide = true, default_value = "https://openrouter.ai/api/v1")]
    openrouter_url: Url,
    /// Where a box is, for models of Cog: http://10.0.0.7:5000; without it RUSHES_COG_URL_{NAME} by the model's first part, or
    /// RUSHES_COG_URL.
    #[arg(long, value_name = "URL")]
    cog_url: Option<Url>,
}

impl Keys {
    /// Where a model's document is, and what is sent for authorization.
    fn address(&self, source: &Source, provider: Provider, model: &str) -> Result<(Url, Option<String>)> {
        let beneath = |base: &Url, parts: &mut dyn Iterator<Item = &str>| {
            let mut url = base.clone();
            if let Ok(mut path) = url.path_segments_mut() {
                path.pop_if_empty().extend(parts);
            }
            url
        };
        let bearer = |key: &Option<String>| key.as_ref().map(|key| format!("Bearer {}", first(key)));
        Ok(match provider {
            Provider::Fal => (Url::parse_with_params(FAL_DOCUMENTS, [("endpoint_id", model)])?, None),
            Provider::Replicate => {
                let token = bearer(&self.replicate_token).ok_or_else(|| {
                    Failure::new("Replicate tells of models only to those with a token")
                        .todo("set RUSHES_REPLICATE_TOKEN, or give --replicate-token; a file needs none")
                        .exit(Exit::Denied)
                })?;
                let (name, version) = model.split_once(':').unwrap_or((model, ""));
                let version = ["versions", version].into_iter().filter(|_| !version.is_empty());
                let mut parts = ["models"].into_iter().chain(name.split('/')).chain(version);
                (beneath(&self.replicate_url, &mut parts), Some(token))
            }
            Provider::OpenRouter => {
                (beneath(&self.openrouter_url, &mut ["videos", "models"].into_iter()), bearer(&self.openrouter_key))
            }
            Provider::Cog => {
                let (base, token) = self.cog_box(source, model)?;
                (beneath(&base, &mut ["openapi.json"].into_iter()), bearer(&token))
            }
            Provider::Local => {
                let message = "the built-in models have no document anywhere else";
                return Err(Failure::new(message).exit(Exit::Usage).into());
            }
        })
    }

    /// Where the box of a model is, and its token: by the flags, else by the settings that generation-worker has it from.
    fn cog_box(&self, source: &Source, model: &str) -> Result<(Url, Option<String>)> {
        let name = model.split('/').next().unwrap_or_default().to_ascii_uppercase().replace('-', "_");
        let wrong = |error: chassis::settings::Error| Failure::new(error.to_string()).exit(Exit::Usage);
        let read = |suffix: &str| -> Result<(Option<Url>, Option<String>)> {
            let what = "the address of a box, http://host:5000";
            let url = source.optional(&format!("RUSHES_COG_URL{suffix}"), what).map_err(wrong)?;
            Ok((url, source.optional(&format!("RUSHES_COG_TOKEN{suffix}"), "a token").map_err(wrong)?))
        };
        let (named, nameless) = (read(&format!("_{name}"))?, read("")?);
        let (url, token) = match &self.cog_url {
            Some(url) => (Some(url.clone()), named.1.or(nameless.1)),
            None if named.0.is_some() => named,
            None => nameless,
        };
        let url = url.ok_or_else(|| {
            Failure::new("it is not known where the box is")
                .todo(format!("give --cog-url, RUSHES_COG_URL_{name} or RUSHES_COG_URL, as http://10.0.0.7:5000"))
                .exit(Exit::Usage)
        })?;
        Ok((url, self.cog_token.clone().or(token)))
    }

    /// Fetches a model's document.
    pub(super) async fn fetch(&self, provider: Provider, model: &str) -> Result<Document> {
        let (url, authorization) = self.address(&Source::process(), provider, model)?;
        let Some(published) = get(provider, &url, authorization).await? else {
            return Err(Failure::new(format!("{} knows no model {model}", provider.as_str()))
                .todo("copy its name from the provider's page of the model")
                .exit(Exit::NotFound)
                .into());
        };
        let mut document = read(provider, &published, Some(model), url.as_str())?;
        if let (Provider::Fal, Some(key)) = (provider, &self.fal_key) {
            // It only says more of the price; without it the import is the same.
            document.unit_price = unit_price(model, first(key)).await.ok().flatten();
        }
        Ok(document)
    }
}

/// The first of a setting's keys, which has commas between several: what is public is the same for all.
fn first(keys: &str) -> &str {
    keys.split(',').map(str::trim).find(|key| !key.is_empty()).unwrap_or_default()
}

/// Reads a model's document from a file.
pub(super) fn from_file(provider: Provider, file: &Path, model: Option<&str>) -> Result<Document> {
    let shown = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::new(format!("{shown} cannot be read: {error}"))
            .todo("give a model's name, or the path of a document")
            .exit(Exit::Usage)
    })?;
    if text.len() > MAX_BYTES {
        return Err(Failure::new(format!("{shown} is larger than any document")).exit(Exit::Usage).into());
    }
    let published = serde_json::from_str(&text)
        .map_err(|error| Failure::new(format!("{shown} is not JSON: {error}")).exit(Exit::Usage))?;
    read(provider, &published, model, &shown)
}

fn read(provider: Provider, published: &Value, model: Option<&str>, origin: &str) -> Result<Document> {
    use catalogue::document::Error;
    Document::read(provider, published, model).map_err(|error| {
        let failure = Failure::new(format!("{origin}: {error}"));
        match error {
            Error::Several(_) => failure.todo("say which with --model").exit(Exit::Usage),
            Error::Other(_) | Error::Absent(_) => failure.exit(Exit::NotFound),
            _ => failure.exit(Exit::Usage),
        }
        .into()
    })
}

/// What the address answers; `None` for what is not there.
async fn get(provider: Provider, url: &Url, authorization: Option<String>) -> Result<Option<Value>> {
    let name = provider.as_str();
    // The address is the operator's own: a box stands in their network.
    let egress = Egress::new(Reach::Anywhere).context("no client can be built")?;
    let mut request = egress.request(Method::GET, url.clone())?.timeout(TIMEOUT);
    if let Some(authorization) = authorization {
        request = request.header(http::header::AUTHORIZATION, authorization);
    }
    let unreachable = |error: &dyn std::fmt::Display| {
        Failure::new(format!("{name} cannot be reached at {url}: {error}"))
            .todo("see whether this machine reaches it; a document can also be given as a file")
            .exit(Exit::Unreachable)
    };
    let mut response = request.send().await.map_err(|error| unreachable(&root(&error)))?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(&root(&error)))? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_BYTES {
            return Err(Failure::new(format!("{url} answers more than any document has")).into());
        }
    }
    match status {
        StatusCode::NOT_FOUND => Ok(None),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Err(Failure::new(format!("{name} refuses the key ({status})")).exit(Exit::Denied).into())
        }
        status if !status.is_success() => Err(unreachable(&status).into()),
        _ => match serde_json::from_slice(&body) {
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(Failure::new(format!("{url} answers no JSON: {error}")).into()),
        },
    }
}

/// The innermost cause, which says what happened.
fn root(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// What fal says one of its units costs.
async fn unit_price(model: &str, key: &str) -> Result<Option<String>> {
    let url = Url::parse_with_params(FAL_PRICES, [("endpoint_id", model)])?;
    let answer = get(Provider::Fal, &url, Some(format!("Key {}", key.trim()))).await?.unwrap_or_default();
    Ok(parse_unit_price(&answer, model))
}

fn parse_unit_price(answer: &Value, model: &str) -> Option<String> {
    let all = answer.get("prices").unwrap_or(answer);
    let is_it = |price: &&Value| price.get("endpoint_id").and_then(Value::as_str).is_none_or(|id| id == model);
    let price = all.as_array().map_or(Some(all), |all| all.iter().find(is_it))?;
    let text = |name: &str| price.get(name)?.as_str();
    Some(format!("{} {} for a unit of {}", price.get("unit_price")?, text("currency").unwrap_or("USD"), text("unit")?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_unit_price_is_one_line() {
        let one = json!({"endpoint_id": "a/b", "unit_price": 0.14, "unit": "seconds", "currency": "USD"});
        let expected = Some("0.14 USD for a unit of seconds".to_owned());
        assert_eq!(parse_unit_price(&json!({"prices": [{"endpoint_id": "a/c"}, one]}), "a/b"), expected);
        assert_eq!(parse_unit_price(&one, "a/b"), expected);
        assert_eq!(parse_unit_price(&json!({"detail": "no"}), "a/b"), None);
    }

    #[test]
    fn each_provider_has_its_address() {
        let none = Source::default();
        let keys = Keys {
            fal_key: None,
            replicate_token: Some("r8_x, r8_y".to_owned()),
            openrouter_key: None,
            cog_token: None,
            replicate_url: Url::parse("https://api.replicate.com/v1").unwrap(),
            openrouter_url: Url::parse("https://openrouter.ai/api/v1/").unwrap(),
            cog_url: Some(Url::parse("http://10.0.0.7:5000").unwrap()),
        };
        for (provider, model, expected) in [
            (Provider::Fal, "fal-ai/veo3", "https://fal.ai/api/openapi/queue/openapi.json?endpoint_id=fal-ai%2Fveo3"),
            (Provider::Replicate, "a/b", "https://api.replicate.com/v1/models/a/b"),
            (Provider::Replicate, "a/b:0c", "https://api.replicate.com/v1/models/a/b/versions/0c"),
            (Provider::OpenRouter, "a/b", "https://openrouter.ai/api/v1/videos/models"),
            (Provider::Cog, "box", "http://10.0.0.7:5000/openapi.json"),
        ] {
            assert_eq!(keys.address(&none, provider, model).unwrap().0.as_str(), expected);
        }
        assert!(keys.address(&none, Provider::Local, "local-sketch").is_err());
        let without = Keys { replicate_token: None, cog_url: None, ..keys };
        assert!(without.address(&none, Provider::Replicate, "a/b").is_err());
        assert!(without.address(&none, Provider::Cog, "box").is_err());
    }

    #[test]
    fn a_box_is_found_by_its_name_as_the_worker_finds_it() {
        let keys = |url: Option<&str>, token: Option<&str>| Keys {
            fal_key: None,
            replicate_token: None,
            openrouter_key: None,
            cog_token: token.map(str::to_owned),
            replicate_url: Url::parse("https://api.replicate.com/v1").unwrap(),
            openrouter_url: Url::parse("https://openrouter.ai/api/v1/").unwrap(),
            cog_url: url.map(|url| Url::parse(url).unwrap()),
        };
        let both = Source::of(&[
            ("RUSHES_COG_URL", "http://any:5000"),
            ("RUSHES_COG_TOKEN", "any-token"),
            ("RUSHES_COG_URL_BIG_GPU", "http://big:5000"),
            ("RUSHES_COG_TOKEN_BIG_GPU", "big-token"),
            ("RUSHES_COG_URL_BARE", "http://bare:5000"),
        ]);
        let at = |keys: &Keys, model: &str| {
            let (url, token) = keys.address(&both, Provider::Cog, model).unwrap();
            (url.to_string(), token.unwrap_or_default())
        };
        let by_settings = keys(None, None);
        for (model, url, token) in [
            ("big-gpu", "http://big:5000/openapi.json", "Bearer big-token"),
            ("big-gpu/film", "http://big:5000/openapi.json", "Bearer big-token"),
            ("bare", "http://bare:5000/openapi.json", ""),
            ("another", "http://any:5000/openapi.json", "Bearer any-token"),
        ] {
            assert_eq!(at(&by_settings, model), (url.to_owned(), token.to_owned()), "{model}");
        }
        let flagged = keys(Some("http://flag:1"), None);
        assert_eq!(at(&flagged, "big-gpu"), ("http://flag:1/openapi.json".to_owned(), "Bearer big-token".to_owned()));
        assert_eq!(at(&flagged, "bare"), ("http://flag:1/openapi.json".to_owned(), "Bearer any-token".to_owned()));
        assert_eq!(at(&keys(Some("http://flag:1"), Some("own")), "bare").1, "Bearer own");
        let wrong = Source::of(&[("RUSHES_COG_URL", "10.0.0.7")]);
        let error = by_settings.address(&wrong, Provider::Cog, "box").unwrap_err().to_string();
        assert!(error.contains("RUSHES_COG_URL cannot be read"), "{error}");
    }
}
