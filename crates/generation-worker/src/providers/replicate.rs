//! Replicate's predictions: create, get, cancel, and webhooks by Standard Webhooks.
//!
//! Read on 2026-11-26: <https://replicate.com/docs/reference/http>, `/docs/topics/predictions/lifecycle` (states, what is billed),
//! `/docs/topics/predictions/rate-limits`, `/docs/topics/webhooks/setup-webhook`, `/docs/topics/webhooks/verify-webhook`.
//! It documents no idempotency key, and no search by anything that we could give an order, so a lost answer is settled by its
//! webhook or not at all. Predictions are created asynchronously: no `Prefer` is sent.
//!
//! Invariant: only an answer that names a prediction is an order taken, and a state that we do not know is one at work.

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Method, StatusCode};
use ring::hmac;
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use super::api::{Answer, Api, Operation};
use super::webhook_url::webhook_url;
use crate::model::{
    Abilities, Charge, Class, Failure, Made, NotSubmitted, NotVerified, Order, OrderStatus, Reference, RemoteProvider,
    Stopping, Webhook, WebhookEvent,
};
use crate::provider::{Pieces, Provider};
use crate::{config, events, signatures};

const NAME: &str = RemoteProvider::Replicate.as_str();

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
    pub fn new(config: &config::Replicate, model: &str) -> anyhow::Result<Self> {
        Ok(Self {
            api: Api::new(NAME, config.url.clone(), config.authorization.clone())?,
            model: model.to_owned(),
            hooks: config.hooks.clone(),
            secrets: config.secrets.clone(),
        })
    }

    /// Another model, with the same connections and secrets.
    #[must_use]
    pub fn another(&self, model: &str) -> Self {
        Self { model: model.to_owned(), ..self.clone() }
    }

    /// The answer about a prediction; nothing when Replicate does not know it.
    async fn get(&self, reference: &Reference) -> Result<Option<Answer>, Failure> {
        let url = self.api.url(["predictions", &reference.0]);
        let answer = self.api.call(Operation::Poll, Method::GET, url, None).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(answer)),
            _ => Err(answer.poll_failure()),
        }
    }
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
                return Err(NotSubmitted::Refused(Failure::reference_pictures()));
            }
            // Models take seeds of 31 bits.
            let seed = order.seed & i64::from(i32::MAX);
            let mut body = json!({ "input": { "prompt": order.prompt, "seed": seed } });
            let url = match self.model.split_once(':') {
                Some((_, version)) => {
                    body["version"] = version.into();
                    self.api.url(["predictions"])
                }
                None => self.api.url(["models"].into_iter().chain(self.model.split('/')).chain(["predictions"])),
            };
            if let Some(webhook) = webhook_url(self.hooks.as_ref(), NAME, order.key) {
                body["webhook"] = webhook.as_str().into();
                // `start` names an order early whose submission was not answered.
                body["webhook_events_filter"] = json!(["start", "completed"]);
            }
            let answer = self.api.call(Operation::Submit, Method::POST, url, Some(&body)).await?;
            if !answer.status.is_success() {
                return Err(answer.submit_failure());
            }
            match answer.json()["id"].as_str().filter(|id| !id.is_empty()) {
                Some(id) => Ok(Reference(id.to_owned())),
                None => {
                    let message = "the provider took the order and did not name it";
                    Err(NotSubmitted::unconfirmed(message, answer.evidence()))
                }
            }
        }
        .boxed()
    }

    fn find(&self, _: Uuid) -> BoxFuture<'_, Result<Option<Reference>, Failure>> {
        async { Ok(None) }.boxed()
    }

    fn poll<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<OrderStatus, Failure>> {
        async move { Ok(self.get(reference).await?.map_or(OrderStatus::Unknown, |answer| parse_prediction(&answer))) }
            .boxed()
    }

    fn fetch<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Pieces<'a>, Failure>> {
        async move {
            let prediction = self.get(reference).await?.map(|answer| answer.json()).unwrap_or_default();
            self.api.download(parse_output(&prediction).ok_or_else(Failure::output_missing)?).await
        }
        .boxed()
    }

    fn cancel<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Stopping, Failure>> {
        async move {
            let url = self.api.url(["predictions", &reference.0, "cancel"]);
            let answer = self.api.call(Operation::Cancel, Method::POST, url, None).await?;
            if answer.status.is_success() || answer.status == StatusCode::NOT_FOUND {
                return Ok(Stopping::Asked);
            }
            Err(answer.poll_failure())
        }
        .boxed()
    }

    fn verify(&self, webhook: &Webhook) -> Result<WebhookEvent, NotVerified> {
        let id = signatures::verify_standard(&webhook.headers, &webhook.body, webhook.now, &self.secrets)?;
        let body: Value = serde_json::from_slice(&webhook.body).unwrap_or_default();
        let reference = body["id"].as_str().filter(|id| !id.is_empty()).map(str::to_owned);
        Ok(WebhookEvent { id: id.to_owned(), reference })
    }

    fn poll_interval(&self) -> Duration {
        Duration::from_secs(3)
    }

    fn forget(&self, _: &Reference) {}
}

/// What a prediction says.
fn parse_prediction(answer: &Answer) -> OrderStatus {
    let prediction = answer.json();
    match prediction["status"].as_str().unwrap_or_default() {
        "starting" => OrderStatus::Waiting { position: None },
        "processing" => working(),
        "succeeded" if parse_output(&prediction).is_some() => {
            OrderStatus::Done(Made { extension: "mp4", cost_micros: None })
        }
        "succeeded" => OrderStatus::Failed(Failure::output_missing().with_evidence(answer.evidence())),
        "failed" => {
            let error = prediction["error"].as_str().unwrap_or_default();
            OrderStatus::Failed(parse_error(error).with_evidence(answer.evidence_in(error.as_bytes())))
        }
        // Billed for the time that it ran, and it ran only if it was begun.
        "canceled" if prediction["started_at"].is_string() => OrderStatus::Cancelled(Charge::Charged),
        "canceled" => OrderStatus::Cancelled(Charge::Unknown),
        "aborted" => OrderStatus::Failed(Failure {
            reason: "PROVIDER_TIMEOUT",
            charge: Charge::NotCharged,
            evidence: answer.evidence(),
            ..Failure::internal("the provider did not begin in time")
        }),
        word => {
            events::unknown_state(NAME, word);
            working()
        }
    }
}

fn working() -> OrderStatus {
    OrderStatus::Working { percent: 0, stage: "rendering" }
}

/// The failure that a failed prediction's error means. Its own words are for operators: they may carry addresses.
fn parse_error(error: &str) -> Failure {
    let lower = error.to_lowercase();
    // No code is documented for this; these are the words of the models that refuse.
    if ["nsfw", "flagged as sensitive", "content policy"].iter().any(|words| lower.contains(words)) {
        let message = "the provider's safety rules refused it";
        return Failure { class: Class::Safety, reason: "SAFETY_INPUT", ..Failure::internal(message) };
    }
    Failure::internal("the provider failed to make the video")
}

/// Where the output lies: one address, or the first of several.
fn parse_output(prediction: &Value) -> Option<&str> {
    let output = &prediction["output"];
    output.as_str().or_else(|| output[0].as_str()).filter(|address| !address.is_empty())
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn read(body: &Value) -> OrderStatus {
        let (status, headers, credential) = (StatusCode::OK, HeaderMap::new(), String::new());
        parse_prediction(&Answer { status, headers, body: body.to_string().into(), credential })
    }

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
        let refused = failure(refused);
        assert_eq!(refused.class, Class::Safety);
        assert_eq!((refused.evidence.status, refused.evidence.excerpt.as_str()), (Some(200), "NSFW content detected"));
    }
}
