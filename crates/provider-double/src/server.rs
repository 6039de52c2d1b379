//! Connections: how requests are read and replies written.
//!
//! Invariant: a cut is a connection that ends without a byte of an answer.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

/// The longest request, in bytes.
const MAX_BODY: usize = 1 << 20;

/// A request to one of the two protocols, read whole.
pub(crate) struct ApiRequest {
    pub(crate) method: Method,
    /// The path below the protocol's own.
    pub(crate) path: Vec<String>,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl ApiRequest {
    /// The idempotency key that came with it.
    pub(crate) fn key(&self) -> Option<String> {
        Some(self.headers.get("idempotency-key")?.to_str().ok()?.to_owned())
    }

    /// Whether it shows `{scheme} {token}`.
    pub(crate) fn is_authorized(&self, scheme: &str, token: &str) -> bool {
        let expected = format!("{scheme} {token}");
        self.headers.get(http::header::AUTHORIZATION).is_some_and(|given| given == expected.as_str())
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

/// The whole body; nothing when it breaks off or is too long.
pub(crate) async fn read_body(body: Incoming) -> Option<Bytes> {
    Some(Limited::new(body, MAX_BODY).collect().await.ok()?.to_bytes())
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
            let service = service_fn(|request| async { to_response(reply(request).await) });
            // An error is how a cut ends a connection.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
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

fn to_response(reply: Reply) -> Result<Response<Full<Bytes>>, Cut> {
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
