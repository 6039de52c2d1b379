//! How many gateways share the limits: each says over NATS every second that it is there, and counts those that do.
//!
//! Invariants: a gateway that dies is counted for at most [`GONE_AFTER`], in which its share is nobody's: the others take less than the
//! whole, never more. One that drains says so and is counted no longer. One that starts is answered by each of the others, and counted
//! by them, with its first message. As long as a gateway does not hear itself, nobody is known to be gone: it goes by the last
//! number, or the one of its setting if that is larger.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_nats::Client;
use bytes::Bytes;
use chassis::{drain::Drain, nats};
use futures::StreamExt as _;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::metrics;

/// How often a gateway says that it is there.
const INTERVAL: Duration = Duration::from_secs(1);
/// After how long a gateway that has said nothing is counted no longer.
const GONE_AFTER: Duration = Duration::from_secs(3);
/// The gateways that are counted at most; who sends more messages than that under new names changes nothing any more.
const MAX_GATEWAYS: usize = 1_024;

/// The number of gateways; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Gateways {
    count: Arc<AtomicU32>,
    heartbeats: Option<Arc<AbortOnDropHandle<()>>>,
}

impl Gateways {
    /// As many as the setting says.
    pub(super) fn stated(count: NonZeroU32) -> Self {
        metrics::LIMIT_GATEWAYS.get().set(count.get());
        Self { count: Arc::new(AtomicU32::new(count.get())), heartbeats: None }
    }

    /// Counts those that say on `subject` that they are there, this one among them, until `drain` begins or the last clone is dropped.
    pub(super) fn count_over(&mut self, client: Client, subject: String, drain: Drain) {
        let roll = Roll::new(Uuid::now_v7(), self.count());
        let task = tokio::spawn(exchange(client, subject, roll, Arc::clone(&self.count), drain));
        self.heartbeats = Some(Arc::new(AbortOnDropHandle::new(task)));
    }

    pub(super) fn count(&self) -> NonZeroU32 {
        NonZeroU32::new(self.count.load(Ordering::Relaxed)).unwrap_or(NonZeroU32::MIN)
    }
}

async fn exchange(client: Client, subject: String, mut roll: Roll, count: Arc<AtomicU32>, drain: Drain) {
    // Only an ended client refuses; then the number stays as it is.
    let Ok(mut messages) = client.subscribe(subject.clone()).await else { return };
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = drain.token();
    loop {
        let answers = tokio::select! {
            () = end.cancelled() => break,
            _ = ticks.tick() => true,
            message = messages.next() => {
                let Some(message) = message else { return };
                Message::parse(&message.payload).is_some_and(|message| roll.take(message, Instant::now()))
            }
        };
        let counted = roll.count(Instant::now()).get();
        if count.swap(counted, Ordering::Relaxed) != counted {
            metrics::LIMIT_GATEWAYS.get().set(counted);
            tracing::info!(gateways = counted, "gateways share the limits");
        }
        if answers {
            let _ = nats::publish(&client, subject.clone(), Message::Here(roll.me).encode()).await;
        }
    }
    let _ = nats::publish(&client, subject, Message::Gone(roll.me).encode()).await;
    let _ = client.flush().await;
}

/// What a gateway says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    Here(Uuid),
    Gone(Uuid),
}

impl Message {
    fn parse(payload: &[u8]) -> Option<Self> {
        let (kind, id) = payload.split_first()?;
        let id = Uuid::from_slice(id).ok()?;
        match kind {
            b'+' => Some(Self::Here(id)),
            b'-' => Some(Self::Gone(id)),
            _ => None,
        }
    }

    fn encode(self) -> Bytes {
        let (kind, id) = match self {
            Self::Here(id) => (b'+', id),
            Self::Gone(id) => (b'-', id),
        };
        std::iter::once(kind).chain(*id.as_bytes()).collect()
    }
}

/// Who was heard, and when.
#[derive(Debug)]
struct Roll {
    me: Uuid,
    stated: NonZeroU32,
    /// The last number that was counted.
    last: Option<NonZeroU32>,
    heard: HashMap<Uuid, Instant>,
}

impl Roll {
    fn new(me: Uuid, stated: NonZeroU32) -> Self {
        Self { me, stated, last: None, heard: HashMap::new() }
    }

    /// Takes note of a message; true when its sender is new and should hear of this gateway at once.
    fn take(&mut self, message: Message, now: Instant) -> bool {
        match message {
            Message::Here(id) if self.heard.len() >= MAX_GATEWAYS && !self.heard.contains_key(&id) => false,
            Message::Here(id) => self.heard.insert(id, now).is_none() && id != self.me,
            Message::Gone(id) => {
                self.heard.remove(&id);
                false
            }
        }
    }

    fn count(&mut self, now: Instant) -> NonZeroU32 {
        let is_here = |at: &Instant| now.duration_since(*at) < GONE_AFTER;
        if !self.heard.get(&self.me).is_some_and(is_here) {
            return self.last.unwrap_or(self.stated).max(self.stated);
        }
        self.heard.retain(|_, at| is_here(at));
        let counted = u32::try_from(self.heard.len()).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
        self.last = Some(counted);
        counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Uuid = Uuid::from_u128(1);
    const OTHER: Uuid = Uuid::from_u128(2);

    fn stated(count: u32) -> Roll {
        Roll::new(ME, NonZeroU32::new(count).unwrap())
    }

    #[test]
    fn one_that_is_silent_is_counted_for_three_seconds_and_one_that_says_so_no_longer() {
        let (mut roll, start) = (stated(1), Instant::now());
        assert!(!roll.take(Message::Here(ME), start), "nobody answers himself");
        assert!(roll.take(Message::Here(OTHER), start), "a new one is answered");
        assert!(!roll.take(Message::Here(OTHER), start), "and only once");
        assert_eq!(roll.count(start).get(), 2);
        roll.take(Message::Here(ME), start + INTERVAL * 2);
        assert_eq!(roll.count(start + GONE_AFTER - Duration::from_millis(1)).get(), 2);
        assert_eq!(roll.count(start + GONE_AFTER).get(), 1);
        roll.take(Message::Here(OTHER), start + GONE_AFTER);
        assert_eq!(roll.count(start + GONE_AFTER).get(), 2);
        roll.take(Message::Gone(OTHER), start + GONE_AFTER);
        assert_eq!(roll.count(start + GONE_AFTER).get(), 1);
    }

    #[test]
    fn who_does_not_hear_itself_takes_nobody_for_gone() {
        let (mut roll, start) = (stated(3), Instant::now());
        assert_eq!(roll.count(start).get(), 3, "nothing was heard yet");
        for id in 1..=5 {
            roll.take(Message::Here(Uuid::from_u128(id)), start);
        }
        assert_eq!(roll.count(start).get(), 5);
        assert_eq!(roll.count(start + GONE_AFTER).get(), 5, "NATS is away, and the others may be there");
        roll.take(Message::Here(ME), start + GONE_AFTER);
        assert_eq!(roll.count(start + GONE_AFTER).get(), 1, "NATS is back, and they are not");
        assert_eq!(roll.count(start + GONE_AFTER * 3).get(), 3, "the setting is the least then");
    }

    #[test]
    fn invented_gateways_are_bounded() {
        let (mut roll, start) = (stated(1), Instant::now());
        for id in 1..=10_000 {
            roll.take(Message::Here(Uuid::from_u128(id)), start);
        }
        assert_eq!(roll.heard.len(), MAX_GATEWAYS);
    }

    #[test]
    fn a_message_is_read_as_it_was_written_and_no_other_is() {
        for message in [Message::Here(ME), Message::Gone(OTHER)] {
            assert_eq!(Message::parse(&message.encode()), Some(message));
        }
        for wrong in [&b""[..], b"+", b"+123", b"*0123456789abcdef"] {
            assert_eq!(Message::parse(wrong), None);
        }
    }
}
