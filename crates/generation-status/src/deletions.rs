//! The rules of deletions: the open generations of a deleted project or scene are cancelled, each as its user would cancel it.
//!
//! Invariant: the job of a deletion ends well only once nothing below the name can be cancelled any more. No start comes after the
//! deletion (`store/start.rs`), so that such a pass is the last; and a repeated job finds less to do, so that a process may die
//! anywhere in between.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chassis::process;
use chassis::telemetry::{self, attributes};
use domain::generation::State;
use domain::id::AccountId;
use jobs::{Failure, Leased, POLL_INTERVAL, Retry, RetryDecision};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, info_span};

use crate::error::Error;
use crate::events;
use crate::generations::Generations;
use crate::model::DeletedName;
use crate::store::Store;

/// How long the lease of a deletion's job lasts, so how long a dead process's deletion waits.
const LEASE: Duration = Duration::from_secs(30);
/// How many generations are read at once.
const BATCH: i64 = 100;

/// Carries deletions out, one at a time in each process; cheap to clone.
#[derive(Clone)]
pub(crate) struct Deletions {
    store: Store,
    generations: Generations,
    /// Unique to this process: a claim gives a job that expired in one process to another one first.
    worker: Arc<str>,
}

impl Deletions {
    pub(crate) fn new(store: Store, generations: Generations) -> Self {
        Self { store, generations, worker: process::instance_name("generation-status").into() }
    }

    /// Carries out what was deleted, until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let more = match self.store.claim_deletion(&self.worker, LEASE).await {
                Ok(Some(job)) => {
                    self.run_job(&job, &stop).await;
                    true
                }
                Ok(None) => false,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "deletions could not be claimed");
                    false
                }
            };
            // Nobody waits for a deletion's cancels, so that the jobs are polled for and nobody notifies.
            if !more && stop.run_until_cancelled(tokio::time::sleep(POLL_INTERVAL)).await.is_none() {
                break;
            }
        }
    }

    /// Does one job, in the trace of the request that deleted.
    async fn run_job(&self, job: &Leased, stop: &CancellationToken) {
        let span = info_span!(
            "deletion job",
            otel.kind = "consumer",
            { attributes::MESSAGING_SYSTEM } = "postgresql",
            { attributes::JOB } = %job.lease.job,
            { attributes::ATTEMPT } = job.attempt,
        );
        if let Some(traceparent) = &job.traceparent {
            telemetry::set_parent(&span, traceparent);
        }
        let work = async {
            match self.carry_out(job, stop).await {
                // Another process took it over, and finds less to do.
                Ok(()) | Err(Error::StaleFence) => {}
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(job = %job.lease.job, error, "a deletion waits for its lease to expire");
                }
            }
        };
        work.instrument(span).await;
    }

    async fn carry_out(&self, job: &Leased, stop: &CancellationToken) -> Result<(), Error> {
        let account = AccountId(job.account);
        let Some(name) = DeletedName::parse(&job.payload) else {
            let detail = "the payload is not the name of a project or a scene".to_owned();
            return self.fail(job, Retry::Never, "PAYLOAD_UNREADABLE", detail).await;
        };
        match self.cancel_below(job, account, name, stop).await {
            Ok(Some(cancelled)) => {
                self.store.complete_deletion(job.lease).await?;
                events::deletion_carried_out(account, &name, cancelled);
                Ok(())
            }
            // The process drains, and another one goes on.
            Ok(None) => self.store.release_deletion(job.lease).await,
            Err(Error::StaleFence) => Err(Error::StaleFence),
            Err(error) => self.fail(job, Retry::Counted { after: None }, "CANCEL_FAILED", error.to_string()).await,
        }
    }

    /// Cancels until there is nothing left to cancel; returns how many were cancelled or asked to stop. `None` when `stop` came
    /// before.
    async fn cancel_below(
        &self,
        job: &Leased,
        account: AccountId,
        name: DeletedName,
        stop: &CancellationToken,
    ) -> Result<Option<usize>, Error> {
        let (mut cancelled, mut prolonged) = (0, Instant::now());
        loop {
            let batch = self.store.cancellable(account, name, BATCH).await?;
            if batch.is_empty() {
                return Ok(Some(cancelled));
            }
            for id in batch {
                if stop.is_cancelled() {
                    return Ok(None);
                }
                if prolonged.elapsed() > LEASE / 3 {
                    self.store.prolong_deletion(job.lease, LEASE).await?;
                    prolonged = Instant::now();
                }
                // One that ended meanwhile, or is being delivered, comes back as it is.
                let generation = self.generations.cancel(account, id).await?;
                cancelled += usize::from(matches!(generation.state, State::Cancelled | State::Cancelling));
            }
        }
    }

    async fn fail(&self, job: &Leased, retry: Retry, cause: &'static str, detail: String) -> Result<(), Error> {
        let account = AccountId(job.account);
        let failure = Failure { retry, cause: cause.to_owned(), detail };
        match self.store.fail_deletion(job.lease, &failure).await? {
            RetryDecision::Retry(_) => {
                events::deletion_retried(account, job.lease.job, job.attempt, cause, &failure.detail);
            }
            RetryDecision::Failed | RetryDecision::Dead => events::deletion_given_up(account, job.lease.job, cause),
        }
        Ok(())
    }

    /// Takes back the jobs of processes that died, at an interval until `stop`.
    pub(crate) async fn run_reaper(self, interval: Duration, stop: CancellationToken) {
        let mut tick = tokio::time::interval(interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            match self.store.reap_deletions().await {
                Ok(reaped) => {
                    for dead in reaped.dead_lettered {
                        events::deletion_given_up(AccountId(dead.account), dead.job, dead.cause.as_str());
                    }
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "the reaper of deletions failed and will be repeated");
                }
            }
        }
    }
}
