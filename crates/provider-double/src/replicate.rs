//! Replicate's protocol: <https://replicate.com/docs/reference/http>, as far as predictions go, and models and the account as far as
//! a client asks whether they are there.

use std::sync::Arc;

use http::Method;
use serde_json::json;
use url::Url;

use crate::order::Protocol;
use crate::orders::{Orders, Request};
use crate::server::{ApiRequest, Reply};
use crate::{injection, presenters, refusals};

const PROTOCOL: Protocol = Protocol::Replicate;

/// Answers a request below `/replicate`.
pub(crate) async fn reply(orders: &Arc<Orders>, request: &ApiRequest) -> Reply {
    let token = match injection::admit(orders, request, PROTOCOL, "Bearer") {
        Ok(token) => token,
        Err(reply) => return reply,
    };
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    match (&request.method, path.as_slice()) {
        (&Method::POST, ["v1", "models", owner, name, "predictions"]) => {
            submit(orders, request, &format!("{owner}/{name}"), token).await
        }
        (&Method::POST, ["v1", "predictions"]) if request.body["version"].is_string() => {
            submit(orders, request, request.body["version"].as_str().unwrap_or_default(), token).await
        }
        (&Method::GET, ["v1", "predictions", id]) => injection::unavailable(orders).unwrap_or_else(|| poll(orders, id)),
        (&Method::POST, ["v1", "predictions", id, "cancel"]) => {
            injection::unavailable(orders).unwrap_or_else(|| cancel(orders, id))
        }
        (&Method::GET, ["v1", "models", owner, name]) if orders.has_model(&format!("{owner}/{name}")) => {
            Reply::Json(200, json!({"owner": owner, "name": name, "visibility": "public", "latest_version": null}))
        }
        (&Method::POST, ["v1", "files"]) => orders.uploads().create(request, orders.address()),
        (&Method::GET, ["v1", "account"]) => Reply::Json(200, json!({"type": "organization", "username": "double"})),
        _ => refusals::no_order(PROTOCOL),
    }
}

async fn submit(orders: &Arc<Orders>, request: &ApiRequest, model: &str, token: usize) -> Reply {
    let input = &request.body["input"];
    if !orders.has_model(model) {
        return refusals::no_model(PROTOCOL);
    }
    if !input.is_object() {
        let detail = "- input: input is required\n";
        return Reply::Json(422, json!({"title": "Input validation failed", "detail": detail, "status": 422}));
    }
    let order = Request {
        protocol: PROTOCOL,
        model,
        input,
        webhook: request.body["webhook"].as_str().and_then(|text| Url::parse(text).ok()),
        key: request.key(),
        id: None,
        token,
    };
    injection::submission(orders, order, |order| (201, presenters::prediction(order, orders.address()))).await
}

fn poll(orders: &Orders, id: &str) -> Reply {
    match orders.polled(PROTOCOL, id) {
        Some(order) => injection::poll(orders, &order, 200, presenters::prediction(&order, orders.address())),
        None => refusals::no_order(PROTOCOL),
    }
}

fn cancel(orders: &Orders, id: &str) -> Reply {
    let Some(order) = orders.find(PROTOCOL, id) else { return refusals::no_order(PROTOCOL) };
    if let Some(refused) = injection::cancel(&order) {
        return refused;
    }
    orders.stop(PROTOCOL, id);
    match orders.find(PROTOCOL, id) {
        Some(order) => Reply::Json(200, presenters::prediction(&order, orders.address())),
        None => refusals::no_order(PROTOCOL),
    }
}
