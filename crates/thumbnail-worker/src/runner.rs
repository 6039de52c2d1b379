//! The worker of queued thumbnails: leases their jobs, renders, ends the jobs.
//!
//! Invariant: a lease is prolonged as long as its work runs and given back when the process drains before it is done; work whose
//! lease is lost is dropped, and its fence keeps it from writing. Polls run outside of every span, since nobody asked for them.

use std::collections::HashMap;
use std::time::Duration;

use chassis::drain::Drain;
use chassis::fields::SCHEMA;
use chassis::telemetry::{self, attributes};
use chassis::{blobs, process};
use jobs::{Failure, Lease, Leased, Notifier, Retry, RetryDecision};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;
use tracing::{Instrument as _, info_span};

use crate::error::Error;
use crate::events;
use crate::model::{Asset, Rendered, StoredAsset, ThumbnailKey, ThumbnailStatus};
use crate::store::{Findings, Reaped, Store};
use crate::thumbnails::Thumbnails;

/// How often leases are prolonged: three times before one runs out.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);
/// How often jobs are taken back from workers that died.
const REAP_INTERVAL: Duration = Duration::from_secs(5);
/// How often thumbnails that no job will render are searched for.
const RECONCILE_INTERVAL: Duration = Duration::from_secs(15);

/// The part of the drain's grace period in which running work may end by itself; the rest is for giving leases back.
const GRACE_SHARE: f64 = 0.7;

/// Renders queued thumbnails until the drain begins.
pub(crate) struct Runner {
    thumbnails: Thumbnails,
    store: Store,
    notifier: Notifier,
    worker: String,
    slots: usize,
    running: JoinSet<Lease>,
    leases: HashMap<Lease, AbortHandle>,
}

impl Runner {
    /// A runner that renders at most `slots` thumbnails at one time.
    #[must_use]
    pub(crate) fn new(thumbnails: Thumbnails, notifier: Notifier, slots: u32) -> Self {
        let store = thumbnails.store.clone();
        let slots = slots.max(1) as usize;
        // A job whose lease ran out goes to workers of other names first, so no two starts may share one.
        let worker = process::instance_name("thumbnail-worker");
        Self { thumbnails, store, notifier, worker, slots, running: JoinSet::new(), leases: HashMap::new() }
    }

    /// Runs until `drain` begins; then waits for what runs and gives back what is not done in time.
    pub(crate) async fn run(mut self, drain: Drain) {
        let token = drain.token();
        let mut listener = self.notifier.listen();
        let store = self.store.clone();
        let [mut heartbeat, mut reap, mut reconcile] =
            [HEARTBEAT_INTERVAL, REAP_INTERVAL, RECONCILE_INTERVAL].map(|period| {
                let mut ticks = interval(period);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                ticks
            });
        let mut may_have_more = true;
        loop {
            // A full claim is followed by another at once; else a notification, or that something has come due, says when.
            while may_have_more && self.running.len() < self.slots && !token.is_cancelled() {
                may_have_more = self.claim().await;
            }
            tokio::select! {
                () = token.cancelled() => break,
                () = listener.until_due(|| store.any_due().with_subscriber(NoSubscriber::new())), if self.running.len() < self.slots => {
                    may_have_more = true;
                }
                Some(ended) = self.running.join_next() => {
                    self.forget(ended);
                    may_have_more = true;
                }
                _ = heartbeat.tick() => self.heartbeat().await,
                _ = reap.tick() => self.reap().await,
                _ = reconcile.tick() => self.reconcile().await,
            }
        }
        self.finish(drain.grace().mul_f64(GRACE_SHARE)).await;
    }

    /// Leases what the free slots take; says whether there may be more.
    async fn claim(&mut self) -> bool {
        let free = self.slots - self.running.len();
        let limit = u32::try_from(free).unwrap_or(u32::MAX);
        match self.store.claim(&self.worker, limit).with_subscriber(NoSubscriber::new()).await {
            Ok(claimed) => {
                let full = claimed.len() == free;
                for (job, key) in claimed {
                    let lease = job.lease;
                    let handle = self.running.spawn(run_job(self.thumbnails.clone(), job, key));
                    self.leases.insert(lease, handle);
                }
                full
            }
            Err(error) => {
                tracing::warn!(%error, "thumbnails cannot be claimed");
                false
            }
        }
    }

    /// Forgets the lease of a job whose task has ended.
    fn forget(&mut self, ended: Result<Lease, JoinError>) {
        match ended {
            Ok(lease) => {
                self.leases.remove(&lease);
            }
            Err(error) => {
                // A panic here is a fault of ours; the lease is left to run out, which counts against the job.
                if error.is_panic() {
                    tracing::error!(%error, "a thumbnail's task panicked");
                }
                self.leases.retain(|_, handle| !handle.is_finished());
            }
        }
    }

    async fn heartbeat(&mut self) {
        let leases: Vec<Lease> = self.leases.keys().copied().collect();
        if leases.is_empty() {
            return;
        }
        match self.store.heartbeat(&leases).with_subscriber(NoSubscriber::new()).await {
            Ok(lost) => {
                for lease in lost {
                    if let Some(handle) = self.leases.remove(&lease) {
                        tracing::warn!(job = %lease.job, "a lease is lost");
                        handle.abort();
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "leases cannot be prolonged"),
        }
    }

    async fn reap(&self) {
        let reason = "every worker that tried to make it stopped working";
        match self.store.reap(reason).with_subscriber(NoSubscriber::new()).await {
            Ok(Reaped { requeued, dead_lettered }) => {
                events::jobs_requeued(requeued);
                for dead in dead_lettered {
                    events::thumbnail_dead_lettered(&dead.key, dead.job, dead.attempts, &dead.cause);
                }
            }
            Err(error) => tracing::warn!(%error, "expired leases cannot be taken back"),
        }
    }

    async fn reconcile(&self) {
        match self.store.reconcile().with_subscriber(NoSubscriber::new()).await {
            Ok(Findings { thumbnails_without_job, assets_without_thumbnail }) => {
                events::invariant_repaired("thumbnail_without_job", thumbnails_without_job);
                events::invariant_repaired("asset_without_thumbnail", assets_without_thumbnail);
            }
            Err(error) => tracing::warn!(%error, "thumbnails without a job cannot be searched for"),
        }
    }

    async fn finish(mut self, grace: Duration) {
        let until = Instant::now() + grace;
        while let Ok(Some(ended)) =
            timeout(until.saturating_duration_since(Instant::now()), self.running.join_next()).await
        {
            self.forget(ended);
        }
        for (lease, handle) in self.leases.drain() {
            handle.abort();
            if let Err(error) = self.store.release(lease).await {
                tracing::warn!(%error, job = %lease.job, "a lease cannot be given back");
            }
        }
    }
}

/// Does one job, in the trace of the request that asked for it.
async fn run_job(thumbnails: Thumbnails, job: Leased, key: ThumbnailKey) -> Lease {
    let span = info_span!(
        "thumbnail job",
        otel.kind = "consumer",
        { attributes::MESSAGING_SYSTEM } = "postgresql",
        { attributes::JOB } = %job.lease.job,
        { attributes::ATTEMPT } = job.attempt,
    );
    if let Some(traceparent) = &job.traceparent {
        telemetry::set_parent(&span, traceparent);
    }
    let lease = job.lease;
    let work = async {
        let ended = match render(&thumbnails, &key).await {
            Ok((asset, rendered)) => complete(&thumbnails, lease, &key, &asset, &rendered).await,
            Err(error) => fail(&thumbnails.store, &job, &key, &error).await,
        };
        match ended {
            Ok(()) | Err(Error::LeaseLost) => {}
            Err(error) => tracing::warn!(%error, job = %lease.job, "a job cannot be ended; its lease will run out"),
        }
    };
    work.instrument(span).await;
    lease
}

async fn render(thumbnails: &Thumbnails, key: &ThumbnailKey) -> Result<(Asset, Rendered), Error> {
    let StoredAsset { asset, thumbnail } = thumbnails.store.find(key).await?;
    if let Some(status @ ThumbnailStatus::Ready(_)) = thumbnail {
        return Ok((asset, Rendered { status, poster: None }));
    }
    let rendered = thumbnails.render_asset(&asset, key.spec, true).await?;
    Ok((asset, rendered))
}

async fn complete(
    thumbnails: &Thumbnails,
    lease: Lease,
    key: &ThumbnailKey,
    asset: &Asset,
    rendered: &Rendered,
) -> Result<(), Error> {
    if thumbnails.store.complete(lease, key, rendered).await? {
        events::thumbnail_ended(key, &rendered.status);
        thumbnails.store_again(asset, key.spec, rendered).await?;
    }
    Ok(())
}

async fn fail(store: &Store, job: &Leased, key: &ThumbnailKey, error: &Error) -> Result<(), Error> {
    let (retry, cause) = classify(error);
    let failure = Failure { retry, cause: cause.to_owned(), detail: error.to_string() };
    match store.fail(job.lease, key, &failure, &failure_reason(error)).await? {
        RetryDecision::Retry(_) => events::thumbnail_retried(key, job.lease.job, job.attempt, cause, error),
        RetryDecision::Failed | RetryDecision::Dead => {
            events::thumbnail_given_up(key, job.lease.job, job.attempt, cause, error);
        }
    }
    Ok(())
}

/// Whether another attempt can help, and the error's cause for the job. A file that cannot be decoded is no error of its job and
/// does not come here.
fn classify(error: &Error) -> (Retry, &'static str) {
    match error {
        // How busy this process is says nothing about the job.
        Error::Overloaded { retry_after } => (Retry::Uncounted { after: Some(*retry_after) }, "OVERLOADED"),
        Error::NotFound(_) | Error::Storage(blobs::Error::Missing(_)) => (Retry::Never, "ASSET_NOT_FOUND"),
        Error::Invalid(invalid) => (Retry::Never, invalid.violations().next().map_or(SCHEMA, |wrong| wrong.reason)),
        Error::Panicked(_) => (Retry::Counted { after: None }, "DECODER_PANICKED"),
        _ => (Retry::Counted { after: None }, "DEPENDENCY_DOWN"),
    }
}

/// Why a thumbnail was given up, as its account reads it.
fn failure_reason(error: &Error) -> String {
    match error {
        Error::NotFound(_) | Error::Storage(blobs::Error::Missing(_)) => "its file is no longer in storage".to_owned(),
        Error::Invalid(invalid) => invalid.violations().map(|wrong| wrong.should.clone()).collect(),
        _ => "it could not be made, and was tried as often as is allowed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Noun;

    #[test]
    fn an_error_says_whether_another_attempt_can_help() {
        let retry_after = Duration::from_secs(3);
        let too_heavy = Error::invalid("asset", "IMAGE_LIMIT_EXCEEDED", "it is too heavy");
        for (error, retry, cause, reason) in [
            (Error::Overloaded { retry_after }, Retry::Uncounted { after: Some(retry_after) }, "OVERLOADED", "tried"),
            (Error::NotFound(Noun::Asset), Retry::Never, "ASSET_NOT_FOUND", "no longer in storage"),
            (too_heavy, Retry::Never, "IMAGE_LIMIT_EXCEEDED", "it is too heavy"),
            (Error::Panicked(String::new()), Retry::Counted { after: None }, "DECODER_PANICKED", "tried"),
        ] {
            assert_eq!(classify(&error), (retry, cause), "{error}");
            assert!(failure_reason(&error).contains(reason), "{error}");
        }
    }
}
