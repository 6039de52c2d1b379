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

use bytes::Bytes;
use domain::provider::Provider;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use ring::hmac;
use serde_json::{Value, json};
use uuid::Uuid;

use super::api::{Answer, Api, Operation, RawBody};
use super::{moderation, outputs, refusals};
use crate::hook_addresses::HookAddresses;
use crate::model::{
    Abilities, CallOutcome, Charge, FileForms, Input, InputFile, Made, NotVerified, Order, OrderStatus, Reference,
    Stopping, Trouble, Upload, Usage, Webhook, WebhookEvent,
};
use crate::provider::{self, Pieces};
use crate::{config, events, signatures};

const NAME: &str = Provider::Replicate.as_str();

/// The header that limits the time of a prediction, <https://replicate.com/changelog/2025-10-16-prediction-deadlines>.
const CANCEL_AFTER: HeaderName = HeaderName::from_static("cancel-after");
/// For how long an uploaded file is there.
const UPLOAD_LASTS: Duration = Duration::from_secs(24 * 3_600);
/// The shortest limit that the header takes, in seconds.
const MIN_CANCEL_AFTER: u64 = 5;

/// Replicate's API. An order's model is `owner/name` for an official one, `owner/name:version` for a version.
#[derive(Clone, Debug)]
pub struct Replicate {
    api: Api,
    hooks: Option<HookAddresses>,
    secrets: Vec<hmac::Key>,
}

impl Replicate {
    /// One for each token of the settings, in their order.
    ///
    /// # Errors
    /// When no client can be built.
    pub fn each(config: &config::Replicate) -> anyhow::Result<Vec<Self>> {
        let api = Api::new(NAME, config.url.clone(), None)?;
        let with = |key| Self { api: api.with_key(key), hooks: config.hooks.clone(), secrets: config.secrets.clone() };
        Ok(config.keys.iter().map(with).collect())
    }
}

impl provider::Provider for Replicate {
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
            queue_position: false,
            webhook: self.hooks.is_some() && !self.secrets.is_empty(),
            in_process: false,
        }
    }

    /// <https://replicate.com/docs/topics/predictions/input-files>
    fn file_forms(&self) -> FileForms {
        FileForms { max_data: 256 << 10, max_upload: 100 << 20, link: true }
    }

    /// `files.create`; what it made is gone after a day.
    fn upload<'a>(&'a self, _: &'a Order, file: &'a InputFile, bytes: Bytes) -> BoxFuture<'a, Result<Upload, Trouble>> {
        async move {
            let body = multipart(file, &bytes);
            let answer = self.api.send_raw(Operation::Upload, Method::POST, self.api.url(["files"]), body).await?;
            if !answer.status.is_success() {
                return Err(answer.upload_trouble());
            }
            match answer.json()["urls"]["get"].as_str().filter(|url| url.starts_with("http")) {
                Some(url) => Ok(Upload { address: url.to_owned(), lasts: UPLOAD_LASTS }),
                None => Err(answer.trouble(CallOutcome::Unreadable)),
            }
        }
        .boxed()
    }

    fn submit<'a>(&'a self, order: &'a Order, input: &'a Input) -> BoxFuture<'a, Result<Reference, Trouble>> {
        async move {
            let mut body = json!({ "input": input.json });
            let url = match order.model.split_once(':') {
                Some((_, version)) => {
                    body["version"] = version.into();
                    self.api.url(["predictions"])
                }
                None => self.api.url(["models"].into_iter().chain(order.model.split('/')).chain(["predictions"])),
            };
            if let Some(webhook) = self.hooks.as_ref().and_then(|hooks| hooks.address(NAME, order.key)) {
                body["webhook"] = webhook.as_str().into();
                // `start` names an order early whose submission was not answered.
                body["webhook_events_filter"] = json!(["start", "completed"]);
            }
            let mut headers = HeaderMap::new();
            if let Some(limit) = order.max_run_time {
                headers.extend(HeaderValue::try_from(cancel_after(limit)).ok().map(|limit| (CANCEL_AFTER, limit)));
            }
            let answer = self.api.call_with(Operation::Submit, Method::POST, url, Some(&body), headers).await?;
            if !answer.status.is_success() {
                return Err(answer.submit_trouble(&order.unasked));
            }
            match answer.json()["id"].as_str().filter(|id| !id.is_empty()) {
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
            let url = self.api.url(["predictions", &reference.0]);
            let answer = self.api.call(Operation::Poll, Method::GET, url, None).await?;
            if answer.status.is_success() { parse_prediction(&answer, order) } else { Err(answer.poll_trouble()) }
        }
        .boxed()
    }

    fn fetch<'a>(&'a self, _: &'a Reference, address: &'a str) -> BoxFuture<'a, Result<Pieces<'a>, Trouble>> {
        self.api.download(address).boxed()
    }

    fn cancel<'a>(&'a self, _: &'a Order, reference: &'a Reference) -> BoxFuture<'a, Result<Stopping, Trouble>> {
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
    fn probe<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<(), Trouble>> {
        async move {
            let (name, version) = model.split_once(':').unwrap_or((model, ""));
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

/// A form with one file, called `content`. Neither name nor type has a character that would end a header.
fn multipart(file: &InputFile, bytes: &Bytes) -> RawBody {
    let boundary = format!("rushes-{}", Uuid::new_v4().simple());
    let head = format!(
        "--{boundary}\r\nContent-Disposition: form-data; name=\"content\"; filename=\"{}\"\r\nContent-Type: {}\r\n\r\n",
        file.name,
        file.name.content_type(),
    );
    let tail = format!("\r\n--{boundary}--\r\n");
    let bytes = [head.as_bytes(), bytes, tail.as_bytes()].concat().into();
    RawBody { content_type: format!("multipart/form-data; boundary={boundary}"), bytes }
}

/// The limit of a prediction's time as the header has it: whole seconds, rounded up, since what is cut off is charged.
fn cancel_after(limit: Duration) -> String {
    let seconds = limit.as_secs() + u64::from(limit.subsec_nanos() > 0);
    format!("{}s", seconds.max(MIN_CANCEL_AFTER))
}

/// What a prediction says.
fn parse_prediction(answer: &Answer, order: &Order) -> Result<OrderStatus, Trouble> {
    let prediction = answer.json();
    let Some(status) = prediction["status"].as_str() else { return Err(answer.trouble(CallOutcome::Unreadable)) };
    let error = &prediction["error"];
    match status {
        "starting" => Ok(OrderStatus::Waiting { position: None }),
        "processing" => Ok(working()),
        "succeeded" => {
            let addresses = outputs::find(&prediction["output"], order);
            if addresses.is_empty() {
                return Err(answer.trouble(CallOutcome::OutputMissing));
            }
            // The time that is billed, of a model that is billed by time.
            let seconds = prediction["metrics"]["predict_time"].as_f64();
            let run_time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            let moderation = moderation::said(&prediction, order, addresses.len());
            Ok(OrderStatus::Done(Made {
                addresses,
                usage: Usage { run_time, ..Usage::default() },
                moderation,
                ..Made::default()
            }))
        }
        "failed" => {
            // No code is documented for a refusal; the words of the models that refuse are known.
            let refused = refusals::is_safety(error, &order.refusals);
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
    use super::*;
    use crate::model::MediaKind;

    fn order() -> Order {
        let order = super::outputs::tests::order(MediaKind::Video, 4, None);
        Order { refusals: vec!["not in this house".to_owned()], ..order }
    }

    fn read(body: &str) -> Result<OrderStatus, Trouble> {
        let (status, headers, credential) = (StatusCode::OK, HeaderMap::new(), String::new());
        parse_prediction(&Answer { status, headers, body: body.to_owned().into(), credential }, &order())
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
                "error": "boom", "logs": null, "metrics": {"predict_time": 2.5},
            });
            read(&body.to_string())
        };
        let address = "https://replicate.delivery/x/out.mp4".to_owned();
        let (url, time) = (json!(address), json!("2022-04-26T22:13:06.224088Z"));
        let usage = Usage { run_time: Some(Duration::from_millis(2_500)), ..Usage::default() };
        let done =
            Ok(OrderStatus::Done(Made { addresses: vec![address], usage, moderation: vec![None], ..Made::default() }));
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
