//! fal's side: its queue, <https://docs.fal.ai/documentation/model-apis/inference/queue>.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};
use url::{Url, form_urlencoded};

use crate::bill::Protocol;
use crate::door::{Asked, Reply, received, trouble};
use crate::orders::{Order, Orders, State};

pub(crate) async fn answer(orders: &Arc<Orders>, asked: Asked) -> Reply {
    let wanted = format!("Key {}", orders.settings.token);
    if asked.headers.get("authorization").is_none_or(|given| given != wanted.as_str()) {
        return Reply::Json(401, json!({"detail": "Authentication is required"}));
    }
    let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
    match (&asked.method, path.as_slice()) {
        // The app is two parts; the endpoint's own path is not in the address of a request.
        (method, [_, _, "requests", id, more @ ..]) => {
            if let Some(trouble) = trouble(orders) {
                return trouble;
            }
            let missing = Reply::Json(404, json!({"detail": "Request not found"}));
            let order = orders.find(Protocol::Fal, id);
            match (method, more, order) {
                (&Method::GET, ["status"], Some(order)) => Reply::Json(200, status(&order)),
                (&Method::GET, [], Some(order)) if order.state.is_over() => {
                    let (status, body) = result(orders, &order);
                    Reply::Json(status, body)
                }
                (&Method::GET, [], Some(_)) => Reply::Json(400, json!({"detail": "Request is still in progress"})),
                (&Method::PUT, ["cancel"], Some(_)) => match orders.stop(Protocol::Fal, id) {
                    Some(order) if order.state.is_over() => Reply::Json(400, json!({"status": "ALREADY_COMPLETED"})),
                    Some(_) => Reply::Json(202, json!({"status": "CANCELLATION_REQUESTED"})),
                    None => missing,
                },
                (&Method::PUT, ["cancel"], None) => Reply::Json(404, json!({"status": "NOT_FOUND"})),
                _ => missing,
            }
        }
        (&Method::POST, [_, _, ..]) => submit(orders, &asked).await,
        _ => Reply::Json(404, json!({"detail": "Application not found"})),
    }
}

async fn submit(orders: &Arc<Orders>, asked: &Asked) -> Reply {
    let prompt = asked.prompt(&asked.body);
    let mut query = form_urlencoded::parse(asked.query.as_bytes());
    let hook = query.find(|(name, _)| name == "fal_webhook").and_then(|(_, text)| Url::parse(&text).ok());
    let app = asked.path.join("/");
    let take = || {
        let order = orders.take(Protocol::Fal, &prompt, hook, asked.key());
        let at = |more: &str| format!("http://{}/fal/{app}/requests/{}{more}", orders.address, order.id);
        let urls = (at(""), at("/status"), at("/cancel"));
        let body = json!({
            "status": "IN_QUEUE", "request_id": order.id, "queue_position": 0,
            "response_url": urls.0, "status_url": urls.1, "cancel_url": urls.2,
        });
        (200, body)
    };
    received(orders, &prompt, take).await
}

fn status(order: &Order) -> Value {
    let word = match order.state {
        State::Waiting => "IN_QUEUE",
        State::Working if order.fate.unknown_word => "DAYDREAMING",
        State::Working => "IN_PROGRESS",
        _ => "COMPLETED",
    };
    let mut status = json!({"status": word, "request_id": order.id});
    if order.state == State::Waiting {
        status["queue_position"] = 1.into();
    }
    status
}

/// What the result's address answers, and what a webhook carries.
pub(crate) fn result(orders: &Orders, order: &Order) -> (u16, Value) {
    match order.state {
        State::Made => {
            let video = json!({"url": orders.video_address(&order.id), "content_type": "video/mp4"});
            (200, json!({"video": video, "seed": 1}))
        }
        State::Unsafe => {
            (422, json!({"detail": [{"loc": ["body", "prompt"], "msg": "no", "type": "content_policy_violation"}]}))
        }
        State::Stopped => (499, json!({"detail": "Request was cancelled", "error_type": "client_cancelled"})),
        _ => (500, json!({"detail": "Internal Server Error", "error_type": "runner_server_error"})),
    }
}
