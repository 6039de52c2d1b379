//! The worker's loop: leases queued thumbnails, makes them, ends their jobs.
//!
//! Invariant: a lease is prolonged as long as its work runs and given back when the process drains before it is done; work whose
//! lease was lost is dropped, and its fence keeps it from writing. What nobody asked for leaves no trace: polls run outside
//! of every span.

use std::collections::HashMap;
use std::time::Duration;

use chassis::drain::Drain;
use chassis::telemetry;
use jobs::{Lease, Leased, Notifier, Retry};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;
use tracing::{Instrument as _, info_span};

use crate::error::Error;
use crate::store::{KIND, Store};
use crate::thumbnails::{Key, Standing, Thumbnails};

/// How often leases are prolonged: three times before one runs out.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How often what dead workers left is looked for.
const SWEEP: Duration = Duration::from_secs(5);
/// How often what no job will make is looked for.
const RECONCILE: Duration = Duration::from_secs(15);

/// Makes queued thumbnails until the drain begins.
pub struct Runner {
    thumbnails: Thumbnails,
    store: Store,
    notifier: Notifier,
    worker: String,
    slots: usize,
    running: JoinSet<Lease>,
    leases: HashMap<Lease, AbortHandle>,
}

impl Runner {
    /// A runner that makes at most `slots` thumbnails at one time, under the name `worker`.
    #[must_use]
    pub fn new(thumbnails: Thumbnails, notifier: Notifier, worker: String, slots: u32) -> Self {
        let store = thumbnails.store.clone();
        let slots = slots.max(1) as usize;
        Self { thumbnails, store, notifier, worker, slots, running: JoinSet::new(), leases: HashMap::new() }
    }

    /// Runs until `drain` begins; then waits for what runs and gives back what is not done in time.
    pub async fn run(mut self, drain: Drain) {
        let token = drain.token();
        let mut notifier = self.notifier.listen();
        let [mut heartbeat, mut sweep, mut reconcile] = [HEARTBEAT, SWEEP, RECONCILE].map(|period| {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        let mut look = true;
        loop {
            // What comes after a full hand is looked for at once; else a ring or the poll says when.
            while look && self.running.len() < self.slots && !token.is_cancelled() {
                look = self.claim().await;
            }
            tokio::select! {
                () = token.cancelled() => break,
                () = notifier.notified(), if self.running.len() < self.slots => look = true,
                Some(ended) = self.running.join_next() => {
                    self.ended(ended);
                    look = true;
                }
                _ = heartbeat.tick() => self.heartbeat().await,
                _ = sweep.tick() => quietly("sweep", self.store.sweep()).await,
                _ = reconcile.tick() => quietly("reconcile", self.store.reconcile()).await,
            }
        }
        self.finish(drain.grace().mul_f64(0.7)).await;
    }

    /// Leases what fits; says whether there may be more.
    async fn claim(&mut self) -> bool {
        let free = self.slots - self.running.len();
        let limit = u32::try_from(free).unwrap_or(u32::MAX);
        match self.store.claim(&self.worker, limit).with_subscriber(NoSubscriber::new()).await {
            Ok(work) => {
                let full = work.len() == free;
                for (job, key) in work {
                    let lease = job.lease;
                    let handle = self.running.spawn(one(self.thumbnails.clone(), job, key));
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

    fn ended(&mut self, ended: Result<Lease, tokio::task::JoinError>) {
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
                        tracing::warn!(job = %lease.job, "a lease is no longer ours");
                        handle.abort();
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "leases cannot be prolonged"),
        }
    }

    async fn finish(mut self, grace: Duration) {
        let until = Instant::now() + grace;
        while let Ok(Some(ended)) =
            timeout(until.saturating_duration_since(Instant::now()), self.running.join_next()).await
        {
            self.ended(ended);
        }
        for (lease, handle) in self.leases.drain() {
            handle.abort();
            if let Err(error) = self.store.release(lease).await {
                tracing::warn!(%error, job = %lease.job, "a lease cannot be given back");
            }
        }
    }
}

async fn quietly(what: &'static str, work: impl Future<Output = Result<usize, Error>>) {
    match work.with_subscriber(NoSubscriber::new()).await {
        Ok(0) => {}
        Ok(count) => tracing::warn!(count, "{what}: something was put right"),
        Err(error) => tracing::warn!(%error, "{what} failed"),
    }
}

/// Does one job, in the trace of the request that asked for it.
async fn one(thumbnails: Thumbnails, job: Leased, key: Key) -> Lease {
    let span = info_span!(
        "thumbnail job",
        otel.kind = "consumer",
        messaging.system = "postgresql",
        rushes.job = %job.lease.job,
        rushes.attempt = job.attempt,
    );
    if let Some(traceparent) = &job.traceparent {
        telemetry::set_parent(&span, traceparent);
    }
    let lease = job.lease;
    let work = async {
        let ended = match make(&thumbnails, &key).await {
            Ok(standing) => thumbnails.store.complete(lease, &key, &standing).await,
            Err(error) => {
                let failure = failure(&error);
                tracing::warn!(%error, job = %lease.job, attempt = job.attempt, "a thumbnail was not made");
                thumbnails.store.fail(lease, &key, &failure).await
            }
        };
        match ended {
            Ok(()) | Err(Error::Jobs(jobs::Error::StaleFence)) => {}
            Err(error) => tracing::warn!(%error, job = %lease.job, "a job cannot be ended; its lease will run out"),
        }
    };
    work.instrument(span).await;
    lease
}

async fn make(thumbnails: &Thumbnails, key: &Key) -> Result<Standing, Error> {
    let (asset, standing) = thumbnails.store.find(key).await?;
    if let Some(ready @ Standing::Ready(_)) = standing {
        return Ok(ready);
    }
    let _held = thumbnails.holding.hold(asset.bytes).await?;
    thumbnails.make(&asset, key.spec).await
}

/// Whether trying again can help. What cannot be decoded is no failure of the job and does not come here.
fn failure(error: &Error) -> jobs::Failure {
    let (retry, cause) = match error {
        Error::Overloaded { retry_after } => (Retry::Uncounted { after: Some(*retry_after) }, "OVERLOADED"),
        Error::NotFound | Error::Blobs(chassis::blobs::Error::Missing(_)) => (Retry::Never, "ASSET_NOT_FOUND"),
        Error::Invalid { reason, .. } => (Retry::Never, *reason),
        Error::Panicked(_) => (Retry::Counted { after: None }, "DECODER_PANICKED"),
        _ => (Retry::Counted { after: None }, "DEPENDENCY_DOWN"),
    };
    metrics::counter!("rushes_thumbnail_failures_total", "kind" => KIND, "cause" => cause).increment(1);
    jobs::Failure { retry, cause: cause.to_owned(), detail: error.to_string() }
}
