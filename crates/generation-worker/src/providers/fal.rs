//! fal's queue: submit, status with position, result, cancel, and webhooks signed with ED25519.
//!
//! Read on 2026-11-26: <https://docs.fal.ai/documentation/model-apis/inference/queue>, `/inference/webhooks`,
//! `/model-apis/request-errors`, <https://docs.fal.ai/errors>, <https://fal.ai/docs/inference-api/queue/cancel>, and the paths in
//! `libs/client/src/queue.ts` of <https://github.com/fal-ai/fal-js>. It documents no idempotency key and no search by anything
//! that we could give an order. Server errors (500 and above) are never charged; a 422 may be. The status of a request that failed
//! for one has `error` and `error_type`, as `Completed` in `projects/fal_client/src/fal_client/client.py` of
//! <https://github.com/fal-ai/fal> reads them (2026-11-29).
//!
//! Invariant: `COMPLETED` says only that there is a result. A server error in its place is a failure of the request only where the
//! status says so as well: fal's gateway answers in the same words, and those of an outage must not order another video. A state
//! that we do not know is an order at work, and an answer without a state says nothing.

mod uploads;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use domain::provider::Provider;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use super::api::{Answer, Api, Operation};
use super::key_set::KeySet;
use super::prices::Prices;
use super::{moderation, outputs, refusals};
use crate::hook_addresses::HookAddresses;
use crate::model::{
    Abilities, CallOutcome, Charge, FileForms, Input, InputFile, Made, NotVerified, Order, OrderStatus, Reference,
    Stopping, Trouble, Upload, Usage, Webhook, WebhookEvent,
};
use crate::provider::{self, Pieces};
use crate::{config, events, signatures};

const NAME: &str = Provider::Fal.as_str();
/// For how long an uploaded file is there.
const UPLOAD_LASTS: Duration = Duration::from_secs(24 * 3_600);
/// What a result was counted as, in the header of its answer.
const BILLABLE_UNITS: &str = "x-fal-billable-units";

/// fal's queue. An order's model is `owner/app` or `owner/app/endpoint`.
#[derive(Clone, Debug)]
pub struct Fal {
    api: Api,
    hooks: Option<HookAddresses>,
    /// Whose webhooks are ours.
    users: Vec<String>,
    key_set: Arc<KeySet>,
    /// Its storage for inputs.
    rest: Api,
    prices: Arc<Prices>,
}

impl Fal {
    /// One for each key of the settings, in their order.
    ///
    /// # Errors
    /// When no client can be built.
    pub fn each(config: &config::Fal) -> anyhow::Result<Vec<Self>> {
        // Shared: fal signs webhooks alike, whoever ordered.
        let key_set = Arc::new(KeySet::new(config.key_set.clone()));
        let api = Api::new(NAME, config.url.clone(), None)?;
        let rest = Api::new(NAME, config.rest_url.clone(), None)?;
        let prices = Api::new(NAME, config.api_url.clone(), None)?;
        let with = |key| Self {
            api: api.with_key(key),
            hooks: config.hooks.clone(),
            users: config.users.clone(),
            key_set: Arc::clone(&key_set),
            rest: rest.with_key(key),
            prices: Arc::new(Prices::new(prices.with_key(key))),
        };
        Ok(config.keys.iter().map(with).collect())
    }

    /// The address of a request to `model`, which leaves the endpoint's own path out.
    fn request_url<'a>(&'a self, model: &'a str, reference: &'a Reference, action: &'a [&'a str]) -> Url {
        let parts = if model.starts_with("workflows/") || model.starts_with("comfy/") { 3 } else { 2 };
        let app = model.split('/').take(parts);
        self.api.url(app.chain(["requests", &reference.0]).chain(action.iter().copied()))
    }

    async fn refresh_keys(&self) {
        if self.hooks.is_some() {
            self.key_set.refresh(&self.api).await;
        }
    }

    /// The result of a completed request, which failed by its status or did not.
    async fn result(&self, order: &Order, reference: &Reference, failed: bool) -> Result<OrderStatus, Trouble> {
        let url = self.request_url(&order.model, reference, &[]);
        let answer = self.api.call(Operation::Poll, Method::GET, url, None).await?;
        let mut status = parse_result(&answer, order, failed)?;
        if let OrderStatus::Done(made) = &mut status {
            made.usage.cost_micros = self.prices.cost_micros(&order.model, &made.usage.units).await;
        }
        Ok(status)
    }
}

impl provider::Provider for Fal {
    fn name(&self) -> &'static str {
        NAME
    }

    fn key(&self) -> &str {
        self.api.key()
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

    /// <https://docs.fal.ai/documentation/model-apis/fal-cdn>; it names no limit for uploads in parts.
    fn file_forms(&self) -> FileForms {
        FileForms { max_data: 256 << 10, max_upload: 512 << 20, link: true }
    }

    /// For a day, as fal's own client does it: whole, or in parts where the file is larger than that client sends whole.
    fn upload<'a>(&'a self, _: &'a Order, file: &'a InputFile, bytes: Bytes) -> BoxFuture<'a, Result<Upload, Trouble>> {
        async move {
            let address = uploads::upload(&self.rest, file, bytes, UPLOAD_LASTS).await?;
            Ok(Upload { address: address.into(), lasts: UPLOAD_LASTS })
        }
        .boxed()
    }

    fn submit<'a>(&'a self, order: &'a Order, input: &'a Input) -> BoxFuture<'a, Result<Reference, Trouble>> {
        async move {
            // Before the order: its first webhook may come before anybody polls.
            self.refresh_keys().await;
            let mut url = self.api.url(order.model.split('/'));
            if let Some(webhook) = self.hooks.as_ref().and_then(|hooks| hooks.address(NAME, order.key)) {
                url.query_pairs_mut().append_pair("fal_webhook", webhook.as_str());
            }
            let answer = self.api.call(Operation::Submit, Method::POST, url, Some(&json!(input.json))).await?;
            if !answer.status.is_success() {
                return Err(answer.submit_trouble(&order.unasked));
            }
            match answer.json()["request_id"].as_str().filter(|id| !id.is_empty()) {
                Some(id) => Ok(Reference(id.to_owned())),
                None => Err(answer.trouble(CallOutcome::Unreadable)),
            }
        }
        .boxed()
    }

    fn find<'a>(&'a self, _: &'a Order) -> BoxFuture<'a, Result<Option<Reference>, Trouble>> {
        async { Ok(None) }.boxed()
    }

    fn poll<'a>(&'a self, order: &'a Order, reference: &'a Reference) -> BoxFuture<'a, Result<OrderStatus, Trouble>> {
        async move {
            self.refresh_keys().await;
            let url = self.request_url(&order.model, reference, &["status"]);
            let answer = self.api.call(Operation::Poll, Method::GET, url, None).await?;
            if !answer.status.is_success() {
                return Err(answer.poll_trouble());
            }
            let status = answer.json();
            let Some(word) = status["status"].as_str() else { return Err(answer.trouble(CallOutcome::Unreadable)) };
            match word {
                "IN_QUEUE" => Ok(OrderStatus::Waiting { position: parse_position(&status) }),
                "IN_PROGRESS" => Ok(working()),
                "COMPLETED" => self.result(order, reference, says_error(&status)).await,
                word => {
                    events::unknown_state(NAME, word);
                    Ok(working())
                }
            }
        }
        .boxed()
    }

    fn fetch<'a>(&'a self, _: &'a Reference, address: &'a str) -> BoxFuture<'a, Result<Pieces<'a>, Trouble>> {
        self.api.download(address).boxed()
    }

    fn cancel<'a>(&'a self, order: &'a Order, reference: &'a Reference) -> BoxFuture<'a, Result<Stopping, Trouble>> {
        async move {
            let url = self.request_url(&order.model, reference, &["cancel"]);
            let answer = self.api.call(Operation::Cancel, Method::PUT, url, None).await?;
            let settled = matches!(answer.json()["status"].as_str(), Some("ALREADY_COMPLETED" | "NOT_FOUND"));
            if answer.status.is_success() || settled || answer.status == StatusCode::NOT_FOUND {
                // The next poll says what came of it.
                return Ok(Stopping::Asked);
            }
            Err(answer.poll_trouble())
        }
        .boxed()
    }

    fn verify(&self, webhook: &Webhook) -> Result<WebhookEvent, NotVerified> {
        let request = signatures::verify_fal(&webhook.headers, &webhook.body, webhook.now, &self.key_set.known());
        let (request, user) = request.inspect_err(|_| self.key_set.expire_soon())?;
        // fal signs for all of its customers with the same keys.
        if !self.users.iter().any(|own| own == user) {
            events::foreign_fal_user(user);
            return Err(NotVerified("it is of another user of fal"));
        }
        // The signature covers headers and body. The headers name the delivery; the order is the one that the body names, and a
        // body that names none is a hint all the same.
        let body: Value = serde_json::from_slice(&webhook.body).unwrap_or_default();
        let reference = body["request_id"].as_str().filter(|id| !id.is_empty()).map(str::to_owned);
        Ok(WebhookEvent { id: request.to_owned(), reference })
    }

    /// The status of a request that cannot be: its refusal says whether the key is taken. Nothing that is documented says whether
    /// an app is known.
    fn probe<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<(), Trouble>> {
        async move {
            let nobody = Reference(Uuid::nil().to_string());
            let url = self.request_url(model, &nobody, &["status"]);
            let trouble = self.api.call(Operation::Probe, Method::GET, url, None).await?.poll_trouble();
            match trouble.outcome {
                CallOutcome::AccountRefused | CallOutcome::Unavailable | CallOutcome::Throttled => Err(trouble),
                _ => Ok(()),
            }
        }
        .boxed()
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

/// What a result was counted as; only a decimal number of a bounded length is one.
fn parse_usage(answer: &Answer) -> Usage {
    let units = answer.headers.get(BILLABLE_UNITS).and_then(|units| units.to_str().ok()).unwrap_or_default().trim();
    let is_number = units.len() <= 32 && units.parse::<f64>().is_ok_and(|units| units.is_finite() && units >= 0.0);
    Usage { units: if is_number { units.to_owned() } else { String::new() }, ..Usage::default() }
}

/// Whether a status says that its request failed.
fn says_error(status: &Value) -> bool {
    ["error", "error_type"].iter().any(|field| !status[*field].is_null() && status[*field] != "")
}

/// The result of a completed request, which `failed` by its status or did not.
fn parse_result(answer: &Answer, order: &Order, failed: bool) -> Result<OrderStatus, Trouble> {
    let code = answer.status.as_u16();
    let body = answer.json();
    if answer.status.is_success() {
        // A page of something on the way is no result.
        if body.is_null() {
            return Err(answer.trouble(CallOutcome::Unreadable));
        }
        let addresses = outputs::find(&body, order);
        if addresses.is_empty() {
            return Err(answer.trouble(CallOutcome::OutputMissing));
        }
        let moderation = moderation::said(&body, order, addresses.len());
        return Ok(OrderStatus::Done(Made { addresses, usage: parse_usage(answer), moderation, ..Made::default() }));
    }
    let detail = &body["detail"];
    let kind = body["error_type"].as_str().or_else(|| detail[0]["type"].as_str()).unwrap_or_default();
    let charge = if code >= 500 { Charge::NotCharged } else { Charge::Unknown };
    Err(match code {
        // An error of the request has a `detail`; without one it is a gateway on the way that speaks.
        _ if matches!(code, 401..=404 | 410 | 429) => answer.poll_trouble(),
        400 | 422 if refusals::is_safety(&body, &order.refusals) => answer.trouble(CallOutcome::SafetyRefused),
        _ if detail.is_null() && body["error_type"].is_null() => answer.poll_trouble(),
        500.. if !failed => answer.trouble(CallOutcome::ResultUnavailable),
        _ if kind == "client_cancelled" => answer.trouble(CallOutcome::Stopped(Charge::Unknown)),
        _ if matches!(kind, "request_timeout" | "startup_timeout") => answer.trouble(CallOutcome::TimedOut(charge)),
        _ if refusals::is_safety(&body, &order.refusals) => answer.trouble(CallOutcome::SafetyRefused),
        400 | 422 => answer.trouble(refusals::parse_input_refusal(&body, &order.unasked)),
        _ => answer.trouble(CallOutcome::Failed(charge)),
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::model::MediaKind;

    /// The result of a request that failed by its status.
    fn read(code: u16, body: &str) -> Result<OrderStatus, Trouble> {
        read_after(
            &json!({"status": "COMPLETED", "error": "Internal", "error_type": "runner_server_error"}),
            code,
            body,
        )
    }

    fn read_after(status: &Value, code: u16, body: &str) -> Result<OrderStatus, Trouble> {
        let failed = says_error(status);
        let order = super::outputs::tests::order(MediaKind::Video, 4, None);
        let status = StatusCode::from_u16(code).unwrap();
        let (headers, credential) = (HeaderMap::new(), String::new());
        parse_result(&Answer { status, headers, body: body.to_owned().into(), credential }, &order, failed)
    }

    fn outcome(code: u16, body: &Value) -> CallOutcome {
        read(code, &body.to_string()).unwrap_err().outcome
    }

    /// The bodies of `/model-apis/request-errors` and `/errors`, and shapes that its models answer in all the same.
    #[test]
    fn a_completed_request_whose_result_is_an_error_is_a_failure() {
        let located =
            |field: &str, kind: &str| json!({"detail": [{"loc": ["body", field], "msg": "no", "type": kind}]});
        for (code, body, expected) in [
            (
                504,
                json!({"detail": "Request timed out", "error_type": "request_timeout"}),
                CallOutcome::TimedOut(Charge::NotCharged),
            ),
            (
                500,
                json!({"detail": "Internal", "error_type": "runner_server_error"}),
                CallOutcome::Failed(Charge::NotCharged),
            ),
            (
                499,
                json!({"detail": "Cancelled", "error_type": "client_cancelled"}),
                CallOutcome::Stopped(Charge::Unknown),
            ),
            (422, located("prompt", "value_error.missing"), CallOutcome::InputRefused),
            (422, located("seed", "extra_forbidden"), CallOutcome::ModelRefused),
            (422, located("prompt", "content_policy_violation"), CallOutcome::SafetyRefused),
            (422, json!({"error": "the request was moderated"}), CallOutcome::SafetyRefused),
            (418, json!({"detail": "a teapot"}), CallOutcome::Failed(Charge::Unknown)),
        ] {
            assert_eq!(outcome(code, &body), expected, "{code} {body}");
        }
        let field = located("prompt", "value_error.missing");
        let said = read(422, &field.to_string()).unwrap_err().evidence;
        assert_eq!((said.status, said.excerpt), (Some(422), field.to_string()));
    }

    /// A gateway that cannot serve the result of a video that was made answers in the words of a request that failed.
    #[test]
    fn a_server_error_that_the_status_does_not_have_is_no_failure_of_the_request() {
        for (code, kind) in [(503, "runner_scheduling_failure"), (504, "request_timeout"), (500, "runner_server_error")]
        {
            let body = json!({"detail": "No runner could be allocated", "error_type": kind}).to_string();
            for status in
                [json!({"status": "COMPLETED"}), json!({"status": "COMPLETED", "error": null, "error_type": ""})]
            {
                let trouble = read_after(&status, code, &body).unwrap_err();
                assert_eq!(trouble.outcome, CallOutcome::ResultUnavailable, "{code} after {status}");
            }
            let failed = read(code, &body).unwrap_err().outcome;
            let documented = [CallOutcome::Failed(Charge::NotCharged), CallOutcome::TimedOut(Charge::NotCharged)];
            assert!(documented.contains(&failed), "{code}: {failed:?}");
        }
    }

    #[test]
    fn an_error_on_the_way_says_nothing_about_the_request() {
        for (code, body, expected) in [
            (502, Value::Null, CallOutcome::Unavailable),
            (429, json!({"detail": "slow down"}), CallOutcome::Throttled),
            (401, json!({"detail": "no"}), CallOutcome::AccountRefused),
            (403, json!({"detail": "User is locked. Reason: Exhausted balance."}), CallOutcome::AccountRefused),
            (404, json!({"detail": "Request not found"}), CallOutcome::NotFound),
            (422, json!({}), CallOutcome::Unreadable),
        ] {
            assert_eq!(outcome(code, &body), expected, "{code}");
        }
        assert_eq!(read(200, "<html>maintenance</html>").unwrap_err().outcome, CallOutcome::Unreadable);
    }

    #[test]
    fn a_result_with_a_video_is_done_and_one_without_is_not() {
        let address = "https://v3.fal.media/x.mp4".to_owned();
        let made = Made { addresses: vec![address.clone()], moderation: vec![None], ..Made::default() };
        let done = Ok(OrderStatus::Done(made));
        assert_eq!(read(200, &json!({"video": {"url": address}}).to_string()), done);
        assert_eq!(read(200, &json!({"videos": [{"url": address}]}).to_string()), done);
        assert_eq!(read(200, &json!(address).to_string()), done);
        assert_eq!(outcome(200, &json!({"images": []})), CallOutcome::OutputMissing);
        assert_eq!(parse_position(&json!({"queue_position": 0})), Some(1));
        assert_eq!(parse_position(&json!({})), None);
    }
}
