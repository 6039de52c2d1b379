//! The worker's loop: an open claim stream, a heartbeat for all leases, and one task for each piece of work.
//!
//! Invariant: no more is claimed than there are free hands, over reconnects too; what runs when the process drains is finished
//! within the grace period or given back.

use std::collections::HashMap;
use std::time::Duration;

use chassis::drain::Drain;
use chassis::telemetry;
use proto::work::v1::{ClaimWorkRequest, ClaimWorkResponse, Lease, Work};
use tokio::sync::mpsc;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;
use tracing::{Instrument as _, Span, field::Empty, info_span};

use crate::orders::{Orders, Outcome, Signals};

/// The longest pause between two tries to open the claim stream.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// How long opening the claim stream may take: leases wait to be prolonged meanwhile.
const OPENING: Duration = Duration::from_secs(5);

/// Takes work and carries it out.
pub struct Worker {
    orders: Orders,
    name: String,
    slots: u32,
    heartbeat: Duration,
    running: JoinSet<Outcome>,
    leases: HashMap<Id, (Lease, Signals)>,
}

/// An open claim stream.
struct Claims {
    ask: mpsc::Sender<ClaimWorkRequest>,
    work: Streaming<ClaimWorkResponse>,
}

impl Worker {
    /// A worker called `name` that carries out at most `slots` pieces of work at one time.
    #[must_use]
    pub fn new(orders: Orders, name: String, slots: u32, heartbeat: Duration) -> Self {
        Self { orders, name, slots: slots.clamp(1, 100), heartbeat, running: JoinSet::new(), leases: HashMap::new() }
    }

    /// Works until `drain` begins, and ends what runs.
    pub async fn run(mut self, drain: Drain) {
        let token = drain.token();
        let mut beat = interval(self.heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut claims: Option<Claims> = None;
        let mut pause = Duration::ZERO;
        let mut due = Instant::now();
        loop {
            tokio::select! {
                () = token.cancelled() => break,
                () = sleep_until(due), if claims.is_none() => {
                    match self.open().await {
                        Ok(open) => claims = Some(open),
                        Err(status) => {
                            tracing::warn!(code = ?status.code(), message = status.message(), "no work can be claimed");
                            (pause, due) = later(pause);
                        }
                    }
                }
                message = next(&mut claims) => match message {
                    Ok(Some(message)) => {
                        pause = Duration::ZERO;
                        self.begin(message);
                    }
                    ended => {
                        if let Err(status) = ended {
                            tracing::warn!(code = ?status.code(), message = status.message(), "the claim stream broke");
                        }
                        claims = None;
                        (pause, due) = later(pause);
                    }
                },
                Some(ended) = self.running.join_next_with_id() => {
                    self.ended(ended);
                    let ask = ClaimWorkRequest { slots: 1, ..ClaimWorkRequest::default() };
                    // A full or closed stream is opened anew, and then says how many hands are free.
                    if claims.as_ref().is_some_and(|open| open.ask.try_send(ask).is_err()) {
                        claims = None;
                    }
                }
                _ = beat.tick() => self.beat().await,
            }
        }
        drop(claims);
        self.finish(drain.grace()).await;
    }

    /// Opens a claim stream for the hands that are free, outside of every span: it lasts as long as the process.
    async fn open(&self) -> Result<Claims, Status> {
        let (ask, asks) = mpsc::channel(256);
        let free = i32::try_from(self.slots).unwrap_or(100) - i32::try_from(self.running.len()).unwrap_or(100);
        let first =
            ClaimWorkRequest { worker: self.name.clone(), models: self.orders.providers.models(), slots: free.max(0) };
        ask.try_send(first).map_err(|_| Status::internal("the first message does not fit"))?;
        let mut client = self.orders.status.generated();
        let call = async move { client.claim_work(ReceiverStream::new(asks)).await };
        let opened = timeout(OPENING, call.with_subscriber(NoSubscriber::new())).await;
        let work = opened.map_err(|_| Status::deadline_exceeded("it does not answer"))??.into_inner();
        Ok(Claims { ask, work })
    }

    fn begin(&mut self, message: ClaimWorkResponse) {
        let Some(work) = message.work else { return };
        let lease = work.lease.clone().unwrap_or_default();
        let signals = Signals::default();
        let task = one(self.orders.clone(), work, signals.clone());
        let id = self.running.spawn(task).id();
        self.leases.insert(id, (lease, signals));
        metrics::gauge!("rushes_work_running").set(self.running.len() as f64);
    }

    fn ended(&mut self, ended: Result<(Id, Outcome), tokio::task::JoinError>) {
        let id = match ended {
            Ok((id, outcome)) => {
                metrics::counter!("rushes_work_total", "outcome" => outcome.as_str()).increment(1);
                id
            }
            Err(error) => {
                // The lease is left to run out, which counts against the job: a third time makes it a dead letter.
                tracing::error!(%error, "a piece of work panicked");
                metrics::counter!("rushes_work_total", "outcome" => "panicked").increment(1);
                error.id()
            }
        };
        self.leases.remove(&id);
        metrics::gauge!("rushes_work_running").set(self.running.len() as f64);
    }

    /// Prolongs all leases in one call and passes on what it says of them.
    async fn beat(&self) {
        let leases: Vec<Lease> = self.leases.values().map(|(lease, _)| lease.clone()).collect();
        if leases.is_empty() {
            return;
        }
        let beat = self.orders.status.heartbeat(&self.name, leases.clone()).with_subscriber(NoSubscriber::new());
        let statuses = match beat.await {
            Ok(response) => response.statuses,
            Err(error) => {
                tracing::warn!(%error, "leases cannot be prolonged");
                return;
            }
        };
        for (lease, status) in leases.iter().zip(statuses) {
            for (_, signals) in self.leases.values().filter(|(held, _)| held == lease) {
                if !status.held {
                    signals.lost.cancel();
                } else if status.cancel_requested {
                    signals.cancel.cancel();
                }
            }
        }
    }

    /// Gives what runs most of the grace period, then asks for it back and waits for that.
    async fn finish(mut self, grace: Duration) {
        let ask = Instant::now() + grace.mul_f64(0.6);
        let end = Instant::now() + grace.mul_f64(0.9);
        while Instant::now() < end && !self.running.is_empty() {
            if Instant::now() >= ask {
                self.leases.values().for_each(|(_, signals)| signals.leave.cancel());
            }
            let until = if Instant::now() < ask { ask } else { end };
            let wait = until.saturating_duration_since(Instant::now()).min(self.heartbeat);
            match timeout(wait, self.running.join_next_with_id()).await {
                Ok(Some(ended)) => self.ended(ended),
                Ok(None) => break,
                Err(_) => self.beat().await,
            }
        }
        self.running.abort_all();
        for (lease, _) in self.leases.values() {
            if let Err(error) = self.orders.status.release(lease).await {
                tracing::warn!(%error, job = lease.job, "a lease cannot be given back");
            }
        }
    }
}

/// The next message of an open stream; waits for ever without one.
async fn next(claims: &mut Option<Claims>) -> Result<Option<ClaimWorkResponse>, Status> {
    match claims {
        Some(open) => open.work.message().await,
        None => std::future::pending().await,
    }
}

/// A longer pause than the last, and when it ends.
fn later(pause: Duration) -> (Duration, Instant) {
    let pause = (pause * 2).clamp(Duration::from_millis(50), LONGEST_PAUSE);
    (pause, Instant::now() + pause.mul_f64(0.5 + fastrand::f64() / 2.0))
}

/// Carries out one piece of work, in the trace of the call that started its generation.
async fn one(orders: Orders, work: Work, signals: Signals) -> Outcome {
    let model = work.model.strip_prefix("models/").unwrap_or(&work.model);
    let span = info_span!(
        "work",
        otel.name = format!("work {model}"),
        otel.kind = "consumer",
        otel.status_code = Empty,
        rushes.generation = work.generation,
        rushes.job = work.lease.as_ref().map(|lease| lease.job.as_str()),
        rushes.attempt = work.attempt,
        rushes.outcome = Empty,
    );
    if !work.traceparent.is_empty() {
        telemetry::set_parent(&span, &work.traceparent);
    }
    let work = async move {
        let outcome = orders.carry_out(work, &signals).await;
        Span::current().record("rushes.outcome", outcome.as_str());
        if outcome == Outcome::Failed {
            Span::current().record("otel.status_code", "ERROR");
        }
        outcome
    };
    work.instrument(span).await
}
