//! The sender of webhooks: new deliveries become jobs, free slots claim jobs, and each attempt's result is committed with the
//! end of its lease.
//!
//! Invariants: a delivery whose process dies is sent again under the same id once its lease has expired; of one generation and
//! endpoint one event is in flight at a time; and an account has at most a few of the slots, however slow its endpoints.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chassis::egress::{Call, Egress};
use chassis::telemetry::{self, attributes};
use domain::id::AccountId;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, Method, StatusCode};
use jobs::{ClaimRequest, Notifier};
use proto::webhooks::v1::Event;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument as _, Span, info_span};
use url::Url;
use uuid::Uuid;

use super::message::{self, EventEncoder};
use crate::error::Error;
use crate::events;
use crate::metrics;
use crate::model::{
    AttemptResult, ClaimedDelivery, DELIVERY_JOBS, DeliveryOutcome, RETRY_PAUSES, ReapedDeliveries, Settlement,
};
use crate::presenter::{Presenter, timestamp};
use crate::store::Store;

/// How many deliveries a process has in flight at once.
const SLOTS: usize = 16;
/// How many of them may be one account's, over all processes.
const SLOTS_PER_ACCOUNT: i32 = 4;
/// How long a delivery's lease lasts, so how long a dead process's delivery waits.
const LEASE: Duration = Duration::from_secs(30);
/// How much of an answer is kept, in bytes.
const MAX_EXCERPT_BYTES: usize = 1_024;
/// The longest pause that an endpoint's Retry-After may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// How often the gauges of deliveries are set.
const GAUGE_INTERVAL: Duration = Duration::from_secs(15);

/// Sends webhooks; cheap to clone.
#[derive(Clone)]
pub(crate) struct Sender {
    store: Store,
    egress: Egress,
    encoder: EventEncoder,
    presenter: Presenter,
    notifier: Notifier,
    timeout: Duration,
    /// Unique to this process: a claim gives a job that expired in one process to another one first.
    name: Arc<str>,
}

impl Sender {
    pub(crate) fn new(
        store: Store,
        egress: Egress,
        encoder: EventEncoder,
        presenter: Presenter,
        notifier: Notifier,
        timeout: Duration,
    ) -> Self {
        let name = format!("generation-status/{}", Uuid::now_v7()).into();
        Self { store, egress, encoder, presenter, notifier, timeout, name }
    }

    /// Sends what is due, until `stop`, and then finishes the attempts in flight.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let slots = Arc::new(Semaphore::new(SLOTS));
        let mut listener = self.notifier.listen();
        let mut in_flight = JoinSet::new();
        // A slot is only taken in the round below; here it is waited for.
        while let Some(Ok(slot)) = stop.run_until_cancelled(slots.acquire()).await {
            drop(slot);
            while in_flight.try_join_next().is_some() {}
            let more = match self.run_round(&slots, &mut in_flight).await {
                Ok(more) => more,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "deliveries could not be claimed");
                    false
                }
            };
            if !more && stop.run_until_cancelled(listener.notified()).await.is_none() {
                break;
            }
        }
        while in_flight.join_next().await.is_some() {}
    }

    /// Enqueues what is new and claims what is due; returns whether there may be more.
    async fn run_round(&self, slots: &Arc<Semaphore>, in_flight: &mut JoinSet<()>) -> Result<bool, Error> {
        let enqueued = self.store.enqueue_deliveries().await?;
        let free = slots.available_permits();
        let queues = [String::new()];
        let wanted = ClaimRequest {
            kind: DELIVERY_JOBS,
            queues: &queues,
            worker: &self.name,
            limit: u32::try_from(free).unwrap_or_default(),
            lease: LEASE,
            limits: Some(jobs::Limits { account: SLOTS_PER_ACCOUNT }),
        };
        let claimed = self.store.claim_deliveries(wanted).await?;
        let more = enqueued > 0 || !claimed.is_empty();
        for leased in claimed {
            // Only this task takes slots, and it claimed as many jobs as were free.
            let Ok(slot) = Arc::clone(slots).try_acquire_owned() else { break };
            let sender = self.clone();
            in_flight.spawn(async move {
                if let Err(error) = sender.deliver(&leased).await {
                    let delivery = leased.lease.job;
                    tracing::warn!(job = %delivery, error = &error as &dyn std::error::Error, "a delivery waits for its lease to expire");
                }
                drop(slot);
                // A successor that waited for it, or another delivery of its account, may be claimed now.
                sender.notifier.notify().await;
            });
        }
        Ok(more)
    }

    async fn deliver(&self, leased: &jobs::Leased) -> Result<(), Error> {
        let Some(delivery) = self.store.load_delivery(leased).await? else {
            // Its endpoint was disabled, or the delivery has ended.
            return self.store.drop_delivery_job(leased).await;
        };
        let span = span(&delivery);
        self.send(leased, &delivery).instrument(span).await
    }

    async fn send(&self, leased: &jobs::Leased, delivery: &ClaimedDelivery) -> Result<(), Error> {
        let result = self.attempt(delivery).await?;
        let Settlement { outcome, disabled } = match self.store.settle_delivery(delivery, &result).await {
            Ok(settlement) => settlement,
            // Another process took it over, so it was sent twice, as at-least-once allows.
            Err(Error::StaleFence) => return Ok(()),
            Err(error) => return Err(error),
        };
        Span::current().record(attributes::OUTCOME, outcome.as_str());
        metrics::delivery_attempted(outcome.as_str(), result.latency);
        let account = AccountId(leased.account);
        if outcome == DeliveryOutcome::Failed {
            events::delivery_failed(account, delivery.name, result.http_status, result.reason);
        }
        if let Some(reason) = disabled {
            events::endpoint_disabled(account, delivery.name.endpoint, reason);
        }
        Ok(())
    }

    async fn attempt(&self, delivery: &ClaimedDelivery) -> Result<AttemptResult, Error> {
        let body = self.encoder.encode(&Event {
            r#type: delivery.event_type.clone(),
            timestamp: Some(timestamp(delivery.create_time)),
            data: Some(
                delivery
                    .generation
                    .as_ref()
                    .map(|generation| self.presenter.generation(generation))
                    .unwrap_or_default(),
            ),
        })?;
        let began = Instant::now();
        let result = |http_status, reason, excerpt, asked: Duration| AttemptResult {
            http_status,
            latency: began.elapsed(),
            reason,
            excerpt,
            pause: pause(delivery.attempt).max(asked),
        };
        let no_answer = |reason| result(0, reason, String::new(), Duration::ZERO);
        let id = delivery.name.delivery.0;
        let time = delivery.now.unix_timestamp();
        let signatures = message::sign(&delivery.secrets, id, time, &body);
        let Ok(url) = Url::parse(&delivery.url) else { return Ok(no_answer("ADDRESS_REFUSED")) };
        let call = Call::begin("send webhook", &Method::POST, &url);
        let no_answer = |reason| {
            call.failed(reason);
            no_answer(reason)
        };
        let Ok(request) = self.egress.request(Method::POST, url) else { return Ok(no_answer("ADDRESS_REFUSED")) };
        let request = request
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id.to_string())
            .header("webhook-timestamp", time.to_string())
            .header("webhook-signature", signatures)
            .body(body);
        let mut answer = match tokio::time::timeout(self.timeout, request.send()).instrument(call.span().clone()).await
        {
            Err(_) => return Ok(no_answer("TIMEOUT")),
            Ok(Err(error)) if error.is_timeout() => return Ok(no_answer("TIMEOUT")),
            Ok(Err(error)) if error.is_connect() => return Ok(no_answer("UNREACHABLE")),
            Ok(Err(_)) => return Ok(no_answer("BROKEN_ANSWER")),
            Ok(Ok(answer)) => answer,
        };
        let status = answer.status();
        call.answered(status);
        let asked = match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => retry_after(answer.headers()),
            _ => Duration::ZERO,
        };
        let mut answered = result(status.as_u16(), "", String::new(), asked);
        // The status decides already, so a body that is slow or breaks off only shortens the excerpt.
        let mut bytes = Vec::new();
        let read = async {
            while bytes.len() < MAX_EXCERPT_BYTES
                && let Ok(Some(chunk)) = answer.chunk().await
            {
                bytes.extend_from_slice(&chunk);
            }
        };
        let _ = tokio::time::timeout(self.timeout.saturating_sub(began.elapsed()), read).await;
        answered.excerpt = excerpt(&bytes);
        Ok(answered)
    }

    /// Takes back dead processes' deliveries, fails those of disabled endpoints, and deletes old ones, at an interval until
    /// `stop`.
    pub(crate) async fn run_reaper(self, interval: Duration, stop: CancellationToken) {
        let mut tick = tokio::time::interval(interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            match self.store.reap_deliveries().await {
                Ok(ReapedDeliveries { ready, failed }) => {
                    if failed > 0 {
                        events::deliveries_abandoned(failed);
                    }
                    if ready {
                        self.notifier.notify().await;
                    }
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the reaper of deliveries failed and will be repeated"
                    );
                }
            }
        }
    }

    /// Sets the gauges of pending deliveries at an interval, until `stop`.
    pub(crate) async fn run_gauges(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(GAUGE_INTERVAL);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            match self.store.pending_deliveries().await {
                Ok((count, oldest)) => {
                    metrics::deliveries_pending(count, oldest);
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "pending deliveries could not be counted");
                }
            }
        }
    }
}

/// The span of one attempt, in the trace of the call that started the generation.
fn span(delivery: &ClaimedDelivery) -> Span {
    let span = info_span!(
        "webhook job",
        otel.kind = "consumer",
        { attributes::MESSAGING_SYSTEM } = "postgresql",
        { attributes::JOB } = %delivery.lease.job,
        { attributes::ATTEMPT } = delivery.attempt,
        { attributes::OUTCOME } = Empty,
    );
    if let Some(generation) = &delivery.generation {
        telemetry::set_parent(&span, &generation.traceparent);
    }
    span
}

/// The pause after this attempt of a round, lengthened by a random tenth so that failed deliveries spread out.
fn pause(attempt: i32) -> Duration {
    let at = usize::try_from(attempt - 1).unwrap_or_default().min(RETRY_PAUSES.len() - 1);
    Duration::from_secs(RETRY_PAUSES[at]).mul_f64(1.0 + fastrand::f64() / 10.0)
}

/// What an answer's Retry-After asks for, where that is a number of seconds.
fn retry_after(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    Duration::from_secs(seconds.unwrap_or_default()).min(MAX_RETRY_AFTER)
}

/// The part of an answer that is shown: text without control characters, since PostgreSQL refuses NUL and a terminal would
/// obey the others.
fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_EXCERPT_BYTES)]);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MAX_DELIVERY_ATTEMPTS;

    #[test]
    fn pauses_grow_over_hours_and_differ() {
        for attempt in 1..MAX_DELIVERY_ATTEMPTS {
            let min = Duration::from_secs(RETRY_PAUSES[attempt as usize - 1]);
            assert!((min..=min.mul_f64(1.1)).contains(&pause(attempt)), "{attempt}");
        }
        assert!(RETRY_PAUSES.is_sorted());
        assert_ne!(pause(5), pause(5));
    }

    #[test]
    fn an_excerpt_is_short_printable_text() {
        assert_eq!(excerpt(b"no\0 \x1b[31mred\xff\n"), "no   [31mred\u{fffd}");
        assert_eq!(excerpt(&[b'a'; 5_000]).len(), MAX_EXCERPT_BYTES);
        let asked = |text| retry_after(&HeaderMap::from_iter([(RETRY_AFTER, http::HeaderValue::from_static(text))]));
        assert_eq!(asked("7"), Duration::from_secs(7));
        assert_eq!(asked("999999999"), MAX_RETRY_AFTER);
        assert_eq!(asked("soon"), Duration::ZERO);
    }
}
