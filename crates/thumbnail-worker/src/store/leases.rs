//! Leases of thumbnails' jobs: claimed, prolonged, ended together with the thumbnail, and taken back from workers that died.

use std::time::Duration;

use chassis::postgres::statement;
use jobs::{ClaimRequest, Failure, Lease, Leased, Retry, RetryDecision};
use sqlx::PgConnection;
use uuid::Uuid;

use super::Store;
use super::payload::{KIND, parse_payload};
use super::rendered::keep;
use super::thumbnails::settle;
use crate::error::Error;
use crate::model::{Rendered, ThumbnailKey, ThumbnailStatus};

/// How long a lease lasts without a heartbeat.
const LEASE: Duration = Duration::from_secs(30);

/// A reap's findings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reaped {
    /// How many jobs are in the queue again.
    pub(crate) requeued: usize,
    /// The thumbnails whose jobs were given up.
    pub(crate) dead_lettered: Vec<DeadLettered>,
}

/// A thumbnail whose job was given up.
#[derive(Clone, Debug)]
pub(crate) struct DeadLettered {
    /// The thumbnail.
    pub(crate) key: ThumbnailKey,
    /// Its job.
    pub(crate) job: Uuid,
    /// The number of attempts.
    pub(crate) attempts: i32,
    /// Why it was given up, in upper snake case.
    pub(crate) cause: String,
}

impl Store {
    /// Whether a claim may find something.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub(crate) async fn any_due(&self) -> Result<bool, chassis::postgres::Error> {
        self.pool.run("any_thumbnail_due", async |connection| jobs::any_due(connection, KIND).await).await
    }

    /// Leases up to `limit` jobs for `worker`. A job whose payload cannot be read is ended at once.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub(crate) async fn claim(&self, worker: &str, limit: u32) -> Result<Vec<(Leased, ThumbnailKey)>, Error> {
        let queues = [String::new()];
        let wanted = ClaimRequest { kind: KIND, queues: &queues, worker, limit, lease: LEASE, limits: None };
        let work = async |tx: &mut PgConnection| {
            let mut claimed = Vec::new();
            for job in jobs::claim(tx, wanted).await? {
                if let Some(key) = parse_payload(job.account, &job.payload) {
                    claimed.push((job, key));
                } else {
                    let cause = "PAYLOAD_UNREADABLE".to_owned();
                    let failure = Failure { retry: Retry::Never, cause, detail: String::new() };
                    jobs::fail(tx, job.lease, &failure).await?;
                }
            }
            Ok::<_, Error>(claimed)
        };
        self.pool.transaction("claim_thumbnails", work).await
    }

    /// Prolongs leases; returns those that are lost.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub(crate) async fn heartbeat(&self, leases: &[Lease]) -> Result<Vec<Lease>, Error> {
        let work = async |tx: &mut PgConnection| Ok::<_, Error>(jobs::heartbeat(tx, leases, LEASE).await?);
        let statuses = self.pool.transaction("heartbeat_thumbnails", work).await?;
        Ok(statuses.into_iter().filter(|status| status.held.is_none()).map(|status| status.lease).collect())
    }

    /// Ends a job together with its thumbnail; says whether the thumbnail was written, as [`Store::settle`] does.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], or when PostgreSQL fails; then nothing is written.
    pub(crate) async fn complete(&self, lease: Lease, key: &ThumbnailKey, rendered: &Rendered) -> Result<bool, Error> {
        let work = async |tx: &mut PgConnection| {
            jobs::complete(tx, lease).await?;
            keep(tx, key, rendered).await
        };
        self.pool.transaction("complete_thumbnail", work).await
    }

    /// Ends an attempt that failed; when it was the last, the thumbnail fails for `reason`.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], or when PostgreSQL fails; then nothing is written.
    pub(crate) async fn fail(
        &self,
        lease: Lease,
        key: &ThumbnailKey,
        failure: &Failure,
        reason: &str,
    ) -> Result<RetryDecision, Error> {
        let work = async |tx: &mut PgConnection| {
            let decision = jobs::fail(tx, lease, failure).await?;
            if matches!(decision, RetryDecision::Failed | RetryDecision::Dead) {
                settle(tx, key, &ThumbnailStatus::Failed(reason.to_owned())).await?;
            }
            Ok::<_, Error>(decision)
        };
        self.pool.transaction("fail_thumbnail", work).await
    }

    /// Gives a lease back unused.
    ///
    /// # Errors
    /// [`Error::LeaseLost`], or when PostgreSQL fails.
    pub(crate) async fn release(&self, lease: Lease) -> Result<(), Error> {
        let work = async |tx: &mut PgConnection| Ok::<_, Error>(jobs::release(tx, lease).await?);
        self.pool.transaction("release_thumbnail", work).await?;
        Ok(())
    }

    /// Takes back the jobs of workers that died; the thumbnails of jobs that are given up fail for `reason`.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub(crate) async fn reap(&self, reason: &str) -> Result<Reaped, Error> {
        let work = async |tx: &mut PgConnection| {
            let found = jobs::reap(tx, KIND).await?;
            let mut reaped = Reaped { requeued: found.requeued.len(), dead_lettered: Vec::new() };
            for dead in found.dead_lettered {
                let query =
                    sqlx::query_scalar::<_, Vec<u8>>("select payload from jobs where id = $1 and account_id = $2")
                        .bind(dead.job)
                        .bind(dead.account)
                        .fetch_one(&mut *tx);
                if let Some(key) = parse_payload(dead.account, &statement("find_payload", query).await?) {
                    settle(tx, &key, &ThumbnailStatus::Failed(reason.to_owned())).await?;
                    let (attempts, cause) = (dead.attempts, dead.cause.as_str().to_owned());
                    reaped.dead_lettered.push(DeadLettered { key, job: dead.job, attempts, cause });
                }
            }
            Ok::<_, Error>(reaped)
        };
        let reaped = self.pool.transaction("reap_thumbnails", work).await?;
        if reaped.requeued > 0 {
            self.notifier.notify().await;
        }
        Ok(reaped)
    }
}
