//! The sending: what is new becomes jobs, jobs are claimed by as many hands as there are, and each attempt's outcome is
//! committed with the end of its lease.
//!
//! Invariants: a delivery whose process dies is sent again under the same id once its lease has run out; of one generation and
//! endpoint one event is under way at a time; and no account has more than a few of the hands, however slow its endpoints.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chassis::egress::Egress;
use domain::name::DeliveryName;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Method, StatusCode};
use jobs::{ClaimRequest, Lease, Notifier};
use proto::webhooks::v1::Event;
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

use super::{KIND, Messages, Secret, message};
use crate::error::Error;
use crate::record::Record;
use crate::store::Store;
use crate::wire::{Face, timestamp};

/// The pauses after the first attempts; after one more attempt it is given up. Each is lengthened by chance, up to a tenth and
/// by what every job waits.
const PAUSES: [u64; 9] = [5, 30, 120, 600, 3_600, 3 * 3_600, 6 * 3_600, 10 * 3_600, 14 * 3_600];
/// How many attempts there are.
pub(crate) const ATTEMPTS: i32 = PAUSES.len() as i32 + 1;
/// How many deliveries a process has under way at once.
const HANDS: usize = 16;
/// How many of them may be one account's, over all processes.
const ACCOUNT: i32 = 4;
/// How long a process may be silent about a delivery.
const LEASE: Duration = Duration::from_secs(30);
/// How much of an answer is kept, in bytes.
const EXCERPT: usize = 1_024;
/// How late an endpoint's Retry-After may ask for.
const RETRY_MOST: Duration = Duration::from_secs(24 * 60 * 60);
/// How often the deliveries are measured.
const OBSERVE: Duration = Duration::from_secs(15);

/// A delivery to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    pub(crate) lease: Lease,
    pub(crate) name: DeliveryName,
    pub(crate) url: String,
    /// One, or two while they change.
    pub(crate) secrets: Vec<Secret>,
    pub(crate) event_type: String,
    /// When the event happened.
    pub(crate) create_time: OffsetDateTime,
    /// The database's time.
    pub(crate) now: OffsetDateTime,
    /// Which attempt of this round it is, from 1.
    pub(crate) attempt: i32,
    /// The generation as it was; nothing for a test.
    pub(crate) record: Option<Box<Record>>,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// 0 when there was no answer.
    pub(crate) http_status: u16,
    pub(crate) latency: Duration,
    /// Why there was no answer.
    pub(crate) reason: &'static str,
    pub(crate) excerpt: String,
    /// The least pause before the next attempt.
    pub(crate) pause: Duration,
}

impl Outcome {
    pub(crate) fn is_delivered(&self) -> bool {
        (200..300).contains(&self.http_status)
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.http_status == StatusCode::GONE.as_u16()
    }
}

/// What follows an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    Delivered,
    Again,
    GivenUp,
}

impl Settled {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Again => "retried",
            Self::GivenUp => "given_up",
        }
    }
}

/// Sends; cheap to clone.
#[derive(Clone)]
pub(crate) struct Sender {
    store: Store,
    egress: Egress,
    messages: Messages,
    face: Face,
    notifier: Notifier,
    timeout: Duration,
    /// Of this process alone: what one has lost is for others first.
    name: Arc<str>,
}

impl Sender {
    pub(crate) fn new(
        store: Store,
        egress: Egress,
        messages: Messages,
        face: Face,
        notifier: Notifier,
        timeout: Duration,
    ) -> Self {
        let name = format!("generation-status/{}", Uuid::now_v7()).into();
        Self { store, egress, messages, face, notifier, timeout, name }
    }

    /// Sends what is to be sent, until `stop`, and then ends what it has begun.
    pub(crate) async fn keep_sending(self, stop: CancellationToken) {
        let hands = Arc::new(Semaphore::new(HANDS));
        let mut listener = self.notifier.listen();
        let mut under_way = JoinSet::new();
        while let Some(Ok(hand)) = stop.run_until_cancelled(hands.acquire()).await {
            drop(hand);
            while under_way.try_join_next().is_some() {}
            let more = match self.turn(&hands, &mut under_way).await {
                Ok(more) => more,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "webhooks could not be taken up");
                    false
                }
            };
            if !more && stop.run_until_cancelled(listener.notified()).await.is_none() {
                break;
            }
        }
        while under_way.join_next().await.is_some() {}
    }

    /// Enqueues what is new and takes up what is due; returns whether there may be more.
    async fn turn(&self, hands: &Arc<Semaphore>, under_way: &mut JoinSet<()>) -> Result<bool, Error> {
        let enqueued = self.store.enqueue_deliveries().await?;
        let free = hands.available_permits();
        let queues = [String::new()];
        let wanted = ClaimRequest {
            kind: KIND,
            queues: &queues,
            worker: &self.name,
            limit: u32::try_from(free).unwrap_or_default(),
            lease: LEASE,
            limits: Some(jobs::Limits { account: ACCOUNT }),
        };
        let claimed = self.store.claim_deliveries(wanted).await?;
        let more = enqueued > 0 || !claimed.is_empty();
        for leased in claimed {
            // There are as many as were free, and only this task takes any.
            let Ok(hand) = Arc::clone(hands).try_acquire_owned() else { break };
            let sender = self.clone();
            under_way.spawn(async move {
                if let Err(error) = sender.deliver(&leased).await {
                    let delivery = leased.lease.job;
                    tracing::warn!(job = %delivery, error = &error as &dyn std::error::Error, "a delivery is left to its lease");
                }
                drop(hand);
                // What waited for it, or for one of its account's turns, may go.
                sender.notifier.notify().await;
            });
        }
        Ok(more)
    }

    async fn deliver(&self, leased: &jobs::Leased) -> Result<(), Error> {
        let Some(parcel) = self.store.parcel(leased).await? else {
            // Its endpoint was disabled, or it was given up.
            return self.store.let_go(leased).await;
        };
        let outcome = self.attempt(&parcel).await?;
        let settled = match self.store.settle(&parcel, &outcome).await {
            Ok(settled) => settled,
            // It was sent twice, as may be.
            Err(Error::StaleFence) => return Ok(()),
            Err(error) => return Err(error),
        };
        metrics::counter!("rushes_webhook_deliveries_total", "outcome" => settled.as_str()).increment(1);
        metrics::histogram!("rushes_webhook_attempt_seconds").record(outcome.latency.as_secs_f64());
        Ok(())
    }

    async fn attempt(&self, parcel: &Parcel) -> Result<Outcome, Error> {
        let body = self.messages.body(&Event {
            r#type: parcel.event_type.clone(),
            timestamp: Some(timestamp(parcel.create_time)),
            data: Some(parcel.record.as_ref().map(|record| self.face.generation(record)).unwrap_or_default()),
        })?;
        let began = Instant::now();
        let outcome = |http_status, reason, excerpt, asked: Duration| Outcome {
            http_status,
            latency: began.elapsed(),
            reason,
            excerpt,
            pause: pause(parcel.attempt).max(asked),
        };
        let none = |reason| outcome(0, reason, String::new(), Duration::ZERO);
        let id = parcel.name.delivery.0;
        let time = parcel.now.unix_timestamp();
        let signatures = message::signatures(&parcel.secrets, id, time, &body);
        let request = Url::parse(&parcel.url).ok().and_then(|url| self.egress.request(Method::POST, url).ok());
        let Some(request) = request else { return Ok(none("ADDRESS_REFUSED")) };
        let request = request
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id.to_string())
            .header("webhook-timestamp", time.to_string())
            .header("webhook-signature", signatures)
            .body(body);
        let mut answer = match tokio::time::timeout(self.timeout, request.send()).await {
            Err(_) => return Ok(none("TIMEOUT")),
            Ok(Err(error)) if error.is_timeout() => return Ok(none("TIMEOUT")),
            Ok(Err(error)) if error.is_connect() => return Ok(none("UNREACHABLE")),
            Ok(Err(_)) => return Ok(none("BROKEN_ANSWER")),
            Ok(Ok(answer)) => answer,
        };
        let status = answer.status();
        let asked = match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => retry_after(answer.headers()),
            _ => Duration::ZERO,
        };
        let mut answered = outcome(status.as_u16(), "", String::new(), asked);
        // The status has been said; of the rest there is as much as comes in time.
        let mut bytes = Vec::new();
        let read = async {
            while bytes.len() < EXCERPT
                && let Ok(Some(chunk)) = answer.chunk().await
            {
                bytes.extend_from_slice(&chunk);
            }
        };
        let _ = tokio::time::timeout(self.timeout.saturating_sub(began.elapsed()), read).await;
        answered.excerpt = excerpt(&bytes);
        Ok(answered)
    }

    /// Takes back, every so often, what a dead process had, gives up what is for disabled endpoints, and forgets what is long
    /// over, until `stop`.
    pub(crate) async fn keep_sweeping(self, every: Duration, stop: CancellationToken) {
        let mut tick = tokio::time::interval(every);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            match self.store.sweep_deliveries().await {
                Ok(true) => self.notifier.notify().await,
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the sweep of webhooks will be repeated");
                }
            }
        }
    }

    /// Measures what is pending every so often, until `stop`.
    pub(crate) async fn keep_measuring(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(OBSERVE);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            match self.store.pending_deliveries().await {
                Ok((count, oldest)) => {
                    metrics::gauge!("rushes_webhook_pending").set(count as f64);
                    metrics::gauge!("rushes_webhook_oldest_pending_seconds").set(oldest);
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the webhooks could not be measured");
                }
            }
        }
    }
}

/// The least pause after this attempt of a round.
fn pause(attempt: i32) -> Duration {
    let at = usize::try_from(attempt - 1).unwrap_or_default().min(PAUSES.len() - 1);
    Duration::from_secs(PAUSES[at]).mul_f64(1.0 + fastrand::f64() / 10.0)
}

/// What an answer's Retry-After asks for, where that is a number of seconds.
fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Duration::from_secs(seconds.unwrap_or_default()).min(RETRY_MOST)
}

/// What of an answer is shown: text without control characters, which PostgreSQL could not store or a terminal would obey.
fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(EXCERPT)]);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_over_hours_and_differ() {
        for attempt in 1..ATTEMPTS {
            let least = Duration::from_secs(PAUSES[attempt as usize - 1]);
            assert!((least..=least.mul_f64(1.1)).contains(&pause(attempt)), "{attempt}");
        }
        assert!(PAUSES.is_sorted());
        assert_ne!(pause(5), pause(5));
    }

    #[test]
    fn of_an_answer_a_little_text_is_kept() {
        assert_eq!(excerpt(b"no\0 \x1b[31mred\xff\n"), "no   [31mred\u{fffd}");
        assert_eq!(excerpt(&[b'a'; 5_000]).len(), EXCERPT);
        let asked = |text| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, http::HeaderValue::from_static(text))]));
        assert_eq!(asked("7"), Duration::from_secs(7));
        assert_eq!(asked("999999999"), RETRY_MOST);
        assert_eq!(asked("soon"), Duration::ZERO);
    }
}
