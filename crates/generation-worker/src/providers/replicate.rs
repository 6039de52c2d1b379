//! Replicate's predictions: create, get, cancel, and webhooks by Standard Webhooks.
//!
//! Read on 2026-11-26: <https://replicate.com/docs/reference/http>, `/docs/topics/predictions/lifecycle` (states, what is billed),
//! `/docs/topics/predictions/rate-limits`, `/docs/topics/webhooks/setup-webhook`, `/docs/topics/webhooks/verify-webhook`.
//! It documents no idempotency key, and no search by anything that we could give an order, so a lost answer is settled by its
//! webhook or not at all. Predictions are created asynchronously: no `Prefer` is sent.
//!
//! Invariant: only an answer that names a prediction is an order taken, a state that we do not know is one at work, and an answer
//! without a state says nothing. Failed and stopped predictions are billed for the time that they ran, as far as is documented;
//! only `aborted` ones never ran.

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
use super::{outputs, refusals};
use crate::model::{
    Abilities, CallOutcome, Charge, Made, NotVerified, Order, OrderStatus, Reference, RemoteModel, RemoteProvider,
    Stopping, Trouble, Webhook, WebhookEvent,
};
use crate::provider::{Pieces, Provider};
use crate::{config, events, signatures};

const NAME: &str = RemoteProvider::Replicate.as_str();

/// One model at Replicate.
#[derive(Clone, Debug)]
pub struct Replicate {
    api: Api,
    model: RemoteModel,
    hooks: Option<Url>,
    secrets: Vec<hmac::Key>,
}

impl Replicate {
    /// Orders from `model`: `owner/name` for an official model, `owner/name:version` for a version.
    ///
    /// # Errors
    /// When no client can be built.
    pub fn new(config: &config::Replicate, model: &RemoteModel) -> anyhow::Result<Self> {
        Ok(Self {
            api: Api::new(NAME, config.url.clone(), config.authorization.clone())?,
            model: model.clone(),
            hooks: config.hooks.clone(),
            secrets: config.secrets.clone(),
        })
    }

    /// Another model, with the same connections and secrets.
    #[must_use]
    pub fn another(&self, model: &RemoteModel) -> Self {
        Self { model: model.clone(), ..self.clone() }
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

    fn submit<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Reference, Trouble>> {
        async move {
            if !order.reference_assets.is_empty() {
                return Err(Trouble::new(CallOutcome::InputRefused, "this model takes no reference pictures"));
            }
            let mut body = json!({ "input": { "prompt": order.prompt } });
            // Models take seeds of 31 bits.
            if let Some(seed) = order.seed {
                body["input"]["seed"] = (seed & i64::from(i32::MAX)).into();
            }
            let url = match self.model.model.split_once(':') {
                Some((_, version)) => {
                    body["version"] = version.into();
                    self.api.url(["predictions"])
                }
                None => self.api.url(["models"].into_iter().chain(self.model.model.split('/')).chain(["predictions"])),
            };
            if let Some(webhook) = webhook_url(self.hooks.as_ref(), NAME, order.key) {
                body["webhook"] = webhook.as_str().into();
                // `start` names an order early whose submission was not answered.
                body["webhook_events_filter"] = json!(["start", "completed"]);
            }
            let answer = self.api.call(Operation::Submit, Method::POST, url, Some(&body)).await?;
            if !answer.status.is_success() {
                return Err(answer.submit_trouble());
            }
            match answer.json()["id"].as_str().filter(|id| !id.is_empty()) {
                Some(id) => Ok(Reference(id.to_owned())),
                None => Err(answer.trouble(CallOutcome::Unreadable)),
            }
        }
        .boxed()
    }

    fn find(&self, _: Uuid) -> BoxFuture<'_, Result<Option<Reference>, Trouble>> {
        async { Ok(None) }.boxed()
    }

    fn poll<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<OrderStatus, Trouble>> {
        async move {
            let url = self.api.url(["predictions", &reference.0]);
            let answer = self.api.call(Operation::Poll, Method::GET, url, None).await?;
            if answer.status.is_success() { parse_prediction(&answer, &self.model) } else { Err(answer.poll_trouble()) }
        }
        .boxed()
    }

    fn fetch<'a>(&'a self, _: &'a Reference, made: &'a Made) -> BoxFuture<'a, Result<Pieces<'a>, Trouble>> {
        self.api.download(&made.address).boxed()
    }

    fn cancel<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Stopping, Trouble>> {
        async move {
            let url = self.api.url(["predictions", &reference.0, "cancel"]);
            let answer = self.api.call(Operation::Cancel, Method::POST, url, None).await?;
            if answer.status.is_success() || answer.status == StatusCode::NOT_FOUND {
                return Ok(Stopping::Asked);
            }
            Err(answer.poll_trouble())
        }
        .boxed()
    }

    fn verify(&self, webhook: &Webhook) -> Result<WebhookEvent, NotVerified> {
        let id = signatures::verify_standard(&webhook.headers, &webhook.body, webhook.now, &self.secrets)?;
        let body: Value = serde_json::from_slice(&webhook.body).unwrap_or_default();
        let reference = body["id"].as_str().filter(|id| !id.is_empty()).map(str::to_owned);
        Ok(WebhookEvent { id: id.to_owned(), reference })
    }

    /// `models.get`, or `models.versions.get` where the catalogue names a version.
    fn probe(&self) -> BoxFuture<'_, Result<(), Trouble>> {
        async move {
            let (name, version) = self.model.model.split_once(':').unwrap_or((&self.model.model, ""));
            let version = Some(version).filter(|version| !version.is_empty()).map(|version| ["versions", version]);
            let path = ["models"].into_iter().chain(name.split('/')).chain(version.into_iter().flatten());
            let answer = self.api.call(Operation::Probe, Method::GET, self.api.url(path), None).await?;
            match answer.status {
                status if status.is_success() => Ok(()),
                StatusCode::NOT_FOUND => Err(answer.trouble(CallOutcome::ModelRefused)),
                _ => Err(answer.poll_trouble()),
            }
        }
        .boxed()
    }

    fn poll_interval(&self) -> Duration {
        Duration::from_secs(3)
    }

    fn forget(&self, _: &Reference) {}
}

/// What a prediction says.
fn parse_prediction(answer: &Answer, model: &RemoteModel) -> Result<OrderStatus, Trouble> {
    let prediction = answer.json();
    let Some(status) = prediction["status"].as_str() else { return Err(answer.trouble(CallOutcome::Unreadable)) };
    let error = &prediction["error"];
    match status {
        "starting" => Ok(OrderStatus::Waiting { position: None }),
        "processing" => Ok(working()),
        "succeeded" => match outputs::find(&prediction["output"], model.output.as_deref()) {
            Some(address) => Ok(OrderStatus::Done(Made { address, cost_micros: None })),
            None => Err(answer.trouble(CallOutcome::OutputMissing)),
        },
        "failed" => {
            // No code is documented for a refusal; the words of the models that refuse are known.
            let refused = refusals::is_safety(error, &model.refusals);
            let outcome = if refused { CallOutcome::SafetyRefused } else { CallOutcome::Failed(Charge::Unknown) };
            let said = error.as_str().map_or_else(|| error.to_string(), str::to_owned);
            Err(Trouble::new(outcome, "the prediction failed").with_evidence(answer.evidence_in(said.as_bytes())))
        }
        // Billed for the time that it ran, and it ran only if it was begun.
        "canceled" if prediction["started_at"].is_string() => {
            Err(answer.trouble(CallOutcome::Stopped(Charge::Charged)))
        }
        "canceled" => Err(answer.trouble(CallOutcome::Stopped(Charge::Unknown))),
        "aborted" => Err(answer.trouble(CallOutcome::TimedOut(Charge::NotCharged))),
        word => {
            events::unknown_state(NAME, word);
            Ok(working())
        }
    }
}

fn working() -> OrderStatus {
    OrderStatus::Working { percent: 0, stage: "rendering" }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn model() -> RemoteModel {
        let (name, provider, model) = ("models/m".to_owned(), RemoteProvider::Replicate, "acme/video".to_owned());
        RemoteModel { name, provider, model, refusals: vec!["not in this house".to_owned()], output: None }
    }

    fn read(body: &str) -> Result<OrderStatus, Trouble> {
        let (status, headers, credential) = (StatusCode::OK, HeaderMap::new(), String::new());
        parse_prediction(&Answer { status, headers, body: body.to_owned().into(), credential }, &model())
    }

    fn outcome(read: Result<OrderStatus, Trouble>) -> CallOutcome {
        read.unwrap_err().outcome
    }

    /// The states of `/docs/topics/predictions/lifecycle`, in bodies shaped as in `/docs/topics/webhooks/receive-webhook`.
    #[test]
    fn every_documented_state_is_understood_and_any_other_is_work() {
        let said = |status: &str, output: Value, started: Value| {
            let body = json!({
                "id": "ufawqhfynnddngldkgtslldrkq", "status": status, "output": output, "started_at": started,
                "error": "boom", "logs": null, "metrics": {},
            });
            read(&body.to_string())
        };
        let address = "https://replicate.delivery/x/out.mp4".to_owned();
        let (url, time) = (json!(address), json!("2022-04-26T22:13:06.224088Z"));
        let done = Ok(OrderStatus::Done(Made { address, cost_micros: None }));
        assert_eq!(said("starting", Value::Null, Value::Null), Ok(OrderStatus::Waiting { position: None }));
        assert_eq!(said("processing", Value::Null, time.clone()), Ok(working()));
        assert_eq!(said("succeeded", url.clone(), time.clone()), done);
        assert_eq!(said("succeeded", json!([url]), time.clone()), done);
        for word in ["dreaming", "", "Succeeded"] {
            assert_eq!(said(word, url.clone(), time.clone()), Ok(working()), "{word}");
        }
        for (status, started, expected) in [
            ("canceled", time.clone(), CallOutcome::Stopped(Charge::Charged)),
            ("canceled", Value::Null, CallOutcome::Stopped(Charge::Unknown)),
            ("failed", time.clone(), CallOutcome::Failed(Charge::Unknown)),
            ("aborted", Value::Null, CallOutcome::TimedOut(Charge::NotCharged)),
            // Outputs are deleted after an hour.
            ("succeeded", time, CallOutcome::OutputMissing),
        ] {
            assert_eq!(outcome(said(status, Value::Null, started)), expected, "{status}");
        }
    }

    #[test]
    fn an_answer_without_a_state_says_nothing_about_the_order() {
        for body in ["{}", "[]", "null", "<html>maintenance</html>", "", r#"{"status": 3}"#] {
            assert_eq!(outcome(read(body)), CallOutcome::Unreadable, "{body}");
        }
    }

    #[test]
    fn a_refusal_for_safety_is_known_by_its_words_in_any_shape() {
        for error in [
            json!("NSFW content detected"),
            json!(["the output was moderated"]),
            json!({"code": "E005", "message": "flagged as sensitive"}),
            json!("Not in this house!"),
        ] {
            let refused = read(&json!({"status": "failed", "error": error}).to_string()).unwrap_err();
            assert_eq!(refused.outcome, CallOutcome::SafetyRefused, "{error}");
            assert_eq!(refused.evidence.status, Some(200));
        }
        let said = read(r#"{"status": "failed", "error": "NSFW content detected"}"#).unwrap_err();
        assert_eq!(said.evidence.excerpt, "NSFW content detected");
    }
}
