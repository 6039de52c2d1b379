//! The connection to NATS, tuned so that a dead peer is noticed in seconds instead of minutes, and the spans of its messages.
//!
//! Invariants: NATS being down never blocks or fails a start, and nothing here promises delivery: whoever listens must
//! get along without what was dropped. A message begins no trace of its own: outside of one it has no span.

mod address;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, Event, HeaderMap, Message, PublishError};
use bytes::Bytes;
use tracing::{Instrument as _, Span, field::Empty, info_span};

use crate::{
    metrics,
    telemetry::{self, TRACEPARENT, attributes},
};

use address::Address;
pub use address::check;

/// The name of NATS in the attributes of spans, for which OpenTelemetry has no constant.
const SYSTEM: &str = "nats";

/// The URL is not one that NATS understands.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read, or a file that it names.
    #[error(transparent)]
    Url(#[from] crate::settings::Error),
    /// It cannot be used.
    #[error("RUSHES_NATS_URL cannot be used: {0}")]
    Connect(#[from] async_nats::ConnectError),
}

/// A client that connects in the background and keeps reconnecting, at most 2 s between tries, as the user whom the URL
/// names (a user without a password is a token; `credentials` names a file with a user's JWT and seed). `tls://` insists on TLS, and
/// `ca` names a file with the certificates by which the server's is checked.
///
/// # Errors
/// Only when the URL, or a file that it names, cannot be read.
pub async fn connect(url: &str) -> Result<Client, Error> {
    let address = Address::parse(url)?;
    let options = address.options().await?;
    let down = Arc::new(AtomicBool::new(false));
    let client = options
        .name(env!("CARGO_PKG_NAME"))
        .retry_on_initial_connect()
        .connection_timeout(Duration::from_secs(2))
        .ping_interval(Duration::from_secs(3))
        .request_timeout(Some(Duration::from_secs(2)))
        .reconnect_delay_callback(|attempt| {
            let cap = Duration::from_secs(2);
            let doubled = u32::try_from(attempt.min(8)).unwrap_or(8);
            let step = Duration::from_millis(50) * 2_u32.saturating_pow(doubled);
            step.min(cap).mul_f64(0.5 + fastrand::f64() / 2.0)
        })
        .event_callback(move |event| {
            record(&event, &down);
            std::future::ready(())
        })
        .connect(address.server)
        .await?;
    Ok(client)
}

/// Publishes a message; within a trace in a span of kind producer, which the message names for its receivers.
///
/// # Errors
/// When the message is larger than the server takes, or the client has ended.
pub async fn publish(client: &Client, subject: String, payload: Bytes) -> Result<(), PublishError> {
    if telemetry::trace_id().is_none() {
        return client.publish(subject, payload).await;
    }
    let span = info_span!(
        "publish",
        otel.name = format!("publish {subject}"),
        otel.kind = "producer",
        otel.status_code = Empty,
        { attributes::MESSAGING_SYSTEM } = SYSTEM,
        { attributes::MESSAGING_DESTINATION_NAME } = subject,
        { attributes::MESSAGING_OPERATION_NAME } = "publish",
        { attributes::MESSAGING_OPERATION_TYPE } = "send",
        { attributes::ERROR_TYPE } = Empty,
    );
    let mut headers = HeaderMap::new();
    if let Some(parent) = telemetry::traceparent_of(&span) {
        headers.insert(TRACEPARENT, parent);
    }
    let published = client.publish_with_headers(subject, headers, payload).instrument(span.clone()).await;
    if let Err(error) = &published {
        span.record(attributes::ERROR_TYPE, error.kind().to_string());
        span.record("otel.status_code", "ERROR");
    }
    published
}

/// The span, of kind consumer, to work on a received message in: a child of the one that published it, so that a trace is recorded
/// whole or not at all. None for a message that was published outside of any trace.
#[must_use]
pub fn process_span(message: &Message) -> Span {
    let Some(sender) = message.headers.as_ref().and_then(|headers| headers.get(TRACEPARENT)) else {
        return Span::none();
    };
    let span = info_span!(
        parent: None,
        "process",
        otel.name = format!("process {}", message.subject),
        otel.kind = "consumer",
        { attributes::MESSAGING_SYSTEM } = SYSTEM,
        { attributes::MESSAGING_DESTINATION_NAME } = %message.subject,
        { attributes::MESSAGING_OPERATION_NAME } = "process",
        { attributes::MESSAGING_OPERATION_TYPE } = "process",
    );
    telemetry::set_parent(&span, sender.as_str());
    span
}

/// Counts every event and logs what an operator must know: each loss once, not each try after it.
fn record(event: &Event, down: &AtomicBool) {
    let name = match event {
        Event::Connected => "connected",
        Event::Disconnected => "disconnected",
        Event::SlowConsumer(_) => "slow_consumer",
        Event::LameDuckMode => "lame_duck",
        Event::Draining => "draining",
        Event::Closed => "closed",
        Event::ServerError(_) => "server_error",
        Event::ClientError(_) => "client_error",
    };
    metrics::NATS_EVENTS.with([name]).increment(1);
    match event {
        Event::Connected => {
            down.store(false, Ordering::Relaxed);
            tracing::info!("connected to NATS");
        }
        Event::Draining | Event::Closed => tracing::debug!(%event, "NATS connection"),
        Event::Disconnected | Event::ClientError(_) if down.swap(true, Ordering::Relaxed) => {}
        event => tracing::warn!(%event, "NATS connection"),
    }
}
