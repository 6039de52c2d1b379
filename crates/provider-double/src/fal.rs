//! fal's protocol: its queue, <https://docs.fal.ai/documentation/model-apis/inference/queue>.

use std::sync::Arc;

use http::Method;
use serde_json::json;
use url::{Url, form_urlencoded};

use crate::order::{Order, Protocol};
use crate::orders::{Orders, Request};
use crate::server::{ApiRequest, Reply};
use crate::{injection, presenters, refusals};

const PROTOCOL: Protocol = Protocol::Fal;

/// Answers a request below `/fal-rest`, its storage, or `/fal-api`, its prices.
pub(crate) fn side_reply(orders: &Orders, request: &ApiRequest) -> Reply {
    if orders.token_of(request, "Key").is_none() {
        return refusals::unauthorized(PROTOCOL);
    }
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    match (&request.method, path.as_slice()) {
        (&Method::POST, ["storage", "upload", "initiate"]) => {
            orders.uploads().initiate(request, orders.address(), false)
        }
        (&Method::POST, ["storage", "upload", "initiate-multipart"]) => {
            orders.uploads().initiate(request, orders.address(), true)
        }
        (&Method::GET, ["models", "pricing"]) => {
            let mut query = form_urlencoded::parse(request.query.as_bytes());
            let id = query.find(|(name, _)| name == "endpoint_id").map(|(_, id)| id.into_owned());
            let price =
                json!({"endpoint_id": id, "unit_price": presenters::UNIT_PRICE, "unit": "video", "currency": "USD"});
            Reply::Json(200, json!({"prices": [price], "has_more": false}))
        }
        _ => refusals::no_path(),
    }
}

/// Answers a request below `/fal`.
pub(crate) async fn reply(orders: &Arc<Orders>, request: &ApiRequest) -> Reply {
    let token = match injection::admit(orders, request, PROTOCOL, "Key") {
        Ok(token) => token,
        Err(reply) => return reply,
    };
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    match (&request.method, path.as_slice()) {
        // The app is two parts; the endpoint's own path is not in the address of a request.
        (method, [_, _, "requests", id, action @ ..]) => {
            injection::unavailable(orders).unwrap_or_else(|| poll_or_cancel(orders, method, id, action))
        }
        (&Method::POST, [_, _, ..]) => submit(orders, request, token).await,
        _ => refusals::no_model(PROTOCOL),
    }
}

fn poll_or_cancel(orders: &Arc<Orders>, method: &Method, id: &str, action: &[&str]) -> Reply {
    match (method, action) {
        (&Method::GET, ["status"]) => match orders.polled(PROTOCOL, id) {
            // What befalls its result leaves its status as it is.
            Some(order) => {
                let order = Order { results: 0, ..order };
                injection::poll(orders, &order, 200, presenters::queue_status(&order))
            }
            None => refusals::no_order(PROTOCOL),
        },
        (&Method::GET, []) => match orders.result(PROTOCOL, id) {
            Some(order) if order.state.is_over() => {
                let (status, body) = presenters::queue_result(&order, orders.address());
                match injection::poll(orders, &order, status, body) {
                    Reply::Json(200, body) => Reply::Billed(body, presenters::UNITS),
                    other => other,
                }
            }
            Some(_) => Reply::Json(400, json!({"detail": "Request is still in progress"})),
            None => refusals::no_order(PROTOCOL),
        },
        (&Method::PUT, ["cancel"]) => cancel(orders, id),
        _ => refusals::no_order(PROTOCOL),
    }
}

fn cancel(orders: &Orders, id: &str) -> Reply {
    if let Some(refused) = orders.find(PROTOCOL, id).and_then(|order| injection::cancel(&order)) {
        return refused;
    }
    match orders.stop(PROTOCOL, id) {
        Some(order) if order.state.is_over() => Reply::Json(400, json!({"status": "ALREADY_COMPLETED"})),
        Some(_) => Reply::Json(202, json!({"status": "CANCELLATION_REQUESTED"})),
        None => Reply::Json(404, json!({"status": "NOT_FOUND"})),
    }
}

async fn submit(orders: &Arc<Orders>, request: &ApiRequest, token: usize) -> Reply {
    let app = request.path.join("/");
    if !orders.has_model(&app) {
        return refusals::no_model(PROTOCOL);
    }
    let mut query = form_urlencoded::parse(request.query.as_bytes());
    let order = Request {
        protocol: PROTOCOL,
        model: &app,
        input: &request.body,
        webhook: query.find(|(name, _)| name == "fal_webhook").and_then(|(_, text)| Url::parse(&text).ok()),
        key: request.key(),
        id: None,
        token,
    };
    let present = |order: &Order| {
        let at = |action: &str| format!("http://{}/fal/{app}/requests/{}{action}", orders.address(), order.id);
        let body = json!({
            "status": "IN_QUEUE", "request_id": order.id, "queue_position": 0,
            "response_url": at(""), "status_url": at("/status"), "cancel_url": at("/cancel"),
        });
        (200, body)
    };
    injection::submission(orders, order, present).await
}
