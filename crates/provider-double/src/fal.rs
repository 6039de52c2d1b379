//! fal's protocol: its queue, <https://docs.fal.ai/documentation/model-apis/inference/queue>.

use std::sync::Arc;

use http::Method;
use serde_json::json;
use url::{Url, form_urlencoded};

use crate::order::Protocol;
use crate::orders::Orders;
use crate::server::{ApiRequest, Reply};
use crate::{injection, presenters};

/// Answers a request below `/fal`.
pub(crate) async fn reply(orders: &Arc<Orders>, request: &ApiRequest) -> Reply {
    if !request.is_authorized("Key", orders.token()) {
        return Reply::Json(401, json!({"detail": "Authentication is required"}));
    }
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    match (&request.method, path.as_slice()) {
        // The app is two parts; the endpoint's own path is not in the address of a request.
        (method, [_, _, "requests", id, action @ ..]) => {
            injection::unavailable(orders).unwrap_or_else(|| show_or_cancel(orders, method, id, action))
        }
        (&Method::POST, [_, _, ..]) => submit(orders, request).await,
        _ => Reply::Json(404, json!({"detail": "Application not found"})),
    }
}

fn show_or_cancel(orders: &Arc<Orders>, method: &Method, id: &str, action: &[&str]) -> Reply {
    let missing = Reply::Json(404, json!({"detail": "Request not found"}));
    match (method, action, orders.find(Protocol::Fal, id)) {
        (&Method::GET, ["status"], Some(order)) => Reply::Json(200, presenters::queue_status(&order)),
        (&Method::GET, [], Some(order)) if order.state.is_over() => {
            let (status, body) = presenters::queue_result(&order, orders.address());
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

async fn submit(orders: &Arc<Orders>, request: &ApiRequest) -> Reply {
    let prompt = request.body["prompt"].as_str().unwrap_or_default();
    let mut query = form_urlencoded::parse(request.query.as_bytes());
    let webhook = query.find(|(name, _)| name == "fal_webhook").and_then(|(_, text)| Url::parse(&text).ok());
    let app = request.path.join("/");
    let take = || {
        let order = orders.take(Protocol::Fal, prompt, webhook, request.key());
        let at = |action: &str| format!("http://{}/fal/{app}/requests/{}{action}", orders.address(), order.id);
        let body = json!({
            "status": "IN_QUEUE", "request_id": order.id, "queue_position": 0,
            "response_url": at(""), "status_url": at("/status"), "cancel_url": at("/cancel"),
        });
        (200, body)
    };
    injection::submission(orders, prompt, take).await
}
