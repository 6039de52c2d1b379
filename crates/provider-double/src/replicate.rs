//! Replicate's side: <https://replicate.com/docs/reference/http>, as far as predictions go.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};
use url::Url;

use crate::bill::Protocol;
use crate::door::{Asked, Reply, received, trouble};
use crate::orders::{Order, Orders, State};

pub(crate) async fn answer(orders: &Arc<Orders>, asked: Asked) -> Reply {
    let wanted = format!("Bearer {}", orders.settings.token);
    if asked.headers.get("authorization").is_none_or(|given| given != wanted.as_str()) {
        return Reply::Json(401, json!({"title": "Unauthenticated", "status": 401}));
    }
    let path: Vec<&str> = asked.path.iter().map(String::as_str).collect();
    match (&asked.method, path.as_slice()) {
        (&Method::POST, ["v1", "models", _, _, "predictions"]) => create(orders, &asked).await,
        (&Method::POST, ["v1", "predictions"]) if asked.body["version"].is_string() => create(orders, &asked).await,
        (&Method::GET, ["v1", "predictions", id]) => {
            if let Some(trouble) = trouble(orders) {
                return trouble;
            }
            found(orders, orders.find(Protocol::Replicate, id))
        }
        (&Method::POST, ["v1", "predictions", id, "cancel"]) => {
            if let Some(trouble) = trouble(orders) {
                return trouble;
            }
            orders.stop(Protocol::Replicate, id);
            found(orders, orders.find(Protocol::Replicate, id))
        }
        _ => Reply::Json(404, json!({"detail": "The requested resource could not be found.", "status": 404})),
    }
}

async fn create(orders: &Arc<Orders>, asked: &Asked) -> Reply {
    let input = &asked.body["input"];
    if !input.is_object() {
        let detail = "- input: input is required\n";
        return Reply::Json(422, json!({"title": "Input validation failed", "detail": detail, "status": 422}));
    }
    let prompt = asked.prompt(input);
    let hook = asked.body["webhook"].as_str().and_then(|text| Url::parse(text).ok());
    let take = || {
        let order = orders.take(Protocol::Replicate, &prompt, hook, asked.key());
        (201, shown(orders, &order))
    };
    received(orders, &prompt, take).await
}

fn found(orders: &Orders, order: Option<Order>) -> Reply {
    match order {
        Some(order) => Reply::Json(200, shown(orders, &order)),
        None => Reply::Json(404, json!({"detail": "The requested resource could not be found.", "status": 404})),
    }
}

/// A prediction as it is answered and sent.
pub(crate) fn shown(orders: &Orders, order: &Order) -> Value {
    let status = match order.state {
        State::Waiting => "starting",
        State::Working if order.fate.unknown_word => "contemplating",
        State::Working => "processing",
        State::Made => "succeeded",
        State::Failed | State::Unsafe => "failed",
        State::Stopped => "canceled",
    };
    let error = match order.state {
        State::Failed => json!("CUDA out of memory"),
        State::Unsafe => json!("NSFW content detected"),
        _ => Value::Null,
    };
    let output = if order.state == State::Made { json!(orders.video_address(&order.id)) } else { Value::Null };
    json!({
        "id": order.id, "status": status, "output": output, "error": error, "logs": "",
        "created_at": "2026-01-01T00:00:00Z",
        "started_at": order.begun.then_some("2026-01-01T00:00:01Z"),
        "completed_at": order.state.is_over().then_some("2026-01-01T00:00:02Z"),
        "metrics": {},
    })
}
