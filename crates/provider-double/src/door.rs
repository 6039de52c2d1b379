//! The port: connections, and which protocol a request is for.
//!
//! Invariant: a cut is a connection that ends without a byte of an answer.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::orders::{Orders, Reception};
use crate::{fal, replicate};

/// The longest request, in bytes.
pub(crate) const BODY: usize = 1 << 20;

/// A request, read whole.
pub(crate) struct Asked {
    pub(crate) method: Method,
    /// The path below the protocol's own.
    pub(crate) path: Vec<String>,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Asked {
    pub(crate) fn prompt(&self, of: &Value) -> String {
        of["prompt"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn key(&self) -> Option<String> {
        Some(self.headers.get("idempotency-key")?.to_str().ok()?.to_owned())
    }
}

/// What is answered.
pub(crate) enum Reply {
    Json(u16, Value),
    /// 429 with Retry-After.
    Throttled,
    Video(Bytes),
    Cut,
}

/// Serves for ever.
pub(crate) async fn serve<F, R>(listener: TcpListener, reply: F)
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Reply> + Send,
{
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let reply = reply.clone();
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let service = service_fn(|request| async { answered(reply(request).await) });
            // An error is how a cut ends a connection.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

pub(crate) async fn reply(orders: &Arc<Orders>, request: Request<Incoming>) -> Reply {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY).collect().await else { return Reply::Cut };
    let mut path: Vec<_> = parts.uri.path().split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    if path.is_empty() {
        return Reply::Json(404, json!({"detail": "Not found"}));
    }
    let first = path.remove(0);
    let asked = Asked {
        method: parts.method,
        path,
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: parts.headers,
        body: serde_json::from_slice(&body.to_bytes()).unwrap_or_default(),
    };
    match first.as_str() {
        "replicate" => replicate::answer(orders, asked).await,
        "fal" => fal::answer(orders, asked).await,
        "fal-keys" => Reply::Json(200, orders.signer.key_set()),
        "videos" if orders.blind() => Reply::Json(503, Value::Null),
        "videos" => {
            let id = asked.path.first().map(|name| name.trim_end_matches(".mp4")).unwrap_or_default();
            Reply::Video(orders.video(id))
        }
        _ => Reply::Json(404, json!({"detail": "Not found"})),
    }
}

/// A look, a cancel or a download that goes wrong.
pub(crate) fn trouble(orders: &Orders) -> Option<Reply> {
    orders.blind().then(|| if orders.cut() { Reply::Cut } else { Reply::Json(500, Value::Null) })
}

/// What is answered to a request for an order; `take` takes it.
pub(crate) async fn received(orders: &Orders, prompt: &str, take: impl FnOnce() -> (u16, Value)) -> Reply {
    match orders.reception(prompt) {
        Reception::CutBefore => Reply::Cut,
        Reception::Throttled => Reply::Throttled,
        Reception::CutAfter => {
            take();
            Reply::Cut
        }
        Reception::ErrorAfter => {
            take();
            Reply::Json(502, Value::Null)
        }
        Reception::Late(by) => {
            let (status, body) = take();
            tokio::time::sleep(by).await;
            Reply::Json(status, body)
        }
        Reception::Fine => {
            let (status, body) = take();
            Reply::Json(status, body)
        }
    }
}

/// The connection is to end.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("cut")
    }
}

impl std::error::Error for Cut {}

impl From<Infallible> for Cut {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

fn answered(reply: Reply) -> Result<Response<Full<Bytes>>, Cut> {
    let mut response = Response::new(Full::default());
    match reply {
        Reply::Cut => return Err(Cut),
        Reply::Video(bytes) => *response.body_mut() = Full::new(bytes),
        Reply::Throttled => {
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            response.headers_mut().insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("1"));
        }
        Reply::Json(status, body) => {
            *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            *response.body_mut() = Full::new(body.to_string().into());
        }
    }
    Ok(response)
}
