//! Connections: how requests are read and replies written.
//!
//! Invariant: a cut is a connection that ends without a byte of an answer, or in the middle of a file.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

/// The longest request, in bytes.
const MAX_BODY: usize = 160 << 20;

/// A request to one of the protocols, read whole.
pub(crate) struct ApiRequest {
    pub(crate) method: Method,
    /// The path below the protocol's own.
    pub(crate) path: Vec<String>,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    /// The body as it came.
    pub(crate) raw: Bytes,
}

impl ApiRequest {
    /// The idempotency key that came with it.
    pub(crate) fn key(&self) -> Option<String> {
        Some(self.headers.get("idempotency-key")?.to_str().ok()?.to_owned())
    }

    /// The token that it shows after this scheme.
    pub(crate) fn token(&self, scheme: &str) -> Option<&str> {
        let given = self.headers.get(http::header::AUTHORIZATION)?.to_str().ok()?;
        given.strip_prefix(scheme)?.strip_prefix(' ')
    }
}

/// What is answered.
pub(crate) enum Reply {
    Json(u16, Value),
    /// 200, with what it is counted as.
    Billed(Value, &'static str),
    /// 429 with Retry-After.
    Throttled(Value),
    /// A page for people.
    Html(u16),
    Plain(u16, &'static str),
    /// 302.
    Moved(String),
    File(FileBody),
    Cut,
}

/// A body that is written as it comes.
pub(crate) struct FileBody {
    content_type: &'static str,
    /// The length that is announced.
    length: Option<u64>,
    pieces: mpsc::Receiver<Result<Bytes, Cut>>,
}

impl FileBody {
    /// One piece.
    pub(crate) fn whole(content_type: &'static str, bytes: Bytes) -> Self {
        let length = Some(bytes.len() as u64);
        let (sender, pieces) = mpsc::channel(1);
        // The channel is empty and open; an empty body has no piece.
        let _ = if bytes.is_empty() { Ok(()) } else { sender.try_send(Ok(bytes)) };
        Self { content_type, length, pieces }
    }

    /// What a task of its own sends.
    pub(crate) fn sent<T>(content_type: &'static str, length: Option<u64>, task: impl FnOnce(Pieces) -> T) -> Self
    where
        T: Future<Output = ()> + Send + 'static,
    {
        let (sender, pieces) = mpsc::channel(1);
        tokio::spawn(task(Pieces(sender)));
        Self { content_type, length, pieces }
    }
}

/// Where the pieces of a body are sent.
pub(crate) struct Pieces(mpsc::Sender<Result<Bytes, Cut>>);

impl Pieces {
    /// Sends one; says whether anybody still reads.
    pub(crate) async fn send(&self, piece: Bytes) -> bool {
        self.0.send(Ok(piece)).await.is_ok()
    }

    /// Ends the connection once what was sent has left.
    pub(crate) async fn cut(self) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        // Nobody reads any more: then it has ended already.
        let _ = self.0.send(Err(Cut)).await;
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.pieces.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

/// The whole body; nothing when it breaks off or is too long.
pub(crate) async fn read_body(body: Incoming) -> Option<Bytes> {
    Some(Limited::new(body, MAX_BODY).collect().await.ok()?.to_bytes())
}

/// Serves for ever. While `refusing` is not zero nobody can connect, and every connection ends.
pub(crate) async fn serve<F, R>(mut listener: TcpListener, refusing: watch::Receiver<usize>, reply: F)
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Reply> + Send,
{
    let Ok(address) = listener.local_addr() else { return };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = becomes(refusing.clone(), true) => {
                drop(listener);
                becomes(refusing.clone(), false).await;
                listener = loop {
                    match TcpListener::bind(address).await {
                        Ok(listener) => break listener,
                        Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                    }
                };
                continue;
            }
        };
        let Ok((stream, _)) = accepted else { continue };
        let (reply, refusing) = (reply.clone(), refusing.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let service = service_fn(|request| async { to_response(reply(request).await) });
            tokio::select! {
                // An error is how a cut ends a connection.
                _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service) => {}
                () = becomes(refusing, true) => {}
            }
        });
    }
}

/// Waits until connections are refused, or until they are not.
async fn becomes(mut refusing: watch::Receiver<usize>, refused: bool) {
    let changed = refusing.wait_for(|count| (*count > 0) == refused).await.map(drop);
    if changed.is_err() {
        // Nobody is left who could change it.
        std::future::pending::<()>().await;
    }
}

/// The connection is to end.
#[derive(Debug)]
pub(crate) struct Cut;

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

fn to_response(reply: Reply) -> Result<Response<FileBody>, Cut> {
    let (status, mut header, body) = match reply {
        Reply::Cut => return Err(Cut),
        Reply::File(body) => (200, None, body),
        Reply::Moved(to) => (302, Some((LOCATION, to)), FileBody::whole("text/plain", Bytes::new())),
        Reply::Html(status) => (status, None, FileBody::whole("text/html", page(status).into())),
        Reply::Plain(status, text) => {
            (status, None, FileBody::whole("text/plain", Bytes::from_static(text.as_bytes())))
        }
        Reply::Billed(body, units) => {
            (200, Some((HeaderName::from_static("x-fal-billable-units"), units.to_owned())), json(&body))
        }
        Reply::Throttled(body) => (429, Some((RETRY_AFTER, "1".to_owned())), json(&body)),
        Reply::Json(status, body) => (status, None, json(&body)),
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let (content_type, length) = (response.body().content_type, response.body().length);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    if let Some((name, value)) = header.take()
        && let Ok(value) = HeaderValue::try_from(value)
    {
        headers.insert(name, value);
    }
    Ok(response)
}

fn json(body: &Value) -> FileBody {
    FileBody::whole("application/json", body.to_string().into())
}

/// A page that somebody on the way shows to people.
fn page(status: u16) -> String {
    let text = "We are looking into it. Please come back in a few minutes.";
    format!("<!DOCTYPE html>\n<html><head><title>{status}</title></head><body><h1>{text}</h1></body></html>\n")
}
