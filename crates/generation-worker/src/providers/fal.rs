//! fal's queue: submit, status with position, result, cancel, and webhooks signed with ED25519.
//!
//! Read on 2026-11-26: <https://docs.fal.ai/documentation/model-apis/inference/queue>, `/inference/webhooks`,
//! `/model-apis/request-errors`, <https://docs.fal.ai/errors>, <https://fal.ai/docs/inference-api/queue/cancel>, and the paths in
//! `libs/client/src/queue.ts` of <https://github.com/fal-ai/fal-js>. It documents no idempotency key and no search by anything
//! that we could give an order. Server errors (500 and above) are never charged; a 422 may be.
//!
//! Invariant: `COMPLETED` says only that there is a result; a result that is an error is a failure. A state that we do not know
//! is an order at work.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use super::api::{Answer, Api, Operation};
use super::key_set::KeySet;
use super::webhook_url::webhook_url;
use crate::model::{
    Abilities, Charge, Class, Failure, Made, NotSubmitted, NotVerified, Order, OrderStatus, Reference, RemoteProvider,
    Stopping, Webhook, WebhookEvent,
};
use crate::provider::{Pieces, Provider};
use crate::{config, events, signatures};

const NAME: &str = RemoteProvider::Fal.as_str();

/// One model at fal.
#[derive(Clone, Debug)]
pub struct Fal {
    api: Api,
    model: String,
    hooks: Option<Url>,
    keys: Arc<KeySet>,
}

impl Fal {
    /// Orders from `model`, `owner/app` or `owner/app/endpoint`.
    ///
    /// # Errors
    /// When no client can be built.
    pub fn new(config: &config::Fal, model: &str) -> anyhow::Result<Self> {
        Ok(Self {
            api: Api::new(NAME, config.url.clone(), config.authorization.clone())?,
            model: model.to_owned(),
            hooks: config.hooks.clone(),
            keys: Arc::new(KeySet::new(config.keys.clone())),
        })
    }

    /// Another model, with the same connections and the same keys: a webhook names no model.
    #[must_use]
    pub fn another(&self, model: &str) -> Self {
        Self { model: model.to_owned(), ..self.clone() }
    }

    /// The address of a request, which leaves the endpoint's own path out.
    fn request_url<'a>(&'a self, reference: &'a Reference, action: &'a [&'a str]) -> Url {
        let parts = if self.model.starts_with("workflows/") || self.model.starts_with("comfy/") { 3 } else { 2 };
        let app = self.model.split('/').take(parts);
        self.api.url(app.chain(["requests", &reference.0]).chain(action.iter().copied()))
    }

    async fn refresh_keys(&self) {
        if self.hooks.is_some() {
            self.keys.refresh(&self.api).await;
        }
    }

    async fn result(&self, reference: &Reference) -> Result<Answer, Failure> {
        Ok(self.api.call(Operation::Poll, Method::GET, self.request_url(reference, &[]), None).await?)
    }
}

impl Provider for Fal {
    fn name(&self) -> &'static str {
        NAME
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            idempotent_submit: false,
            find_by_key: false,
            cancel: true,
            progress: false,
            queue_position: true,
            webhook: self.hooks.is_some(),
            in_process: false,
        }
    }

    fn submit<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Reference, NotSubmitted>> {
        async move {
            if !order.reference_assets.is_empty() {
                return Err(NotSubmitted::Refused(Failure::reference_pictures()));
            }
            // Before the order: its first webhook may come before anybody polls.
            self.refresh_keys().await;
            let mut url = self.api.url(self.model.split('/'));
            if let Some(webhook) = webhook_url(self.hooks.as_ref(), NAME, order.key) {
                url.query_pairs_mut().append_pair("fal_webhook", webhook.as_str());
            }
            // Models take seeds of 31 bits.
            let body = json!({ "prompt": order.prompt, "seed": order.seed & i64::from(i32::MAX) });
            let answer = self.api.call(Operation::Submit, Method::POST, url, Some(&body)).await?;
            if !answer.status.is_success() {
                return Err(answer.submit_failure());
            }
            match answer.json()["request_id"].as_str().filter(|id| !id.is_empty()) {
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
        async move {
            self.refresh_keys().await;
            let url = self.request_url(reference, &["status"]);
            let answer = self.api.call(Operation::Poll, Method::GET, url, None).await?;
            if answer.status == StatusCode::NOT_FOUND {
                return Ok(OrderStatus::Unknown);
            }
            if !answer.status.is_success() {
                return Err(answer.poll_failure());
            }
            let status = answer.json();
            match status["status"].as_str().unwrap_or_default() {
                "IN_QUEUE" => Ok(OrderStatus::Waiting { position: parse_position(&status) }),
                "IN_PROGRESS" => Ok(working()),
                "COMPLETED" => parse_result(&self.result(reference).await?),
                word => {
                    events::unknown_state(NAME, word);
                    Ok(working())
                }
            }
        }
        .boxed()
    }

    fn fetch<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Pieces<'a>, Failure>> {
        async move {
            let answer = self.result(reference).await?;
            if !answer.status.is_success() {
                return Err(answer.poll_failure());
            }
            let result = answer.json();
            self.api.download(parse_output(&result).ok_or_else(Failure::output_missing)?).await
        }
        .boxed()
    }

    fn cancel<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Stopping, Failure>> {
        async move {
            let url = self.request_url(reference, &["cancel"]);
            let answer = self.api.call(Operation::Cancel, Method::PUT, url, None).await?;
            let settled = matches!(answer.json()["status"].as_str(), Some("ALREADY_COMPLETED" | "NOT_FOUND"));
            if answer.status.is_success() || settled || answer.status == StatusCode::NOT_FOUND {
                // The next poll says what came of it.
                return Ok(Stopping::Asked);
            }
            Err(answer.poll_failure())
        }
        .boxed()
    }

    fn verify(&self, webhook: &Webhook) -> Result<WebhookEvent, NotVerified> {
        let request = signatures::verify_fal(&webhook.headers, &webhook.body, webhook.now, &self.keys.known());
        let request = request.inspect_err(|_| self.keys.expire_soon())?;
        let body: Value = serde_json::from_slice(&webhook.body).unwrap_or_default();
        if body["request_id"].as_str().is_some_and(|id| id != request) {
            return Err(NotVerified("its headers and its body name different requests"));
        }
        // One request has one event, so its name is the event's, however often it is sent.
        Ok(WebhookEvent { id: request.to_owned(), reference: Some(request.to_owned()) })
    }

    fn poll_interval(&self) -> Duration {
        Duration::from_secs(3)
    }

    fn forget(&self, _: &Reference) {}
}

fn working() -> OrderStatus {
    OrderStatus::Working { percent: 0, stage: "rendering" }
}

/// fal counts those before us, we count our place.
fn parse_position(status: &Value) -> Option<u32> {
    let before = u32::try_from(status["queue_position"].as_u64()?).ok()?;
    before.checked_add(1)
}

/// The result of a completed request.
fn parse_result(answer: &Answer) -> Result<OrderStatus, Failure> {
    let code = answer.status.as_u16();
    let body = answer.json();
    if answer.status.is_success() {
        return Ok(match parse_output(&body) {
            Some(_) => OrderStatus::Done(Made { extension: "mp4", cost_micros: None }),
            None => OrderStatus::Failed(Failure::output_missing().with_evidence(answer.evidence())),
        });
    }
    let detail = &body["detail"];
    // An error of the request has a `detail`; without one it is a gateway on the way that speaks.
    if matches!(code, 401..=403 | 429) || detail.is_null() {
        return Err(answer.poll_failure());
    }
    if code == 404 {
        return Ok(OrderStatus::Unknown);
    }
    let kind = body["error_type"].as_str().or_else(|| detail[0]["type"].as_str()).unwrap_or_default();
    let charge = if code >= 500 { Charge::NotCharged } else { Charge::Unknown };
    let failed = |class, reason, message: &str| {
        let failure = Failure { class, reason, charge, ..Failure::internal(message) };
        OrderStatus::Failed(failure.with_evidence(answer.evidence()))
    };
    Ok(match kind {
        "client_cancelled" => OrderStatus::Cancelled(Charge::Unknown),
        "content_policy_violation" => failed(Class::Safety, "SAFETY_INPUT", "the provider's safety rules refused it"),
        "request_timeout" | "startup_timeout" => {
            failed(Class::Internal, "PROVIDER_TIMEOUT", "the provider took too long")
        }
        _ if matches!(code, 400 | 422) => {
            failed(Class::InvalidInput, "INPUT_SCHEMA_VIOLATION", "the provider refused the input")
        }
        _ => failed(Class::Internal, "PROVIDER_INTERNAL", "the provider failed to make the video"),
    })
}

/// Where the video lies, in the two shapes that fal's video models answer in.
fn parse_output(result: &Value) -> Option<&str> {
    let address = result["video"]["url"].as_str().or_else(|| result["videos"][0]["url"].as_str());
    address.filter(|address| !address.is_empty())
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn answer(code: u16, body: &Value) -> Answer {
        let status = StatusCode::from_u16(code).unwrap();
        Answer { status, headers: HeaderMap::new(), body: body.to_string().into(), credential: String::new() }
    }

    fn failure(code: u16, body: &Value) -> Failure {
        match parse_result(&answer(code, body)) {
            Ok(OrderStatus::Failed(failure)) => failure,
            other => panic!("{other:?}"),
        }
    }

    /// The bodies of `/model-apis/request-errors` and `/errors`.
    #[test]
    fn a_completed_request_whose_result_is_an_error_is_a_failure() {
        let timeout = failure(504, &json!({"detail": "Request timed out", "error_type": "request_timeout"}));
        assert_eq!((timeout.reason, timeout.charge), ("PROVIDER_TIMEOUT", Charge::NotCharged));
        let field =
            json!({"detail": [{"loc": ["body", "prompt"], "msg": "field required", "type": "value_error.missing"}]});
        let invalid = failure(422, &field);
        assert_eq!((invalid.class, invalid.charge), (Class::InvalidInput, Charge::Unknown));
        assert_eq!((invalid.evidence.status, invalid.evidence.excerpt), (Some(422), field.to_string()));
        let policy = json!({"detail": [{"loc": ["body", "prompt"], "msg": "no", "type": "content_policy_violation"}]});
        assert_eq!(failure(422, &policy).class, Class::Safety);
        let crash = failure(500, &json!({"detail": "Internal", "error_type": "runner_server_error"}));
        assert_eq!((crash.class, crash.charge), (Class::Internal, Charge::NotCharged));
        let cancelled = json!({"detail": "Cancelled", "error_type": "client_cancelled"});
        assert_eq!(parse_result(&answer(499, &cancelled)), Ok(OrderStatus::Cancelled(Charge::Unknown)));
    }

    #[test]
    fn an_error_on_the_way_says_nothing_about_the_request() {
        for (code, body) in [(502, Value::Null), (429, json!({"detail": "slow down"})), (401, json!({"detail": "no"}))]
        {
            assert!(parse_result(&answer(code, &body)).is_err(), "{code}");
        }
    }

    #[test]
    fn a_result_with_a_video_is_done_and_one_without_is_not() {
        let done = Ok(OrderStatus::Done(Made { extension: "mp4", cost_micros: None }));
        assert_eq!(parse_result(&answer(200, &json!({"video": {"url": "https://v3.fal.media/x.mp4"}}))), done);
        assert_eq!(parse_result(&answer(200, &json!({"videos": [{"url": "https://v3.fal.media/x.mp4"}]}))), done);
        assert_eq!(failure(200, &json!({"images": []})).reason, "OUTPUT_UNAVAILABLE");
        assert_eq!(parse_position(&json!({"queue_position": 0})), Some(1));
        assert_eq!(parse_position(&json!({})), None);
    }
}
