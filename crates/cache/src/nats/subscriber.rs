//! Subscribes to the relay's messages and to hints, for as long as the process lives.
//!
//! Invariant: whatever NATS does, the window stays open only over messages that came one after the other on one
//! connection. Lost messages, from a full buffer or a broken connection, show as a skipped number; an unresponsive relay shows as
//! the proof's age; neither needs an event.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::{Client, Subscriber};
use chassis::nats;
use futures::StreamExt as _;
use tokio::time::{MissedTickBehavior, interval};
use tracing::Instrument as _;

use super::message::{Hint, Message};
use super::{hints, invalidations, is_up};
use crate::changes::{Change, Signal};
use crate::inner::Inner;
use crate::observer::Op;
use coherence::BOUND;
use coherence::window::Cause;

/// How often the connection's state is checked.
const CHECK: Duration = Duration::from_millis(250);

/// Listens until the cache is closed; subscribes again whenever a subscription ends.
pub(crate) async fn listen(inner: Arc<Inner>, client: Client) {
    let mut connects = client.statistics().connects.load(Ordering::Relaxed);
    while !inner.stop.is_cancelled() {
        let space = &inner.settings.space;
        let subscribed = async {
            Ok::<_, async_nats::SubscribeError>((
                client.subscribe(invalidations(space)).await?,
                client.subscribe(hints(space)).await?,
            ))
        };
        match subscribed.await {
            Ok((messages, hints)) => receive(&inner, &client, messages, hints, &mut connects).await,
            Err(error) => {
                tracing::warn!(%error, "cannot subscribe to the relay");
                tokio::time::sleep(BOUND).await;
            }
        }
        if !inner.leads.load(Ordering::Relaxed) {
            inner.close(Cause::Disconnect);
        }
    }
}

async fn receive(inner: &Arc<Inner>, client: &Client, messages: Subscriber, hints: Subscriber, connects: &mut u64) {
    let (mut messages, mut hints) = (pin!(messages), pin!(hints));
    let mut due = interval(CHECK);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = inner.stop.cancelled() => return,
            message = messages.next() => {
                let Some(message) = message else { return };
                // Before the message counts: it may be the first one of a new connection.
                check(inner, client, connects);
                take_message(inner, &message).await;
            }
            hint = hints.next() => {
                let Some(hint) = hint else { return };
                take_hint(inner, &hint.payload).await;
            }
            _ = due.tick() => check(inner, client, connects),
        }
    }
}

/// Closes the window when the connection is broken, or is another than the one over which the window grew. The process that leads
/// receives its own messages without NATS.
fn check(inner: &Inner, client: &Client, connects: &mut u64) {
    let now = client.statistics().connects.load(Ordering::Relaxed);
    let broken = now != *connects || !is_up(client);
    *connects = now;
    if broken && !inner.leads.load(Ordering::Relaxed) {
        inner.close(Cause::Disconnect);
    }
}

async fn take_message(inner: &Inner, message: &async_nats::Message) {
    let Some(decoded) = Message::decode(&message.payload) else {
        tracing::warn!("a relay message that cannot be decoded counts as lost");
        return;
    };
    inner.receive(&decoded.notice, &decoded.changes).instrument(nats::process_span(message)).await;
}

async fn take_hint(inner: &Inner, payload: &[u8]) {
    let Some(hint) = Hint::decode(payload) else { return };
    for (key, version) in hint.changes {
        if let Some(version) = version {
            inner.observer.records.note(&key, inner.now(), Op::Hinted { version });
            inner.raise(&key, version).await;
            inner.signal(Signal::Changed(Change { key, version }));
        }
    }
    inner.wake.notify_one();
}
