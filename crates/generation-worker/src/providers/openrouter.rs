//! OpenRouter's video API: submit, poll, and files.
//!
//! Read on 2026-11-28: <https://openrouter.ai/docs/api/api-reference/video-generation/create-videos>, `/get-videos`,
//! `/list-videos-content`, and <https://openrouter.ai/docs/api_reference/videos>. It documents neither a cancel nor an idempotency
//! key, and no search by anything that we could give an order; a webhook (`callback_url`) is documented without a signature, so
//! none is asked for. What a failed, cancelled or expired job costs is not documented.
//!
//! Invariant: only an answer that names a job is an order taken; a state that we do not know is a job at work, and an answer
//! without a state says nothing. The key goes to the API alone, which hands out files of its own by it.

use std::time::Duration;

use domain::provider::Provider;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::Method;
use serde_json::{Value, json};
use url::Url;

use super::api::{Answer, Api, Operation};
use super::{moderation, outputs, refusals};
use crate::model::{
    Abilities, CallOutcome, Charge, FileForms, Input, Made, Order, OrderStatus, Reference, Stopping, Trouble, Usage,
};
use crate::provider::{self, Pieces};
use crate::{config, events};

const NAME: &str = Provider::OpenRouter.as_str();
/// The largest file that is put into an input where there is no other way.
const MAX_DATA: u64 = 4 << 20;

/// OpenRouter's API. An order's model is a model's id, `google/veo-3.1`.
#[derive(Clone, Debug)]
pub struct OpenRouter {
    api: Api,
}

impl OpenRouter {
    /// One for each key of the settings, in their order.
    ///
    /// # Errors
    /// When no client can be built.
    pub fn each(config: &config::OpenRouter) -> anyhow::Result<Vec<Self>> {
        let api = Api::new(NAME, config.url.clone(), None)?;
        Ok(config.keys.iter().map(|key| Self { api: api.with_key(key) }).collect())
    }

    /// The address at which the API itself hands out a job's file.
    fn content_url(&self, reference: &str, index: usize) -> Url {
        let mut url = self.api.url(["videos", reference, "content"]);
        url.query_pairs_mut().append_pair("index", &index.to_string());
        url
    }

    /// What a job says.
    fn parse_job(&self, answer: &Answer, order: &Order, reference: &Reference) -> Result<OrderStatus, Trouble> {
        let job = answer.json();
        let Some(status) = job["status"].as_str() else { return Err(answer.trouble(CallOutcome::Unreadable)) };
        let said = |outcome| {
            let error = &job["error"];
            let words = error.as_str().map_or_else(|| error.to_string(), str::to_owned);
            let trouble = Trouble::new(outcome, format!("the job is {status}"));
            Err(trouble.with_evidence(answer.evidence_in(words.as_bytes())))
        };
        match status {
            "pending" => Ok(OrderStatus::Waiting { position: None }),
            "in_progress" => Ok(working()),
            "completed" => {
                let (addresses, unnamed) = self.addresses(&job, order, reference);
                let moderation = moderation::said(&job, order, addresses.len());
                Ok(OrderStatus::Done(Made { addresses, unnamed, usage: parse_usage(&job), moderation }))
            }
            "failed" if refusals::is_safety(&job["error"], &order.refusals) => said(CallOutcome::SafetyRefused),
            "failed" => said(CallOutcome::Failed(Charge::Unknown)),
            "expired" => said(CallOutcome::TimedOut(Charge::Unknown)),
            "cancelled" => said(CallOutcome::Stopped(Charge::Unknown)),
            word => {
                events::unknown_state(NAME, word);
                Ok(working())
            }
        }
    }

    /// Where a completed job's files lie: where the order says, else at the addresses in storage, else at those that need the key,
    /// else at the API's own addresses of as many as were ordered. With how many of them, from the end, it does not name.
    fn addresses(&self, job: &Value, order: &Order, reference: &Reference) -> (Vec<String>, usize) {
        let lists = if order.output.is_some() { vec![job] } else { vec![&job["urls"], &job["unsigned_urls"]] };
        let found = lists.into_iter().map(|list| outputs::find(list, order)).find(|found| !found.is_empty());
        if let Some(named) = found {
            return (named, 0);
        }
        let own = |index| self.content_url(&reference.0, index).into();
        ((0..order.max_outputs).map(own).collect(), order.max_outputs)
    }
}

impl provider::Provider for OpenRouter {
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
            cancel: false,
            progress: false,
            queue_position: false,
            webhook: false,
            in_process: false,
        }
    }

    fn file_forms(&self) -> FileForms {
        FileForms { max_data: MAX_DATA, max_upload: 0, link: true }
    }

    fn submit<'a>(&'a self, order: &'a Order, input: &'a Input) -> BoxFuture<'a, Result<Reference, Trouble>> {
        async move {
            let mut body = input.json.clone();
            body.insert("model".to_owned(), order.model.clone().into());
            let url = self.api.url(["videos"]);
            let answer = self.api.call(Operation::Submit, Method::POST, url, Some(&json!(body))).await?;
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
            let url = self.api.url(["videos", &reference.0]);
            let answer = self.api.call(Operation::Poll, Method::GET, url, None).await?;
            if !answer.status.is_success() {
                return Err(answer.poll_trouble());
            }
            self.parse_job(&answer, order, reference)
        }
        .boxed()
    }

    fn fetch<'a>(&'a self, _: &'a Reference, address: &'a str) -> BoxFuture<'a, Result<Pieces<'a>, Trouble>> {
        async move {
            match Url::parse(address) {
                Ok(url) if self.api.is_own(&url) => self.api.download_own(url).await,
                _ => self.api.download(address).await,
            }
        }
        .boxed()
    }

    fn cancel<'a>(&'a self, _: &'a Order, _: &'a Reference) -> BoxFuture<'a, Result<Stopping, Trouble>> {
        async { Ok(Stopping::Unable) }.boxed()
    }

    /// The list of video models says whether it has this one; the key's own address whether the key is taken.
    fn probe<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<(), Trouble>> {
        async move {
            let key = self.api.call(Operation::Probe, Method::GET, self.api.url(["key"]), None).await?;
            if matches!(key.status.as_u16(), 401..=403) {
                return Err(key.poll_trouble());
            }
            let answer = self.api.call(Operation::Probe, Method::GET, self.api.url(["videos", "models"]), None).await?;
            if !answer.status.is_success() {
                return Err(answer.poll_trouble());
            }
            let list = answer.json();
            let models = list["data"].as_array().map(Vec::as_slice).unwrap_or_default();
            let known =
                models.is_empty() || models.iter().any(|one| one["id"] == model || one["canonical_slug"] == model);
            if known {
                return Ok(());
            }
            Err(Trouble::new(CallOutcome::ModelRefused, format!("OpenRouter lists no video model {model}")))
        }
        .boxed()
    }

    fn poll_interval(&self) -> Duration {
        Duration::from_secs(10)
    }

    fn forget(&self, _: &Reference) {}
}

/// What it cost, in dollars; by a key of one's own at the model's maker it is that maker who charges.
fn parse_usage(job: &Value) -> Usage {
    let micros = job["usage"]["cost"].as_f64().map(|cost| (cost * 1e6).round());
    let micros = micros.filter(|micros| (0.0..=1e15).contains(micros) && job["usage"]["is_byok"] != true);
    Usage { cost_micros: micros.map(|micros| micros as i64), ..Usage::default() }
}

fn working() -> OrderStatus {
    OrderStatus::Working { percent: 0, stage: "rendering" }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;
    use crate::model::MediaKind;

    fn read(body: &Value) -> Result<OrderStatus, CallOutcome> {
        let config = config::OpenRouter {
            url: Url::parse("https://openrouter.ai/api/v1").unwrap(),
            keys: vec![config::ProviderKey::new(Provider::OpenRouter, "Bearer", "key").unwrap()],
        };
        let (status, headers, credential) = (StatusCode::OK, HeaderMap::new(), String::new());
        let answer = Answer { status, headers, body: body.to_string().into(), credential };
        let order = outputs::tests::order(MediaKind::Video, 4, None);
        let job = Reference("job-1".to_owned());
        OpenRouter::each(&config).unwrap()[0].parse_job(&answer, &order, &job).map_err(|trouble| trouble.outcome)
    }

    #[tokio::test]
    async fn the_documented_states_are_understood_and_any_other_is_work() {
        let made = |addresses: &[&str], unnamed, cost_micros| {
            let addresses: Vec<_> = addresses.iter().map(|address| (*address).to_owned()).collect();
            let (usage, moderation) = (Usage { cost_micros, ..Usage::default() }, vec![None; addresses.len()]);
            Ok(OrderStatus::Done(Made { addresses, unnamed, usage, moderation }))
        };
        let done = |addresses: &[&str], cost_micros| made(addresses, 0, cost_micros);
        let (stored, own) =
            ("https://storage.test/v.mp4?sig=1", "https://openrouter.ai/api/v1/videos/job-1/content?index=0");
        assert_eq!(
            read(&json!({"status": "completed", "unsigned_urls": [stored], "usage": {"cost": 0.5, "is_byok": false}})),
            done(&[stored], Some(500_000))
        );
        let both = json!({"status": "completed", "urls": [stored], "unsigned_urls": [own], "usage": {"cost": 0.5, "is_byok": true}});
        assert_eq!(read(&both), done(&[stored], None), "what the model's maker charges is not said");
        // Four were ordered.
        let each: Vec<_> = (0..4).map(|index| own.replace("index=0", &format!("index={index}"))).collect();
        let each: Vec<&str> = each.iter().map(String::as_str).collect();
        for nothing in [json!({"status": "completed"}), json!({"status": "completed", "unsigned_urls": []})] {
            assert_eq!(read(&nothing), made(&each, 4, None));
        }
        assert_eq!(read(&json!({"status": "pending"})), Ok(OrderStatus::Waiting { position: None }));
        for word in ["in_progress", "musing", ""] {
            assert_eq!(read(&json!({"status": word})), Ok(working()), "{word}");
        }
        for (body, outcome) in [
            (json!({"status": "failed", "error": "upstream 500"}), CallOutcome::Failed(Charge::Unknown)),
            (json!({"status": "failed", "error": "blocked by content moderation"}), CallOutcome::SafetyRefused),
            (json!({"status": "cancelled"}), CallOutcome::Stopped(Charge::Unknown)),
            (json!({"status": "expired"}), CallOutcome::TimedOut(Charge::Unknown)),
            (json!({"id": "job-1"}), CallOutcome::Unreadable),
        ] {
            assert_eq!(read(&body), Err(outcome), "{body}");
        }
    }
}
