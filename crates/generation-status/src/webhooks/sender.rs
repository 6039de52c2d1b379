//! The sender of webhooks: due deliveries become jobs, free slots claim jobs, and each attempt's result is committed with the end
//! of its lease.
//!
//! Invariants: a delivery whose process dies is sent again under the same id once its lease has expired; of one generation and
//! endpoint one event is in flight at a time; and an endpoint has at most a few of the slots, a slow one only of those for slow ones.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use chassis::egress::Egress;
use chassis::telemetry::{self, attributes};
use domain::id::AccountId;
use jobs::Notifier;
use proto::webhooks::v1::Event;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::field::Empty;
use tracing::{Instrument as _, Span, info_span};
use uuid::Uuid;

use super::attempt;
use super::message::EventEncoder;
use super::slots::{Slot, Slots};
use crate::error::Error;
use crate::events;
use crate::metrics;
use crate::model::{
    AnswerSpeed, AttemptResult, ClaimedDelivery, DeliveryOutcome, ReapedDeliveries, SLOW_AFTER, SLOW_QUEUE, Settlement,
    Unqueued,
};
use crate::presenter::{Presenter, timestamp};
use crate::store::Store;

/// How long a delivery's lease lasts, so how long a dead process's delivery waits.
const LEASE: Duration = Duration::from_secs(30);
/// After what time a delivery is looked at again whose endpoint's secret no key opens.
const UNREADABLE_WAIT: Duration = Duration::from_secs(60);
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
        let slots = Slots::new();
        let mut listener = self.notifier.listen();
        let mut in_flight = JoinSet::new();
        while !stop.is_cancelled() {
            while in_flight.try_join_next().is_some() {}
            let more = match self.run_round(&slots, &mut in_flight).await {
                Ok(more) => more,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "deliveries could not be claimed");
                    false
                }
            };
            // Without a free slot a round claims nothing, and the end of an attempt notifies.
            if !more {
                stop.run_until_cancelled(listener.until_due(|| self.store.any_delivery_due())).await;
            }
        }
        while in_flight.join_next().await.is_some() {}
    }

    /// Enqueues what is due and claims as much as there are slots for; returns whether there may be more.
    async fn run_round(&self, slots: &Slots, in_flight: &mut JoinSet<()>) -> Result<bool, Error> {
        let Unqueued { handled, overtaken } = self.store.enqueue_deliveries().await?;
        if overtaken > 0 {
            events::deliveries_overtaken(overtaken);
        }
        let claimed = self.store.claim_deliveries(&self.name, slots.free(), LEASE).await?;
        let more = handled > 0 || !claimed.is_empty();
        for leased in claimed {
            // Only this task takes slots, and it claimed as many jobs as were free; but an attempt that turned out to be slow may have
            // changed its slot for a slow one meanwhile.
            let Some(slot) = slots.take(leased.queue == SLOW_QUEUE) else {
                self.store.put_delivery_back(&leased, Duration::ZERO).await?;
                continue;
            };
            let sender = self.clone();
            in_flight.spawn(async move {
                if let Err(error) = sender.deliver(&leased, slot).await {
                    let delivery = leased.lease.job;
                    tracing::warn!(job = %delivery, error = &error as &dyn std::error::Error, "a delivery waits for its lease to expire");
                }
                // A successor that waited for it, or another delivery to its endpoint, may be claimed now.
                sender.notifier.notify().await;
            });
        }
        Ok(more)
    }

    /// Sends a claimed delivery; the slot is free when it returns.
    async fn deliver(&self, leased: &jobs::Leased, mut slot: Slot) -> Result<(), Error> {
        let delivery = match self.store.load_delivery(leased).await {
            Ok(Some(delivery)) => delivery,
            // Its endpoint was disabled, or the delivery has ended.
            Ok(None) => return self.store.put_delivery_back(leased, Duration::ZERO).await,
            // It waits until somebody has put the key back; `secrets.rs` says so in the log.
            Err(Error::SecretUnreadable) => return self.store.put_delivery_back(leased, UNREADABLE_WAIT).await,
            Err(error) => return Err(error),
        };
        // It was enqueued before its endpoint was found to be slow.
        if delivery.speed == AnswerSpeed::Slow && !slot.make_slow() {
            return self.store.put_delivery_back(leased, Duration::ZERO).await;
        }
        let span = span(&delivery);
        self.send(leased, &delivery, &mut slot).instrument(span).await
    }

    async fn send(&self, leased: &jobs::Leased, delivery: &ClaimedDelivery, slot: &mut Slot) -> Result<(), Error> {
        let result = self.attempt(leased.account, delivery, slot).await?;
        let Settlement { outcome, disabled } = match self.store.settle_delivery(delivery, &result).await {
            Ok(settlement) => settlement,
            // Another process took it over, so it was sent twice, as at-least-once allows.
            Err(Error::StaleFence) => return Ok(()),
            Err(error) => return Err(error),
        };
        Span::current().record(attributes::OUTCOME, outcome.as_str());
        metrics::delivery_attempted(outcome.as_str(), result.latency);
        let account = AccountId(leased.account);
        match outcome {
            DeliveryOutcome::Failed => {
                events::delivery_failed(account, delivery.name, result.http_status, result.reason);
            }
            DeliveryOutcome::Overtaken => {
                events::delivery_overtaken(account, delivery.name, result.http_status, result.reason);
            }
            DeliveryOutcome::Delivered | DeliveryOutcome::Retried => {}
        }
        if let Some(reason) = disabled {
            events::endpoint_disabled(account, delivery.name.endpoint, reason.as_str());
        }
        Ok(())
    }

    /// One attempt. An endpoint that keeps it waiting is marked as slow, and the slot is changed for a slow one, while it goes on.
    async fn attempt(
        &self,
        account: Uuid,
        delivery: &ClaimedDelivery,
        slot: &mut Slot,
    ) -> Result<AttemptResult, Error> {
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
        let mut attempt = pin!(attempt::send(&self.egress, delivery, body, self.timeout));
        if let Ok(result) = tokio::time::timeout(SLOW_AFTER, &mut attempt).await {
            return Ok(result);
        }
        slot.make_slow();
        let mark = self.store.mark_endpoint_slow(account, delivery.name.endpoint.0);
        let (result, marked) = tokio::join!(attempt, mark);
        if let Err(error) = marked {
            tracing::warn!(error = &error as &dyn std::error::Error, "an endpoint could not be marked as slow");
        }
        Ok(result)
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
