//! OpenRouter's video API: <https://openrouter.ai/docs/api/api-reference/video-generation/create-videos>, `/get-videos` and
//! `/list-videos-content`.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::order::Protocol;
use crate::orders::{Orders, Request};
use crate::server::{ApiRequest, Reply};
use crate::{files, injection, presenters, refusals};

const PROTOCOL: Protocol = Protocol::OpenRouter;

/// Answers a request below `/openrouter`.
pub(crate) async fn reply(orders: &Arc<Orders>, request: &ApiRequest) -> Reply {
    let token = match injection::admit(orders, request, PROTOCOL, "Bearer") {
        Ok(token) => token,
        Err(reply) => return reply,
    };
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    match (&request.method, path.as_slice()) {
        (&Method::POST, ["api", "v1", "videos"]) => submit(orders, request, token).await,
        (&Method::GET, ["api", "v1", "key"]) => Reply::Json(200, json!({"data": {"label": "double"}})),
        (&Method::GET, ["api", "v1", "videos", "models"]) => {
            let models: Vec<Value> = orders.models().iter().map(|model| json!({"id": model})).collect();
            Reply::Json(200, json!({"data": models}))
        }
        (&Method::GET, ["api", "v1", "videos", id]) => injection::unavailable(orders).unwrap_or_else(|| {
            orders.polled(PROTOCOL, id).map_or_else(
                || refusals::no_order(PROTOCOL),
                |order| injection::poll(orders, &order, 200, presenters::job(&order, orders.address())),
            )
        }),
        (&Method::GET, ["api", "v1", "videos", id, "content"]) => content(orders, request, id),
        _ => refusals::no_path(),
    }
}

fn content(orders: &Orders, request: &ApiRequest, id: &str) -> Reply {
    let mut query = form_urlencoded::parse(request.query.as_bytes());
    let index = query.find(|(name, _)| name == "index").and_then(|(_, index)| index.parse().ok()).unwrap_or(0);
    match orders.find(PROTOCOL, id) {
        Some(order) if order.state.is_over() && index < order.outputs => {
            files::reply(orders, &crate::video::file_name(&order, index), false)
        }
        _ => refusals::no_order(PROTOCOL),
    }
}

async fn submit(orders: &Arc<Orders>, request: &ApiRequest, token: usize) -> Reply {
    let Some(model) = request.body["model"].as_str() else {
        return Reply::Json(400, json!({"error": {"code": 400, "message": "model: Required"}}));
    };
    if !orders.has_model(model) {
        return refusals::no_model(PROTOCOL);
    }
    let mut input = request.body.clone();
    if let Some(fields) = input.as_object_mut() {
        fields.remove("model");
    }
    let order = Request { protocol: PROTOCOL, model, input: &input, webhook: None, key: None, id: None, token };
    let present = |order: &crate::order::Order| {
        (202, json!({"id": order.id, "polling_url": format!("/api/v1/videos/{}", order.id), "status": "pending"}))
    };
    injection::submission(orders, order, present).await
}
