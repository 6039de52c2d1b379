//! The rules of the work protocol: claims, workers' reports, and the reaper of what workers left behind.
//!
//! Invariant: every report names its lease, and one whose lease was given to another worker changes nothing.

use std::sync::Arc;
use std::time::Duration;

use chassis::crash;
use domain::generation::State;
use jobs::{ClaimRequest, Lease, LeaseStatus, Listener, Notifier, Retry};
use tokio_util::sync::CancellationToken;

use crate::costs;
use crate::crash_points;
use crate::error::Error;
use crate::events;
use crate::generations::Generations;
use crate::live_catalogue::LiveCatalogue;
use crate::model::{
    ClaimedWork, Code, Condition, FailedAttempt, Failure, FailureClass, FailureReport, GENERATION_JOBS, Hint, Hinted,
    ModelCost, Output, ProgressReport, ReapedWork, Suspension, Usage, WaitReason,
};
use crate::progress::Progress;
use crate::store::Store;
use crate::transitions::entry_changed;

/// The pause before a failed round of the reaper is repeated.
const REAPER_RETRY: Duration = Duration::from_millis(500);
/// How often the gauges of the queue are set.
const GAUGE_INTERVAL: Duration = Duration::from_secs(15);

/// Gives work out and takes reports; cheap to clone.
#[derive(Clone)]
pub(crate) struct Work {
    store: Store,
    generations: Generations,
    progress: Progress,
    notifier: Notifier,
    lease: Duration,
    catalogue: LiveCatalogue,
}

impl Work {
    pub(crate) fn new(
        catalogue: LiveCatalogue,
        store: Store,
        generations: Generations,
        progress: Progress,
        notifier: Notifier,
        lease: Duration,
    ) -> Self {
        Self { store, generations, progress, notifier, lease, catalogue }
    }

    /// A listener that wakes when work may be ready.
    pub(crate) fn listen(&self) -> Listener {
        self.notifier.listen()
    }

    /// Whether a claim may find something.
    pub(crate) async fn any_due(&self) -> Result<bool, Error> {
        self.store.any_work_due().await
    }

    /// Leases up to `limit` pieces of work on these models,
    /// with one of the worker's keys for each where its provider's have names.
    pub(crate) async fn claim(
        &self,
        worker: &str,
        models: &[String],
        keys: &[String],
        limit: u32,
    ) -> Result<Vec<ClaimedWork>, Error> {
        let wanted = ClaimRequest {
            kind: GENERATION_JOBS,
            queues: models,
            worker,
            limit,
            lease: self.lease,
            limits: Some(self.store.limits()),
        };
        let claimed = self.store.claim(wanted, keys).await?;
        if !claimed.is_empty() {
            crash::point(crash_points::CLAIM_COMMITTED);
        }
        // A poll changes nothing of its generation.
        for work in claimed.iter().filter(|work| !work.leased.poll) {
            self.generations.publish(&work.generation).await;
        }
        Ok(claimed)
    }

    /// Prolongs leases; one status for each, in the order given.
    pub(crate) async fn heartbeat(&self, leases: &[Lease]) -> Result<Vec<LeaseStatus>, Error> {
        self.store.heartbeat(leases, self.lease).await
    }

    /// Records that the provider is about to be called.
    pub(crate) async fn record_intent(&self, lease: Lease, provider: &str, key: &str) -> Result<(), Error> {
        self.store.record_intent(lease, provider, key).await?;
        crash::point(crash_points::INTENT_COMMITTED);
        Ok(())
    }

    /// Records that the provider took the order under `reference`.
    pub(crate) async fn record_submission(&self, lease: Lease, reference: &str) -> Result<(), Error> {
        let (generation, closed) = self.store.record_submission(lease, reference).await?;
        crash::point(crash_points::REFERENCE_COMMITTED);
        if !closed.is_empty() {
            events::providers_available(&closed);
            self.notifier.notify().await;
        }
        self.generations.publish(&generation).await;
        Ok(())
    }

    /// Ends a lease while the attempt goes on at the provider.
    pub(crate) async fn suspend(&self, suspension: &Suspension) -> Result<(), Error> {
        let (generation, opened) = self.store.suspend(suspension).await?;
        crash::point(crash_points::SUSPENSION_COMMITTED);
        events::providers_unavailable(&opened);
        if suspension.unconfirmed {
            events::submission_unconfirmed(suspension, generation.as_ref());
        }
        if let Some(generation) = generation {
            self.generations.publish(&generation).await;
        }
        Ok(())
    }

    /// Takes a provider's webhook, verified by the caller, that names a job.
    pub(crate) async fn hint(&self, hint: Hint<'_>) -> Result<Hinted, Error> {
        let Hint { provider, job, reference, .. } = hint;
        let Some((hinted, generation)) = self.store.hint(hint).await? else {
            if !self.store.has_generation(job).await? {
                events::unknown_order(provider, job, reference);
            }
            return Ok(Hinted::default());
        };
        if hinted.confirm_at_model.is_some() {
            return Ok(hinted);
        }
        crash::point(crash_points::HINT_COMMITTED);
        if hinted.forgotten {
            events::forgotten_order_found(provider, job, reference);
        }
        if let Some(generation) = generation {
            self.generations.publish(&generation).await;
        }
        if hinted.awaited || hinted.forgotten {
            self.notifier.notify().await;
        }
        Ok(hinted)
    }

    /// Records progress; returns whether the work is to be stopped.
    pub(crate) async fn report_progress(&self, report: ProgressReport) -> Result<bool, Error> {
        self.progress.report(report).await
    }

    /// Records that the provider is done and its output is being stored.
    pub(crate) async fn begin_finalizing(&self, report: &ProgressReport) -> Result<(), Error> {
        let generation = self.store.begin_finalizing(report).await?;
        crash::point(crash_points::FINALIZING_COMMITTED);
        self.generations.publish(&generation).await;
        Ok(())
    }

    /// Completes a generation whose outputs are in our storage, and charges what was made.
    pub(crate) async fn complete(&self, lease: Lease, outputs: &[Output], usage: &Usage) -> Result<(), Error> {
        let completed = self.store.complete(lease, outputs, usage).await;
        if let Err(Error::OutputMissing(missing)) = &completed {
            events::completion_refused(lease.job, missing);
        }
        let generation = completed?;
        crash::point(crash_points::COMPLETION_COMMITTED);
        events::usage_reported(&generation, usage);
        self.generations.publish(&generation).await;
        Ok(())
    }

    /// What each model's orders cost at its provider lately, beside what its entry says.
    pub(crate) async fn provider_costs(&self) -> Result<Vec<ModelCost>, Error> {
        self.store.provider_costs(costs::WINDOW).await
    }

    /// Ends a failed attempt; returns whether there will be another.
    pub(crate) async fn fail(&self, lease: Lease, report: FailureReport) -> Result<bool, Error> {
        let mut failed = failed_attempt(&report);
        if report.condition == Some(Condition::Misconfigured) {
            let frozen = self.store.frozen_entry(lease).await?;
            if entry_changed(&frozen, self.catalogue.current().by_id(&frozen.model).map(Arc::as_ref)) {
                failed = outdated(failed, report.class);
            }
        }
        let (generation, again, opened) = self.store.fail(lease, &failed).await?;
        crash::point(crash_points::FAILURE_COMMITTED);
        events::providers_unavailable(&opened);
        if again {
            events::attempt_retried(&generation, &report, &failed.failure.reason);
        }
        if failed.outdated {
            // The next probe is due.
            self.notifier.notify().await;
        }
        self.generations.publish(&generation).await;
        Ok(again)
    }

    /// Takes a lease back that the worker did not use.
    pub(crate) async fn release(&self, lease: Lease) -> Result<(), Error> {
        let generation = self.store.release(lease).await?;
        crash::point(crash_points::RELEASE_COMMITTED);
        if let Some(generation) = generation {
            self.generations.publish(&generation).await;
        }
        self.notifier.notify().await;
        Ok(())
    }

    /// Takes expired leases back and enforces deadlines at an interval, until `stop`. Every process does; rows that another
    /// process has locked are skipped.
    pub(crate) async fn run_reaper(self, interval: Duration, stop: CancellationToken) {
        let mut tick = tokio::time::interval(interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            if let Err(error) = self.reap().await {
                tracing::warn!(error = &error as &dyn std::error::Error, "the reaper failed and will be repeated");
                // Sooner than usual: the jobs of dead workers have waited for their leases to expire already.
                tick.reset_after(interval.min(REAPER_RETRY));
            }
        }
    }

    async fn reap(&self) -> Result<(), Error> {
        let ReapedWork { changed, waiting, ready } = self.store.reap().await?;
        if !changed.is_empty() || !waiting.is_empty() {
            crash::point(crash_points::REAP_COMMITTED);
        }
        waiting.iter().for_each(events::lease_expired);
        for generation in &changed {
            match generation.state {
                // It waited too long for a worker; nothing went wrong with it.
                State::Expired => {}
                state if state.is_terminal() => events::job_dead_lettered(generation),
                _ => events::lease_expired(generation),
            }
            self.generations.publish(generation).await;
        }
        if ready {
            self.notifier.notify().await;
        }
        for (account, id) in self.store.overdue().await? {
            let Some(generation) = self.store.enforce_deadline(account, id).await? else { continue };
            crash::point(crash_points::DEADLINE_COMMITTED);
            if generation.state.is_terminal() {
                if generation.error.as_ref() == Some(&Failure::outcome_unknown()) {
                    events::submission_unsettled(&generation);
                }
            } else {
                events::generation_cancelling(&generation, "deadline");
                self.notifier.notify().await;
            }
            self.generations.publish(&generation).await;
        }
        Ok(())
    }

    /// Sets the gauges of the queue at an interval, until `stop`.
    pub(crate) async fn run_gauges(self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(GAUGE_INTERVAL);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            if let Err(error) = self.store.observe_queue().await {
                tracing::warn!(error = &error as &dyn std::error::Error, "the queue could not be measured");
            }
        }
    }
}

/// The consequences of a failure for the job and for the generation's user.
fn failed_attempt(report: &FailureReport) -> FailedAttempt {
    let after = report.retry_after;
    let (retry, wait_reason, code, usual_reason) = match report.class {
        // CANCELLED of a generation that nobody asked to stop; one that was to be stopped ends in the store before this counts.
        FailureClass::Internal | FailureClass::Cancelled => {
            (Retry::Counted { after }, WaitReason::Backoff, Code::Unavailable, "PROVIDER_INTERNAL")
        }
        FailureClass::Throttled => {
            (Retry::Uncounted { after }, WaitReason::ProviderThrottled, Code::ResourceExhausted, "PROVIDER_QUOTA")
        }
        FailureClass::InvalidInput => {
            (Retry::Never, WaitReason::Backoff, Code::InvalidArgument, "INPUT_SCHEMA_VIOLATION")
        }
        FailureClass::Safety => (Retry::Never, WaitReason::Backoff, Code::FailedPrecondition, "SAFETY_INPUT"),
        FailureClass::BadOutput => {
            (Retry::Counted { after }, WaitReason::Backoff, Code::Internal, "PROVIDER_BAD_OUTPUT")
        }
        FailureClass::Unavailable => {
            (Retry::WhenAvailable, WaitReason::ProviderUnavailable, Code::Unavailable, "PROVIDER_QUOTA")
        }
        FailureClass::Final => (Retry::Never, WaitReason::Backoff, Code::Unavailable, "PROVIDER_INTERNAL"),
    };
    let reason = if report.reason.is_empty() { usual_reason.to_owned() } else { report.reason.clone() };
    let detail = if report.detail.is_empty() { report.message.clone() } else { report.detail.clone() };
    FailedAttempt {
        job: jobs::Failure { retry, cause: reason.clone(), detail },
        failure: Failure::new(code, reason, report.message.clone()),
        wait_reason,
        provider_charge: report.provider_charge,
        condition: report.condition,
        key: report.key.clone(),
        outdated: false,
    }
}

/// What a provider refuses of an entry that is another by now. The order keeps its entry, so no later attempt would be taken either:
/// it ends, and new orders of the model do not wait behind it.
fn outdated(failed: FailedAttempt, class: FailureClass) -> FailedAttempt {
    let mut failed = FailedAttempt { outdated: true, ..failed };
    if class == FailureClass::Unavailable {
        failed.job.retry = Retry::Never;
        "the model was set up anew after this was started, and its provider refuses it as it was then; nothing was charged; start it again"
            .clone_into(&mut failed.failure.message);
    }
    failed
}
