//! Replicate's protocol: <https://replicate.com/docs/reference/http>, as far as predictions go.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};
use url::Url;

use crate::order::Protocol;
use crate::orders::Orders;
use crate::server::{ApiRequest, Reply};
use crate::{injection, presenters};

/// Answers a request below `/replicate`.
pub(crate) async fn reply(orders: &Arc<Orders>, request: &ApiRequest) -> Reply {
    if !request.is_authorized("Bearer", orders.token()) {
        return Reply::Json(401, json!({"title": "Unauthenticated", "status": 401}));
    }
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    match (&request.method, path.as_slice()) {
        (&Method::POST, ["v1", "models", _, _, "predictions"]) => submit(orders, request).await,
        (&Method::POST, ["v1", "predictions"]) if request.body["version"].is_string() => submit(orders, request).await,
        (&Method::GET, ["v1", "predictions", id]) => injection::unavailable(orders).unwrap_or_else(|| show(orders, id)),
        (&Method::POST, ["v1", "predictions", id, "cancel"]) => injection::unavailable(orders).unwrap_or_else(|| {
            orders.stop(Protocol::Replicate, id);
            show(orders, id)
        }),
        _ => missing(),
    }
}

async fn submit(orders: &Arc<Orders>, request: &ApiRequest) -> Reply {
    let input = &request.body["input"];
    if !input.is_object() {
        let detail = "- input: input is required\n";
        return Reply::Json(422, json!({"title": "Input validation failed", "detail": detail, "status": 422}));
    }
    let prompt = input["prompt"].as_str().unwrap_or_default();
    let webhook = request.body["webhook"].as_str().and_then(|text| Url::parse(text).ok());
    let take = || -> (u16, Value) {
        let order = orders.take(Protocol::Replicate, prompt, webhook, request.key());
        (201, presenters::prediction(&order, orders.address()))
    };
    injection::submission(orders, prompt, take).await
}

fn show(orders: &Orders, id: &str) -> Reply {
    match orders.find(Protocol::Replicate, id) {
        Some(order) => Reply::Json(200, presenters::prediction(&order, orders.address())),
        None => missing(),
    }
}

fn missing() -> Reply {
    Reply::Json(404, json!({"detail": "The requested resource could not be found.", "status": 404}))
}
