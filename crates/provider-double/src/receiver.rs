//! A customer that is none: it receives webhooks, keeps them as they came, and goes wrong by seed.
//!
//! Invariant: a webhook is kept, with what it is answered, before it is answered.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use fastrand::Rng;
use http::Request;
use hyper::body::Incoming;
use ring::hmac;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::server::{self, Reply, read_body};

/// A webhook as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// Whose it is: the number in the path.
    pub customer: usize,
    /// `webhook-id`.
    pub id: String,
    timestamp: String,
    signature: String,
    body: Bytes,
    /// The status of the answer; 0 when the connection was cut.
    pub answered: u16,
}

impl Received {
    /// Whether it was answered with success.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.answered == 200
    }

    /// Whether it was answered with a status that means that it will never be wanted.
    #[must_use]
    pub fn is_refused_for_good(&self) -> bool {
        (400..500).contains(&self.answered) && ![408, 410, 425, 429].contains(&self.answered)
    }

    fn tells_of_no_end(&self) -> bool {
        let event = self.event();
        ["generation.queued", "generation.processing"].iter().any(|name| event["type"] == **name)
    }

    /// Whether it is signed by Standard Webhooks with this `whsec_…`.
    #[must_use]
    pub fn is_signed(&self, secret: &str) -> bool {
        let Ok(secret) = STANDARD.decode(secret.trim_start_matches("whsec_")) else { return false };
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let signed = [self.id.as_bytes(), b".", self.timestamp.as_bytes(), b".", &self.body].concat();
        let mut tags = self.signature.split(' ').filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok());
        tags.any(|tag| hmac::verify(&key, &signed, &tag).is_ok())
    }

    /// The body.
    #[must_use]
    pub fn event(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// All that came, in order, how often each was refused, and what is refused for good.
#[derive(Debug, Default)]
struct Kept {
    received: Vec<Received>,
    refused: HashMap<String, u8>,
    unwanted: HashSet<String>,
}

/// A running receiver; it ends when it is dropped.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    serving: AbortHandle,
}

impl Receiver {
    /// Binds a port and serves. One webhook in ten is answered with 500, one in thirty with nothing, one in twenty late; what
    /// comes for the third time is accepted. One in thirty that tells of no end is refused with 404 however often it comes.
    ///
    /// # Errors
    /// When no port can be bound.
    pub async fn start(seed: u64) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("binding the receiver's port")?;
        let address = listener.local_addr()?;
        let kept = Arc::<Mutex<Kept>>::default();
        let (keep, rng) = (Arc::clone(&kept), Arc::new(Mutex::new(Rng::with_seed(seed))));
        let reply = move |request| {
            let (keep, rng) = (Arc::clone(&keep), Arc::clone(&rng));
            async move { reply(&keep, &rng, request).await }
        };
        let serving = tokio::spawn(server::serve(listener, watch::channel(0).1, reply)).abort_handle();
        Ok(Self { address, kept, serving })
    }

    /// Where the webhooks of a customer go.
    #[must_use]
    pub fn url(&self, customer: usize) -> String {
        format!("http://{}/{customer}", self.address)
    }

    /// All that came so far, in order.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).received.clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn reply(kept: &Mutex<Kept>, rng: &Mutex<Rng>, request: Request<Incoming>) -> Reply {
    let (parts, body) = request.into_parts();
    let Some(body) = read_body(body).await else { return Reply::Cut };
    let header =
        |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let (dice, late) = {
        let mut rng = rng.lock().unwrap_or_else(PoisonError::into_inner);
        (rng.u8(0..60), Duration::from_millis(rng.u64(0..1_500)))
    };
    let mut one = Received {
        customer: parts.uri.path().trim_start_matches('/').parse().unwrap_or(usize::MAX),
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp"),
        signature: header("webhook-signature"),
        body,
        answered: 200,
    };
    let answered = {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if (11..13).contains(&dice) && one.tells_of_no_end() && !kept.refused.contains_key(&one.id) {
            kept.unwanted.insert(one.id.clone());
        }
        let unwanted = kept.unwanted.contains(&one.id);
        let refused = kept.refused.entry(one.id.clone()).or_default();
        one.answered = match dice {
            _ if unwanted => 404,
            0..6 if *refused < 2 => 500,
            6..8 if *refused < 2 => 0,
            _ => 200,
        };
        *refused = refused.saturating_add(u8::from(!one.is_accepted()));
        let answered = one.answered;
        kept.received.push(one);
        answered
    };
    if (8..11).contains(&dice) {
        tokio::time::sleep(late).await;
    }
    if answered == 0 { Reply::Cut } else { Reply::Json(answered, Value::Null) }
}
