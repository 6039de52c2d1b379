//! Thumbnails that no job will ever render, found and queued. There are none unless rows were changed by hand or restored in
//! part.

use chassis::postgres::statement;
use domain::id::AccountId;
use sqlx::PgConnection;
use uuid::Uuid;

use super::Store;
use super::payload::{KIND, job_of};
use super::thumbnails::enqueue;
use crate::error::Error;
use crate::model::{Spec, ThumbnailKey};

/// How many rows break each invariant; they are queued again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Thumbnails that are said to be processing although no job is.
    pub(crate) thumbnails_without_job: usize,
    /// Assets whose default thumbnail nobody queued.
    pub(crate) assets_without_thumbnail: usize,
}

impl Store {
    /// Finds what no job will ever render and queues it, at most a hundred of each kind.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub(crate) async fn reconcile(&self) -> Result<Findings, Error> {
        let findings = Findings {
            thumbnails_without_job: self.requeue_thumbnails().await?,
            assets_without_thumbnail: self.queue_assets().await?,
        };
        if findings.thumbnails_without_job + findings.assets_without_thumbnail > 0 {
            self.notifier.notify().await;
        }
        Ok(findings)
    }

    /// Queues assets of the last day, a minute old, of which no thumbnail was ever queued.
    async fn queue_assets(&self) -> Result<usize, Error> {
        let work = async |tx: &mut PgConnection| {
            let query = sqlx::query_as::<_, (Uuid, Vec<u8>)>(
                "select a.account_id, a.sha256 from assets a
                 where a.create_time > now() - interval '1 day' and a.create_time < now() - interval '1 minute'
                   and not exists (
                       select from thumbnails t where t.account_id = a.account_id and t.asset_sha256 = a.sha256)
                 limit 100",
            );
            let assets = statement("find_bare_assets", query.fetch_all(&mut *tx)).await?;
            for (account, sha256) in &assets {
                if let Ok(asset) = sha256.as_slice().try_into() {
                    enqueue(tx, &ThumbnailKey::default_of(AccountId(*account), asset)).await?;
                }
            }
            Ok::<_, Error>(assets.len())
        };
        self.pool.transaction("queue_bare_assets", work).await
    }

    /// Queues thumbnails that are said to be processing for a minute although no job is.
    async fn requeue_thumbnails(&self) -> Result<usize, Error> {
        type Row = (Uuid, Vec<u8>, i32, i32, i32);
        let work = async |tx: &mut PgConnection| {
            // The state is written out so that the partial index on it is used; the idempotency key is the one of `job_of`.
            let query = sqlx::query_as::<_, Row>(
                "select t.account_id, t.asset_sha256, t.width, t.height, t.quality
                 from thumbnails t
                 where t.state = 1 and t.update_time < now() - interval '1 minute'
                   and not exists (
                       select from jobs j
                       where j.account_id = t.account_id and j.kind = $1
                         and j.idem_key = encode(t.asset_sha256, 'hex') || '-' || t.width || 'x' || t.height || '-q' || t.quality)
                 limit 100",
            )
            .bind(KIND)
            .fetch_all(&mut *tx);
            let thumbnails = statement("find_lost_thumbnails", query).await?;
            for (account, sha256, width, height, quality) in &thumbnails {
                let spec = Spec {
                    width: width.unsigned_abs(),
                    height: height.unsigned_abs(),
                    quality: u8::try_from(*quality).unwrap_or(80),
                };
                if let Ok(asset) = sha256.as_slice().try_into() {
                    jobs::enqueue(tx, &job_of(&ThumbnailKey { account: AccountId(*account), asset, spec })).await?;
                }
            }
            Ok::<_, Error>(thumbnails.len())
        };
        self.pool.transaction("requeue_lost_thumbnails", work).await
    }
}
