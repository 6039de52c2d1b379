//! Work as workers know it: leases given out, their reports taken in, and what is left behind reaped up.
//!
//! Invariant: every report names its lease, and one whose lease was given to another changes nothing.

use std::time::Duration;

use chassis::crash;
use domain::money::Micros;
use jobs::{ClaimRequest, Failure, Lease, LeaseStatus, Listener, Notifier, Retry};
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::generations::Generations;
use crate::progress::Progress;
use crate::record::{Flaw, Output, ProviderCharge, Wait};
use crate::store::{Claimed, KIND, Step, Stopped, Store, Suspension};

/// After a sweep that failed.
const AGAIN: Duration = Duration::from_millis(500);

/// How often the queue is measured.
const OBSERVE: Duration = Duration::from_secs(15);

/// What kind of failure ended an attempt, and with it what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Something broke that may work next time.
    Internal,
    /// The provider asked for a pause.
    Throttled,
    /// The input was refused and always will be.
    InvalidInput,
    /// The provider's safety rules refused it.
    Safety,
    /// The provider's result cannot be used.
    BadOutput,
    /// The generation was cancelled, and the provider stopped.
    Cancelled,
}

/// A worker's account of a failure.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) class: Class,
    /// Upper snake case; empty when the worker gave none.
    pub(crate) reason: String,
    /// For the generation's user.
    pub(crate) message: String,
    pub(crate) retry_after: Option<Duration>,
    /// Nothing when the worker does not know.
    pub(crate) provider_charge: Option<ProviderCharge>,
}

/// What workers can do; cheap to clone.
#[derive(Clone)]
pub(crate) struct Work {
    store: Store,
    generations: Generations,
    progress: Progress,
    notifier: Notifier,
    lease: Duration,
}

impl Work {
    pub(crate) fn new(
        store: Store,
        generations: Generations,
        progress: Progress,
        notifier: Notifier,
        lease: Duration,
    ) -> Self {
        Self { store, generations, progress, notifier, lease }
    }

    /// Someone to be told when work may be ready.
    pub(crate) fn listen(&self) -> Listener {
        self.notifier.listen()
    }

    /// Leases up to `limit` pieces of work on these models.
    pub(crate) async fn claim(&self, worker: &str, models: &[String], limit: u32) -> Result<Vec<Claimed>, Error> {
        let wanted = ClaimRequest {
            kind: KIND,
            queues: models,
            worker,
            limit,
            lease: self.lease,
            limits: Some(self.store.limits()),
        };
        let claimed = self.store.claim(wanted).await?;
        if !claimed.is_empty() {
            crash::point(crash::CLAIM_COMMITTED);
        }
        for piece in claimed.iter().filter(|piece| !piece.leased.poll) {
            self.generations.tell(&piece.record).await;
        }
        Ok(claimed)
    }

    /// Prolongs leases; one status for each, in the order given.
    pub(crate) async fn heartbeat(&self, leases: &[Lease]) -> Result<Vec<LeaseStatus>, Error> {
        self.store.heartbeat(leases, self.lease).await
    }

    /// The provider is about to be called.
    pub(crate) async fn intended(&self, lease: Lease, provider: &str) -> Result<(), Error> {
        self.store.intend(lease, provider).await?;
        crash::point(crash::INTENT_COMMITTED);
        Ok(())
    }

    /// The provider took the order under `reference`.
    pub(crate) async fn submitted(&self, lease: Lease, reference: &str) -> Result<(), Error> {
        let record = self.store.submitted(lease, reference).await?;
        crash::point(crash::REFERENCE_COMMITTED);
        self.generations.tell(&record).await;
        Ok(())
    }

    /// The lease ends, the attempt goes on at the provider.
    pub(crate) async fn suspend(&self, pause: &Suspension) -> Result<(), Error> {
        let record = self.store.suspend(pause).await?;
        crash::point(crash::SUSPENSION_COMMITTED);
        if pause.unconfirmed {
            metrics::counter!("rushes_submissions_unconfirmed_total").increment(1);
        }
        if let Some(record) = record {
            self.generations.tell(&record).await;
        }
        Ok(())
    }

    /// A provider's webhook, verified by the caller, named a job. Returns whether that was waiting for it.
    pub(crate) async fn hint(
        &self,
        event: (&str, &str),
        job: uuid::Uuid,
        reference: Option<&str>,
    ) -> Result<bool, Error> {
        let Some((awaited, record)) = self.store.hint(event, job, reference).await? else { return Ok(false) };
        crash::point(crash::HINT_COMMITTED);
        if let Some(record) = record {
            self.generations.tell(&record).await;
        }
        if awaited {
            self.notifier.notify().await;
        }
        Ok(awaited)
    }

    /// Takes note of how far the work is; returns whether it is to be stopped.
    pub(crate) async fn progressed(&self, step: Step) -> Result<bool, Error> {
        self.progress.report(step).await
    }

    /// The provider is done, the bytes are being brought home.
    pub(crate) async fn finalizing(&self, step: &Step) -> Result<(), Error> {
        let record = self.store.finalizing(step).await?;
        crash::point(crash::FINALIZING_COMMITTED);
        self.generations.tell(&record).await;
        Ok(())
    }

    /// The bytes are in our storage: the generation completes and `cost` is charged.
    pub(crate) async fn complete(&self, lease: Lease, output: &Output, cost: Micros) -> Result<(), Error> {
        let record = self.store.complete(lease, output, cost).await?;
        crash::point(crash::COMPLETION_COMMITTED);
        self.ended(&record.state, &record.model);
        self.generations.tell(&record).await;
        Ok(())
    }

    /// An attempt failed; returns whether there will be another.
    pub(crate) async fn fail(&self, lease: Lease, report: Report) -> Result<bool, Error> {
        let (record, again) = self.store.fail(lease, &stopped(report)).await?;
        crash::point(crash::FAILURE_COMMITTED);
        if !again {
            self.ended(&record.state, &record.model);
        }
        self.generations.tell(&record).await;
        Ok(again)
    }

    /// The worker gives a lease back unused.
    pub(crate) async fn release(&self, lease: Lease) -> Result<(), Error> {
        let record = self.store.release(lease).await?;
        crash::point(crash::RELEASE_COMMITTED);
        if let Some(record) = record {
            self.generations.tell(&record).await;
        }
        self.notifier.notify().await;
        Ok(())
    }

    /// Takes back, every so often, what workers left behind, until `stop`. Every process does; they do not hinder each
    /// other.
    pub(crate) async fn keep_sweeping(self, every: Duration, stop: CancellationToken) {
        let mut tick = tokio::time::interval(every);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            if let Err(error) = self.sweep().await {
                tracing::warn!(error = &error as &dyn std::error::Error, "the sweep failed and will be repeated");
                // Sooner than usual: what dead workers left has waited for its lease already.
                tick.reset_after(every.min(AGAIN));
            }
        }
    }

    async fn sweep(&self) -> Result<(), Error> {
        let (changed, ready) = self.store.sweep().await?;
        if !changed.is_empty() {
            crash::point(crash::REAP_COMMITTED);
        }
        for record in &changed {
            if record.state.is_terminal() {
                self.ended(&record.state, &record.model);
            }
            self.generations.tell(record).await;
        }
        if ready {
            self.notifier.notify().await;
        }
        for (account, id) in self.store.overdue().await? {
            let Some(record) = self.store.enforce(account, id).await? else { continue };
            crash::point(crash::DEADLINE_COMMITTED);
            if record.state.is_terminal() {
                self.ended(&record.state, &record.model);
            } else {
                self.notifier.notify().await;
            }
            self.generations.tell(&record).await;
        }
        Ok(())
    }

    /// Measures the queue every so often, until `stop`.
    pub(crate) async fn keep_measuring(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(OBSERVE);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            if let Err(error) = self.store.observe().await {
                tracing::warn!(error = &error as &dyn std::error::Error, "the queue could not be measured");
            }
        }
    }

    fn ended(&self, state: &domain::generation::State, model: &str) {
        metrics::counter!("rushes_generations_ended_total", "model" => model.to_owned(), "state" => state.as_str())
            .increment(1);
    }
}

/// What a failure means for the job and for the generation's user.
fn stopped(report: Report) -> Stopped {
    use tonic::Code;
    let after = report.retry_after;
    let (retry, wait, code, usual) = match report.class {
        // A cancel that nobody asked for: the store polls at this only then.
        Class::Internal | Class::Cancelled => {
            (Retry::Counted { after }, Wait::Backoff, Code::Unavailable, "PROVIDER_INTERNAL")
        }
        Class::Throttled => {
            (Retry::Uncounted { after }, Wait::ProviderThrottled, Code::ResourceExhausted, "PROVIDER_QUOTA")
        }
        Class::InvalidInput => (Retry::Never, Wait::Backoff, Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION"),
        Class::Safety => (Retry::Never, Wait::Backoff, Code::FailedPrecondition, "SAFETY_INPUT"),
        Class::BadOutput => (Retry::Counted { after }, Wait::Backoff, Code::Internal, "PROVIDER_BAD_OUTPUT"),
    };
    let reason = if report.reason.is_empty() { usual.to_owned() } else { report.reason };
    Stopped {
        failure: Failure { retry, cause: reason.clone(), detail: report.message.clone() },
        flaw: Flaw { code: code as i32, reason, message: report.message },
        wait,
        provider_charge: report.provider_charge,
    }
}
