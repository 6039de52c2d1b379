//! A box that speaks Cog's predictions: <https://github.com/replicate/cog/blob/main/docs/http.md>, and a `GET` beside them, as
//! generation-worker's README asks for.

use std::sync::Arc;

use http::Method;
use serde_json::json;

use crate::order::{Protocol, Wrong};
use crate::orders::{Orders, Request};
use crate::server::{ApiRequest, Reply};
use crate::{injection, presenters, refusals};

const PROTOCOL: Protocol = Protocol::Cog;

/// Answers a request below `/cog`, whose first part is the box's name.
pub(crate) async fn reply(orders: &Arc<Orders>, request: &ApiRequest) -> Reply {
    let token = match injection::admit(orders, request, PROTOCOL, "Bearer") {
        Ok(token) => token,
        Err(reply) => return reply,
    };
    let path: Vec<&str> = request.path.iter().map(String::as_str).collect();
    match (&request.method, path.as_slice()) {
        (&Method::GET, [_, "health-check"]) => Reply::Json(200, json!({"status": "READY"})),
        (&Method::PUT, [name, "predictions", id]) => submit(orders, request, (name, id), token).await,
        (&Method::GET, [_, "predictions", id]) => injection::unavailable(orders).unwrap_or_else(|| {
            orders.polled(PROTOCOL, id).map_or_else(
                || refusals::no_order(PROTOCOL),
                |order| injection::poll(orders, &order, 200, presenters::prediction(&order, orders.address())),
            )
        }),
        (&Method::POST, [_, "predictions", id, "cancel"]) => {
            injection::unavailable(orders).unwrap_or_else(|| match orders.stop(PROTOCOL, id) {
                Some(_) => Reply::Json(200, json!({})),
                None => refusals::no_order(PROTOCOL),
            })
        }
        _ => refusals::no_path(),
    }
}

async fn submit(orders: &Arc<Orders>, request: &ApiRequest, (model, id): (&str, &str), token: usize) -> Reply {
    // The same id while it is known is the same prediction.
    if let Some(order) = orders.find(PROTOCOL, id) {
        return Reply::Json(202, presenters::prediction(&order, orders.address()));
    }
    if !request.body["input"].is_object() {
        let wrong = Wrong { field: "input".to_owned(), message: Some("Field required".to_owned()) };
        let (status, body) = refusals::wrong_field(PROTOCOL, &wrong);
        return Reply::Json(status, body);
    }
    let order = Request {
        protocol: PROTOCOL,
        model,
        input: &request.body["input"],
        webhook: None,
        key: Some(id.to_owned()),
        id: Some(id.to_owned()),
        token,
    };
    injection::submission(orders, order, |order| (202, presenters::prediction(order, orders.address()))).await
}
