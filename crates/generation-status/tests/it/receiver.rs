//! A user's endpoint: an HTTP server that keeps what it is sent, answers as planned, and verifies signatures by a
//! computation of its own.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// How a webhook is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply {
    Status(u16, &'static str),
    /// To another path of the same server.
    Redirect,
    /// Not at all.
    Never,
    /// With success, and a body of which little comes and no end.
    Drip,
}

/// A webhook as it came.
pub(crate) struct Got {
    pub(crate) path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap().to_str().unwrap()
    }

    pub(crate) fn id(&self) -> &str {
        self.header("webhook-id")
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn event(&self) -> String {
        self.json()["type"].as_str().unwrap().to_owned()
    }

    /// The generation's version that it tells of.
    pub(crate) fn version(&self) -> i64 {
        self.json()["data"]["version"].as_str().unwrap().parse().unwrap()
    }

    /// Whether one of the signatures is by this secret, over what came.
    pub(crate) fn is_signed_by(&self, secret: &str) -> bool {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let mut signed = format!("{}.{}.", self.id(), self.header("webhook-timestamp")).into_bytes();
        signed.extend_from_slice(&self.body);
        let expected = format!("v1,{}", STANDARD.encode(hmac(&key, &signed)));
        self.header("webhook-signature").split(' ').any(|given| given == expected)
    }
}

/// HMAC-SHA256 by its definition (RFC 2104), for keys of at most a block.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let pad = |with: u8| -> Vec<u8> {
        let mut block = [0; 64];
        block[..key.len()].copy_from_slice(key);
        block.iter().map(|byte| byte ^ with).collect()
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

/// The endpoint.
pub(crate) struct Receiver {
    pub(crate) url: String,
    replies: Arc<Mutex<VecDeque<Reply>>>,
    got: mpsc::UnboundedReceiver<Got>,
}

impl Receiver {
    pub(crate) async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hooks", listener.local_addr().unwrap());
        let replies: Arc<Mutex<VecDeque<Reply>>> = Arc::default();
        let (tell, got) = mpsc::unbounded_channel();
        let planned = Arc::clone(&replies);
        let take = move |uri: axum::http::Uri, headers: HeaderMap, body: Bytes| {
            let reply = planned.lock().unwrap().pop_front();
            let _ = tell.send(Got { path: uri.path().to_owned(), headers, body });
            answer(reply.unwrap_or(Reply::Status(200, "")))
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(take)).await.unwrap() });
        Self { url, replies, got }
    }

    /// What comes next is answered with these, in turn; after that with 200.
    pub(crate) fn plan(&self, replies: &[Reply]) {
        self.replies.lock().unwrap().extend(replies);
    }

    /// The next webhook; waits for one.
    pub(crate) async fn next(&mut self) -> Got {
        tokio::time::timeout(Duration::from_secs(30), self.got.recv()).await.expect("a webhook within 30 s").unwrap()
    }

    /// Whether something came that was not taken yet.
    pub(crate) fn has_more(&self) -> bool {
        !self.got.is_empty()
    }
}

async fn answer(reply: Reply) -> Response {
    match reply {
        Reply::Status(status, body) => (StatusCode::from_u16(status).unwrap(), body).into_response(),
        Reply::Redirect => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, "/elsewhere")]).into_response(),
        Reply::Never => std::future::pending().await,
        Reply::Drip => {
            let first = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"a"))]);
            Body::from_stream(first.chain(futures::stream::pending())).into_response()
        }
    }
}
