//! Which part of the double a path belongs to.

use std::sync::Arc;

use http::Request;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::orders::Orders;
use crate::server::{ApiRequest, Reply, read_body};
use crate::{fal, replicate, video};

/// Answers one request.
pub(crate) async fn reply(orders: &Arc<Orders>, request: Request<Incoming>) -> Reply {
    let (parts, body) = request.into_parts();
    let Some(body) = read_body(body).await else { return Reply::Cut };
    let mut path: Vec<_> = parts.uri.path().split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    if path.is_empty() {
        return Reply::Json(404, json!({"detail": "Not found"}));
    }
    let first = path.remove(0);
    let request = ApiRequest {
        method: parts.method,
        path,
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    match first.as_str() {
        "replicate" => replicate::reply(orders, &request).await,
        "fal" => fal::reply(orders, &request).await,
        "fal-keys" => Reply::Json(200, orders.key_set()),
        "videos" if orders.chance().is_unavailable() => Reply::Json(503, Value::Null),
        "videos" => {
            let id = request.path.first().map(|name| name.trim_end_matches(".mp4")).unwrap_or_default();
            Reply::Video(video::bytes(id))
        }
        _ => Reply::Json(404, json!({"detail": "Not found"})),
    }
}
