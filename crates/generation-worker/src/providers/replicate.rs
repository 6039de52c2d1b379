//! Replicate's predictions: create, get, cancel, and webhooks by Standard Webhooks.
//!
//! Read on 2026-11-26: <https://replicate.com/docs/reference/http>, `/docs/topics/predictions/lifecycle` (states, what is billed),
//! `/docs/topics/predictions/rate-limits`, `/docs/topics/webhooks/setup-webhook`, `/docs/topics/webhooks/verify-webhook`.
//! It documents no idempotency key, and no search by anything that we could give an order, so a lost answer is settled by its
//! webhook or not at all. Predictions are created asynchronously: no `Prefer` is sent.
//!
//! Invariant: only an answer that names a prediction is an order taken, and a state that we do not know is one at work.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use http::{HeaderValue, Method, StatusCode};
use ring::hmac;
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use super::http::Api;
use super::{
    Abilities, Charge, Class, Failure, Made, NotSubmitted, Order, OrderStatus, Provider, Reference, Stopping,
    signatures, unheard,
};
use crate::hooks::{Heard, Hook, NotVerified};

/// Its name, in webhooks' addresses too.
pub const NAME: &str = "replicate";

/// What Replicate is called with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The API, `https://api.replicate.com/v1`.
    pub url: Url,
    /// `Bearer` and the token; kept out of logs by whoever made it sensitive.
    pub authorization: HeaderValue,
    /// Where webhooks reach us, without provider and job; nothing: none are asked for.
    pub hooks: Option<Url>,
    /// What webhooks are signed with, `whsec_…`; more than one while they change.
    pub secrets: Vec<hmac::Key>,
}

/// One model at Replicate.
#[derive(Clone, Debug)]
pub struct Replicate {
    api: Api,
    model: String,
    hooks: Option<Url>,
    secrets: Vec<hmac::Key>,
}

impl Replicate {
    /// Orders from `model`: `owner/name` for an official model, `owner/name:version` for a version.
    ///
    /// # Errors
    /// When no client can be built.
    pub fn new(settings: &Settings, model: &str) -> anyhow::Result<Self> {
        Ok(Self {
            api: Api::new(settings.url.clone(), settings.authorization.clone())?,
            model: model.to_owned(),
            hooks: settings.hooks.clone(),
            secrets: settings.secrets.clone(),
        })
    }

    /// Another model, with the same connections and secrets.
    #[must_use]
    pub fn other(&self, model: &str) -> Self {
        Self { model: model.to_owned(), ..self.clone() }
    }

    fn prediction(&self, reference: &Reference) -> Url {
        self.api.at(["predictions", &reference.0])
    }

    async fn get(&self, reference: &Reference) -> Result<Option<Value>, Failure> {
        let answer = self.api.call(Method::GET, self.prediction(reference), None).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(answer.json())),
            _ => Err(answer.no_look()),
        }
    }
}

/// Reads a secret of Replicate's, `whsec_…`.
#[must_use]
pub fn secret(text: &str) -> Option<hmac::Key> {
    signatures::secret(text)
}

impl Provider for Replicate {
    fn name(&self) -> &'static str {
        NAME
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            idempotent_submit: false,
            find_by_key: false,
            cancel: true,
            progress: false,
            queue_position: false,
            webhook: self.hooks.is_some() && !self.secrets.is_empty(),
            in_process: false,
        }
    }

    fn submit<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Reference, NotSubmitted>> {
        async move {
            if !order.reference_assets.is_empty() {
                return Err(NotSubmitted::Refused(super::no_pictures()));
            }
            let mut body = json!({ "input": { "prompt": order.prompt, "seed": seed(order.seed) } });
            let url = match self.model.split_once(':') {
                Some((_, version)) => {
                    body["version"] = version.into();
                    self.api.at(["predictions"])
                }
                None => self.api.at(["models"].into_iter().chain(self.model.split('/')).chain(["predictions"])),
            };
            if let Some(hook) = super::hook(self.hooks.as_ref(), NAME, order.key) {
                body["webhook"] = hook.as_str().into();
                body["webhook_events_filter"] = json!(["start", "completed"]);
            }
            let answer = self.api.call(Method::POST, url, Some(&body)).await?;
            if !answer.status.is_success() {
                return Err(answer.no_order());
            }
            match answer.json()["id"].as_str().filter(|id| !id.is_empty()) {
                Some(id) => Ok(Reference(id.to_owned())),
                None => Err(NotSubmitted::Unconfirmed("the provider took the order and did not name it".to_owned())),
            }
        }
        .boxed()
    }

    fn find(&self, _: Uuid) -> BoxFuture<'_, Result<Option<Reference>, Failure>> {
        async { Ok(None) }.boxed()
    }

    fn poll<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<OrderStatus, Failure>> {
        async move { Ok(self.get(reference).await?.map_or(OrderStatus::Unknown, |prediction| read(&prediction))) }
            .boxed()
    }

    fn fetch<'a>(
        &'a self,
        reference: &'a Reference,
    ) -> BoxFuture<'a, Result<BoxStream<'a, Result<Bytes, Failure>>, Failure>> {
        async move {
            let prediction = self.get(reference).await?.unwrap_or_default();
            let address = output(&prediction).ok_or_else(gone)?;
            self.api.download(address).await
        }
        .boxed()
    }

    fn cancel<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Stopping, Failure>> {
        async move {
            let url = self.api.at(["predictions", &reference.0, "cancel"]);
            let answer = self.api.call(Method::POST, url, None).await?;
            if answer.status.is_success() || answer.status == StatusCode::NOT_FOUND {
                return Ok(Stopping::Asked);
            }
            Err(answer.no_look())
        }
        .boxed()
    }

    fn hear(&self, hook: &Hook) -> Result<Heard, NotVerified> {
        let event = signatures::standard(&hook.headers, &hook.body, hook.now, &self.secrets)?;
        let body: Value = serde_json::from_slice(&hook.body).unwrap_or_default();
        let reference = body["id"].as_str().filter(|id| !id.is_empty()).map(str::to_owned);
        Ok(Heard { event: event.to_owned(), reference })
    }

    fn poll_interval(&self) -> Duration {
        Duration::from_secs(3)
    }

    fn forget(&self, _: &Reference) {}
}

/// What a prediction says.
fn read(prediction: &Value) -> OrderStatus {
    match prediction["status"].as_str().unwrap_or_default() {
        "starting" => OrderStatus::Waiting { position: None },
        "processing" => working(),
        "succeeded" if output(prediction).is_some() => OrderStatus::Done(Made { extension: "mp4", cost_micros: None }),
        "succeeded" => OrderStatus::Failed(gone()),
        "failed" => OrderStatus::Failed(failed(prediction)),
        // Billed for the time that it ran, and it ran only if it was begun.
        "canceled" if prediction["started_at"].is_string() => OrderStatus::Cancelled(Charge::Charged),
        "canceled" => OrderStatus::Cancelled(Charge::Unknown),
        "aborted" => OrderStatus::Failed(Failure {
            reason: "PROVIDER_TIMEOUT",
            charge: Charge::NotCharged,
            ..Failure::internal("the provider did not begin in time")
        }),
        word => {
            unheard(NAME, word);
            working()
        }
    }
}

fn working() -> OrderStatus {
    OrderStatus::Working { percent: 0, stage: "rendering" }
}

/// Its own words go to the log: they are for operators, and may carry addresses.
fn failed(prediction: &Value) -> Failure {
    let error = prediction["error"].as_str().unwrap_or_default();
    tracing::warn!(error, "a prediction failed");
    let lower = error.to_lowercase();
    // No code is documented for this; these are the words of the models that refuse.
    if ["nsfw", "flagged as sensitive", "content policy"].iter().any(|words| lower.contains(words)) {
        let message = "the provider's safety rules refused it";
        return Failure { class: Class::Safety, reason: "SAFETY_INPUT", ..Failure::internal(message) };
    }
    Failure::internal("the provider failed to make the video")
}

/// Where the output lies: one address, or the first of several.
fn output(prediction: &Value) -> Option<&str> {
    let output = &prediction["output"];
    output.as_str().or_else(|| output[0].as_str()).filter(|address| !address.is_empty())
}

fn gone() -> Failure {
    Failure {
        reason: "OUTPUT_UNAVAILABLE",
        charge: Charge::Charged,
        ..Failure::bad_output("the provider has no output")
    }
}

/// Models take seeds of 31 bits.
fn seed(seed: i64) -> i64 {
    seed & i64::from(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The states of `/docs/topics/predictions/lifecycle`, in bodies shaped as in `/docs/topics/webhooks/receive-webhook`.
    #[test]
    fn every_documented_state_is_understood_and_any_other_is_work() {
        let said = |status: &str, output: Value, started: Value| {
            read(&json!({
                "id": "ufawqhfynnddngldkgtslldrkq", "status": status, "output": output, "started_at": started,
                "error": "boom", "logs": null, "metrics": {},
            }))
        };
        let (url, time) = (json!("https://replicate.delivery/x/out.mp4"), json!("2022-04-26T22:13:06.224088Z"));
        let done = OrderStatus::Done(Made { extension: "mp4", cost_micros: None });
        assert_eq!(said("starting", Value::Null, Value::Null), OrderStatus::Waiting { position: None });
        assert_eq!(said("processing", Value::Null, time.clone()), working());
        assert_eq!(said("succeeded", url.clone(), time.clone()), done);
        assert_eq!(said("succeeded", json!([url]), time.clone()), done);
        assert_eq!(said("canceled", Value::Null, time.clone()), OrderStatus::Cancelled(Charge::Charged));
        assert_eq!(said("canceled", Value::Null, Value::Null), OrderStatus::Cancelled(Charge::Unknown));
        for word in ["dreaming", "", "Succeeded"] {
            assert_eq!(said(word, url.clone(), time.clone()), working(), "{word}");
        }
        let failure = |poll| if let OrderStatus::Failed(failure) = poll { failure } else { panic!("{poll:?}") };
        assert_eq!(failure(said("failed", Value::Null, time.clone())).class, Class::Internal);
        let aborted = failure(said("aborted", Value::Null, Value::Null));
        assert_eq!((aborted.reason, aborted.charge), ("PROVIDER_TIMEOUT", Charge::NotCharged));
        // Outputs are deleted after an hour.
        assert_eq!(failure(said("succeeded", Value::Null, time)).reason, "OUTPUT_UNAVAILABLE");
        let refused = read(&json!({"status": "failed", "error": "NSFW content detected"}));
        assert_eq!(failure(refused).class, Class::Safety);
    }
}
