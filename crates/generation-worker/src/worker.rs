//! The worker's loop: an open claim stream, a heartbeat for all leases, and one task for each lease.
//!
//! Invariant: no more is claimed than there are free slots, over reconnects too; what runs when the process drains is finished
//! within the grace period or given back.

use std::collections::HashMap;
use std::time::Duration;

use chassis::drain::Drain;
use chassis::telemetry::{self, attributes};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tracing::field::Empty;
use tracing::{Instrument as _, Span, info_span};

use crate::clients::{Claims, Unreadable};
use crate::error::Error;
use crate::events;
use crate::model::{Lease, Outcome, Work};
use crate::orders::{Orders, Signals};

/// The longest pause between two tries to open the claim stream.
const MAX_RECONNECT_PAUSE: Duration = Duration::from_secs(3);
/// The share of the grace period after which what still runs is asked to give its lease back.
const LEAVE_AFTER: f64 = 0.6;
/// The share of the grace period after which what still runs is aborted; the rest is for giving leases back.
const ABORT_AFTER: f64 = 0.9;

/// Claims work and carries it out.
pub(crate) struct Worker {
    orders: Orders,
    name: String,
    slots: u32,
    heartbeat: Duration,
    running: JoinSet<Outcome>,
    /// One task for each slot that is held; it ends when the slot is freed.
    held: JoinSet<()>,
    leases: HashMap<Id, (Lease, Signals)>,
}

impl Worker {
    /// A worker called `name` that works on at most `slots` leases at one time.
    #[must_use]
    pub(crate) fn new(orders: Orders, name: String, slots: u32, heartbeat: Duration) -> Self {
        Self {
            orders,
            name,
            slots: slots.clamp(1, 100),
            heartbeat,
            running: JoinSet::new(),
            held: JoinSet::new(),
            leases: HashMap::new(),
        }
    }

    /// Its name, which no other start of a worker has.
    #[must_use]
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The providers that it claims work for.
    #[must_use]
    pub(crate) fn providers(&self) -> Vec<String> {
        self.orders.providers.names()
    }

    /// Works until `drain` begins, and ends what runs.
    pub(crate) async fn run(mut self, drain: Drain) {
        let token = drain.token();
        let mut heartbeat = interval(self.heartbeat);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut claims: Option<Claims> = None;
        let (mut pause, mut outage) = (Duration::ZERO, false);
        let mut reconnect_at = Instant::now();
        loop {
            tokio::select! {
                () = token.cancelled() => break,
                () = sleep_until(reconnect_at), if claims.is_none() => {
                    match self.claim().await {
                        Ok(open) => (claims, outage) = (Some(open), false),
                        Err(error) => {
                            // Once for each outage, not for each try.
                            if !outage {
                                tracing::warn!(%error, "no work can be claimed");
                            }
                            outage = true;
                            (pause, reconnect_at) = back_off(pause);
                        }
                    }
                }
                work = next(&mut claims) => match work {
                    Ok(Some(work)) => {
                        pause = Duration::ZERO;
                        self.begin(work);
                    }
                    ended => {
                        if let Err(error) = ended {
                            tracing::info!(%error, "the claim stream broke");
                        }
                        claims = None;
                        (pause, reconnect_at) = back_off(pause);
                    }
                },
                Some(ended) = self.running.join_next_with_id() => self.ended(ended),
                Some(_) = self.held.join_next() => {
                    // A full or closed stream is opened anew, and then says how many slots are free.
                    if claims.as_ref().is_some_and(|open| !open.free_slot()) {
                        claims = None;
                    }
                }
                _ = heartbeat.tick() => self.beat().await,
            }
        }
        drop(claims);
        self.finish(drain.grace()).await;
    }

    /// Opens a claim stream for the slots that are free.
    async fn claim(&self) -> Result<Claims, Error> {
        let held = u32::try_from(self.held.len()).unwrap_or(u32::MAX);
        let free = self.slots.saturating_sub(held);
        let keys = self.orders.providers.keys();
        self.orders.work.claim(&self.name, self.providers(), keys, free).await
    }

    fn begin(&mut self, work: Result<Work, Unreadable>) {
        let lease = match &work {
            Ok(work) => work.lease,
            Err(unreadable) => unreadable.lease,
        };
        let signals = Signals::default();
        self.held.spawn(signals.slot_freed.clone().cancelled_owned());
        let task = carry_out(self.orders.clone(), work, signals.clone());
        let id = self.running.spawn(task).id();
        self.leases.insert(id, (lease, signals));
        events::work_running(self.running.len());
    }

    fn ended(&mut self, ended: Result<(Id, Outcome), JoinError>) {
        match ended {
            Ok((id, outcome)) => {
                self.free(id);
                events::work_ended(outcome);
            }
            Err(error) => {
                let job = self.free(error.id()).map(|lease| lease.job.to_string());
                events::work_panicked(job.as_deref().unwrap_or_default(), &error);
            }
        }
        events::work_running(self.running.len());
    }

    /// Lets go of the lease of a task that has ended.
    fn free(&mut self, task: Id) -> Option<Lease> {
        let (lease, signals) = self.leases.remove(&task)?;
        signals.slot_freed.cancel();
        Some(lease)
    }

    /// Prolongs all leases in one call and passes on what it says of them.
    async fn beat(&self) {
        let leases: Vec<Lease> = self.leases.values().map(|(lease, _)| *lease).collect();
        if leases.is_empty() {
            return;
        }
        let statuses = match self.orders.work.heartbeat(&self.name, &leases).await {
            Ok(statuses) => statuses,
            Err(error) => {
                tracing::warn!(%error, leases = leases.len(), "leases cannot be prolonged");
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

    /// Gives what runs most of the grace period, then asks for the leases back and waits for that.
    async fn finish(mut self, grace: Duration) {
        let leave_at = Instant::now() + grace.mul_f64(LEAVE_AFTER);
        let abort_at = Instant::now() + grace.mul_f64(ABORT_AFTER);
        while Instant::now() < abort_at && !self.running.is_empty() {
            if Instant::now() >= leave_at {
                self.leases.values().for_each(|(_, signals)| signals.leave.cancel());
            }
            let until = if Instant::now() < leave_at { leave_at } else { abort_at };
            let wait = until.saturating_duration_since(Instant::now()).min(self.heartbeat);
            match timeout(wait, self.running.join_next_with_id()).await {
                Ok(Some(ended)) => self.ended(ended),
                Ok(None) => break,
                Err(_) => self.beat().await,
            }
        }
        self.running.abort_all();
        for (lease, _) in self.leases.values() {
            if let Err(error) = self.orders.work.release(*lease).await {
                tracing::warn!(%error, job = %lease.job, "a lease cannot be given back");
            }
        }
    }
}

/// The next work of an open stream; waits for ever without one.
async fn next(claims: &mut Option<Claims>) -> Result<Option<Result<Work, Unreadable>>, Error> {
    match claims {
        Some(open) => open.next().await,
        None => std::future::pending().await,
    }
}

/// A longer pause than the last, and when it ends.
fn back_off(pause: Duration) -> (Duration, Instant) {
    let pause = (pause * 2).clamp(Duration::from_millis(50), MAX_RECONNECT_PAUSE);
    // Spread, so that all workers do not come back to a restarted generation-status at one moment.
    (pause, Instant::now() + pause.mul_f64(0.5 + fastrand::f64() / 2.0))
}

/// Carries out the work of one lease, in the trace of the call that started its generation.
async fn carry_out(orders: Orders, work: Result<Work, Unreadable>, signals: Signals) -> Outcome {
    let work = match work {
        Ok(work) => work,
        Err(unreadable) => return orders.refuse(&unreadable).await,
    };
    let model = work.model.strip_prefix("models/").unwrap_or(&work.model);
    let span = info_span!(
        "work",
        otel.name = format!("work {model}"),
        otel.kind = "consumer",
        otel.status_code = Empty,
        { attributes::GENERATION } = work.generation.strip_prefix("generations/"),
        { attributes::JOB } = %work.lease.job,
        { attributes::ATTEMPT } = work.attempt,
        { attributes::OUTCOME } = Empty,
    );
    if !work.traceparent.is_empty() {
        telemetry::set_parent(&span, &work.traceparent);
    }
    let carry_out = async move {
        let outcome = orders.carry_out(&work, &signals).await;
        Span::current().record(attributes::OUTCOME, outcome.as_str());
        if outcome == Outcome::Failed {
            Span::current().record("otel.status_code", "ERROR");
        }
        outcome
    };
    carry_out.instrument(span).await
}
