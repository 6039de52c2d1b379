//! Which part of the double a path belongs to.

use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use serde_json::Value;

use crate::orders::Orders;
use crate::server::{ApiRequest, FileBody, Reply, read_body};
use crate::video::{self, Format};
use crate::{admin, cog, fal, files, injection, openrouter, refusals, replicate};

/// Answers one request.
pub(crate) async fn reply(orders: &Arc<Orders>, request: Request<Incoming>) -> Reply {
    let (parts, body) = request.into_parts();
    let Some(body) = read_body(body).await else { return Reply::Cut };
    let mut path: Vec<_> = parts.uri.path().split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    if path.is_empty() {
        return refusals::no_path();
    }
    let first = path.remove(0);
    let request = ApiRequest {
        method: parts.method,
        path,
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
        raw: body,
    };
    let name = request.path.first().map(String::as_str).unwrap_or_default();
    match first.as_str() {
        "replicate" => replicate::reply(orders, &request).await,
        "fal" => fal::reply(orders, &request).await,
        "fal-rest" | "fal-api" => fal::side_reply(orders, &request),
        // Of many parts one or the other is lost.
        "fal-put" if request.path.len() > 1 => {
            injection::unavailable(orders).unwrap_or_else(|| orders.uploads().put(&request, name))
        }
        "fal-put" => orders.uploads().put(&request, name),
        "uploads" => orders.uploads().reply(name),
        "openrouter" => openrouter::reply(orders, &request).await,
        "cog" => cog::reply(orders, &request).await,
        "fal-keys" => Reply::Json(200, orders.key_set()),
        "videos" => files::reply(orders, name, false),
        "moved" => files::reply(orders, name, true),
        "pictures" => Reply::File(FileBody::whole(Format::Webp.content_type(), video::bytes(name, Format::Webp))),
        "double" => admin::reply(orders, &request),
        _ => refusals::no_path(),
    }
}
