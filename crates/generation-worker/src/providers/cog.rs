//! Boxes of one's own that speak Cog's predictions: three calls, `PUT`, `GET` and `POST …/cancel` of `/predictions/{id}`.
//!
//! The shape is that of <https://github.com/replicate/cog/blob/main/docs/http.md>, read on 2026-11-28: asynchronous creation by
//! `Prefer: respond-async`, `PUT` of an id that runs answers its state, `409` where every slot is taken. Cog itself answers no
//! `GET`, so that a box needs one beside it: it answers the prediction, also after its end, and `404` for one that it does not know.
//! Its webhooks are signed by nobody, so none are asked for.
//!
//! Invariant: the id is the job's, so that an order can be found by it, and a second `PUT` makes no second one while the first is
//! known. Nothing is charged by a box of one's own.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::provider::Provider;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde_json::json;

use super::api::{Answer, Api, Operation};
use super::{moderation, outputs, refusals};
use crate::model::{
    Abilities, CallOutcome, Charge, FileForms, Input, Made, Order, OrderStatus, Reference, Stopping, Trouble, Usage,
};
use crate::provider::{self, Pieces};
use crate::{config, events};

const NAME: &str = Provider::Cog.as_str();
/// The longest answer that is read, in bytes: a box answers its output as a `data:` URI unless it is given a place for it.
const MAX_ANSWER: usize = 128 << 20;
/// The largest file that is put into an input.
const MAX_DATA: u64 = 32 << 20;
const PREFER: HeaderName = HeaderName::from_static("prefer");
const RESPOND_ASYNC: HeaderValue = HeaderValue::from_static("respond-async");

/// All boxes. An order's model is the name of one, or begins with it and a slash; a name that no box has is the nameless box's.
#[derive(Clone, Debug)]
pub struct Cog {
    boxes: BTreeMap<String, Api>,
}

impl Cog {
    /// Orders from the boxes of the settings.
    ///
    /// # Errors
    /// When no client can be built.
    pub fn new(config: &BTreeMap<String, config::CogBox>) -> anyhow::Result<Self> {
        let mut boxes = BTreeMap::new();
        for (name, config) in config {
            let api = Api::new(NAME, config.url.clone(), config.authorization.clone())?.with_max_answer(MAX_ANSWER);
            boxes.insert(name.clone(), api);
        }
        Ok(Self { boxes })
    }

    /// The box of a model.
    fn box_of(&self, model: &str) -> Result<&Api, Trouble> {
        let name = model.split('/').next().unwrap_or_default();
        self.boxes.get(name).or_else(|| self.boxes.get("")).ok_or_else(|| {
            Trouble::new(CallOutcome::ModelRefused, format!("no box is called {name:?}: RUSHES_COG_URL_… names them"))
        })
    }

    async fn get(&self, order: &Order, id: &str) -> Result<Answer, Trouble> {
        // Without its box an order cannot be asked about; that says nothing about the order.
        let api =
            self.box_of(&order.model).map_err(|trouble| Trouble { outcome: CallOutcome::Unavailable, ..trouble })?;
        Ok(api.call(Operation::Poll, Method::GET, api.url(["predictions", id]), None).await?)
    }
}

impl provider::Provider for Cog {
    fn name(&self) -> &'static str {
        NAME
    }

    fn abilities(&self) -> Abilities {
        Abilities {
            idempotent_submit: true,
            find_by_key: true,
            cancel: true,
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
            let api = self.box_of(&order.model)?;
            let id = order.key.to_string();
            let body = json!({ "id": id, "input": input.json });
            let headers = HeaderMap::from_iter([(PREFER, RESPOND_ASYNC)]);
            let url = api.url(["predictions", &id]);
            let answer = api.call_with(Operation::Submit, Method::PUT, url, Some(&body), headers).await?;
            match answer.status {
                status if status.is_success() => Ok(Reference(id)),
                // Every slot is taken.
                StatusCode::CONFLICT => Err(answer.trouble(CallOutcome::Throttled)),
                _ => Err(answer.submit_trouble(&order.unasked)),
            }
        }
        .boxed()
    }

    fn find<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Option<Reference>, Trouble>> {
        async move {
            let id = order.key.to_string();
            let answer = self.get(order, &id).await?;
            match answer.status {
                status if status.is_success() && answer.json()["status"].is_string() => Ok(Some(Reference(id))),
                StatusCode::NOT_FOUND => Ok(None),
                _ => Err(answer.poll_trouble()),
            }
        }
        .boxed()
    }

    fn poll<'a>(&'a self, order: &'a Order, reference: &'a Reference) -> BoxFuture<'a, Result<OrderStatus, Trouble>> {
        async move {
            let answer = self.get(order, &reference.0).await?;
            if answer.status.is_success() { parse_prediction(&answer, order) } else { Err(answer.poll_trouble()) }
        }
        .boxed()
    }

    fn fetch<'a>(&'a self, _: &'a Reference, address: &'a str) -> BoxFuture<'a, Result<Pieces<'a>, Trouble>> {
        async move {
            // Each box is at an address of the operator's choice, and so is where it puts its outputs.
            let url = url::Url::parse(address).ok();
            let own = self.boxes.values().find(|api| url.as_ref().is_some_and(|url| api.is_own(url)));
            match own.or_else(|| self.boxes.values().next()) {
                Some(api) => api.download(address).await,
                None => Err(Trouble::new(CallOutcome::FileRefused, "no box is left")),
            }
        }
        .boxed()
    }

    fn cancel<'a>(&'a self, order: &'a Order, reference: &'a Reference) -> BoxFuture<'a, Result<Stopping, Trouble>> {
        async move {
            let api = self.box_of(&order.model)?;
            let url = api.url(["predictions", &reference.0, "cancel"]);
            let answer = api.call(Operation::Cancel, Method::POST, url, None).await?;
            if answer.status.is_success() || answer.status == StatusCode::NOT_FOUND {
                return Ok(Stopping::Asked);
            }
            Err(answer.poll_trouble())
        }
        .boxed()
    }

    /// The box's health; a box that is busy is well.
    fn probe<'a>(&'a self, model: &'a str) -> BoxFuture<'a, Result<(), Trouble>> {
        async move {
            let api = self.box_of(model)?;
            let answer = api.call(Operation::Probe, Method::GET, api.url(["health-check"]), None).await?;
            let health = answer.json()["status"].as_str().unwrap_or_default().to_owned();
            match answer.status {
                status
                    if status.is_success() && !matches!(health.as_str(), "SETUP_FAILED" | "DEFUNCT" | "UNHEALTHY") =>
                {
                    Ok(())
                }
                status if status.is_success() => Err(answer.trouble(CallOutcome::Unavailable)),
                // It answers, and has no such page.
                StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Ok(()),
                _ => Err(answer.poll_trouble()),
            }
        }
        .boxed()
    }

    fn poll_interval(&self) -> Duration {
        Duration::from_secs(2)
    }

    fn forget(&self, _: &Reference) {}
}

/// What a prediction says.
fn parse_prediction(answer: &Answer, order: &Order) -> Result<OrderStatus, Trouble> {
    let prediction = answer.json();
    let Some(status) = prediction["status"].as_str() else { return Err(answer.trouble(CallOutcome::Unreadable)) };
    match status {
        "starting" => Ok(OrderStatus::Waiting { position: None }),
        "processing" => Ok(working()),
        "succeeded" => {
            let addresses = outputs::find(&prediction["output"], order);
            if addresses.is_empty() {
                return Err(answer.trouble(CallOutcome::OutputMissing));
            }
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
            let error = &prediction["error"];
            let refused = refusals::is_safety(error, &order.refusals);
            let outcome = if refused { CallOutcome::SafetyRefused } else { CallOutcome::Failed(Charge::NotCharged) };
            let said = error.as_str().map_or_else(|| error.to_string(), str::to_owned);
            Err(Trouble::new(outcome, "the prediction failed").with_evidence(answer.evidence_in(said.as_bytes())))
        }
        "canceled" | "aborted" => Err(answer.trouble(CallOutcome::Stopped(Charge::NotCharged))),
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
    use serde_json::Value;

    use super::*;
    use crate::model::MediaKind;

    fn read(body: &Value) -> Result<OrderStatus, CallOutcome> {
        let (status, headers, credential) = (StatusCode::OK, HeaderMap::new(), String::new());
        let answer = Answer { status, headers, body: body.to_string().into(), credential };
        let order = outputs::tests::order(MediaKind::Video, 4, None);
        parse_prediction(&answer, &order).map_err(|trouble| trouble.outcome)
    }

    #[test]
    fn every_state_is_understood_and_nothing_is_charged() {
        let data = "data:video/mp4;base64,AAAA";
        let made = Made {
            addresses: vec![data.to_owned()],
            usage: Usage { run_time: Some(Duration::from_millis(4_500)), ..Usage::default() },
            moderation: vec![None],
            ..Made::default()
        };
        let done = json!({"status": "succeeded", "output": data, "metrics": {"predict_time": 4.5}});
        assert_eq!(read(&done), Ok(OrderStatus::Done(made)));
        assert_eq!(read(&json!({"status": "starting"})), Ok(OrderStatus::Waiting { position: None }));
        assert_eq!(read(&json!({"status": "processing"})), Ok(working()));
        assert_eq!(read(&json!({"status": "pondering"})), Ok(working()));
        for (body, outcome) in [
            (json!({"status": "failed", "error": "CUDA out of memory"}), CallOutcome::Failed(Charge::NotCharged)),
            (json!({"status": "failed", "error": "NSFW content detected"}), CallOutcome::SafetyRefused),
            (json!({"status": "canceled"}), CallOutcome::Stopped(Charge::NotCharged)),
            (json!({"status": "succeeded", "output": null}), CallOutcome::OutputMissing),
            (json!({}), CallOutcome::Unreadable),
        ] {
            assert_eq!(read(&body), Err(outcome), "{body}");
        }
    }
}
