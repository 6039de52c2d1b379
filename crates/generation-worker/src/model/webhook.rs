//! Providers' webhooks: as they came, and the little that is believed of a verified one.

use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderMap;
use uuid::Uuid;

/// A webhook as it came.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// The job that its address names.
    pub job: Uuid,
    /// All headers.
    pub headers: HeaderMap,
    /// The body, byte by byte what was signed.
    pub body: Bytes,
    /// When it came, for the window of its signature.
    pub now: SystemTime,
}

/// What is believed of a verified webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookEvent {
    /// The provider's own name of the event, which a repetition has too.
    pub id: String,
    /// The order that it is about, where it says so.
    pub reference: Option<String>,
}

/// Whether the provider itself was asked for the order of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// It was not.
    NotAsked,
    /// It was, and knows it.
    Confirmed,
}

/// What became of a webhook that was passed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hinted {
    /// Whether its job was waiting for it.
    pub awaited: bool,
    /// The W3C trace context of the call that started the generation; empty where none is known.
    pub traceparent: String,
    /// What the provider calls the model of the order that it is to be asked for first; nothing was recorded then.
    pub confirm_at_model: Option<String>,
    /// The public name of the key to ask with; empty: not known.
    pub key: String,
}

/// Why a webhook is not believed, for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotVerified(pub &'static str);
