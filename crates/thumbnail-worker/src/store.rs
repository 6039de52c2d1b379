//! The service's rows: assets and thumbnails, and the jobs that belong to them.
//!
//! Invariant: a thumbnail that is there stays; nothing puts it back to "being made" or "cannot be made". A queued thumbnail and
//! its job are written in one transaction, and so are its end and the job's.

use std::time::Duration;

use chassis::blobs::Name;
use chassis::postgres::{Pool, statement};
use domain::id::AccountId;
use jobs::{ClaimRequest, Lease, Leased, NewJob, Notifier};
use prost::Message as _;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::assets::{Asset, NewAsset};
use crate::error::Error;
use crate::pictures::Spec;
use crate::thumbnails::{Key, Standing};

/// The kind of our jobs.
pub const KIND: &str = "thumbnail";
/// How long a lease lasts without a heartbeat.
const LEASE: Duration = Duration::from_secs(30);

/// The database, and the notifier that tells workers of new jobs.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    notifier: Notifier,
}

/// What a job is about, as it stands in its payload.
#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(bytes = "vec", tag = "1")]
    asset: Vec<u8>,
    #[prost(uint32, tag = "2")]
    width: u32,
    #[prost(uint32, tag = "3")]
    height: u32,
    #[prost(uint32, tag = "4")]
    quality: u32,
}

impl Payload {
    fn of(key: &Key) -> Self {
        let Spec { width, height, quality } = key.spec;
        Self { asset: key.asset.to_vec(), width, height, quality: quality.into() }
    }

    /// What the payload is about; nothing when it is not one of ours.
    fn key(account: Uuid, payload: &[u8]) -> Option<Key> {
        let payload = Self::decode(payload).ok()?;
        let spec = Spec { width: payload.width, height: payload.height, quality: payload.quality.try_into().ok()? };
        Some(Key { account: AccountId(account), asset: payload.asset.try_into().ok()?, spec })
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    blob: String,
    mime_type: String,
    size_bytes: i64,
    width: i32,
    height: i32,
    duration_ms: i64,
    create_time: OffsetDateTime,
    state: Option<i16>,
    thumbnail: Option<String>,
    failure_reason: Option<String>,
}

impl Row {
    fn read(self, sha256: [u8; 32]) -> Result<(Asset, Option<Standing>), Error> {
        let name = |text: String| {
            text.parse::<Name>()
                .map_err(|error| sqlx::Error::Decode(Box::new(error)))
                .map_err(chassis::postgres::Error::from)
        };
        let standing = match self.state {
            None => None,
            Some(2) => Some(Standing::Ready(name(self.thumbnail.unwrap_or_default())?)),
            Some(3) => Some(Standing::Failed(self.failure_reason.unwrap_or_default())),
            Some(_) => Some(Standing::Processing),
        };
        let asset = Asset {
            sha256,
            blob: name(self.blob)?,
            mime_type: self.mime_type,
            bytes: self.size_bytes.unsigned_abs(),
            width: self.width.unsigned_abs(),
            height: self.height.unsigned_abs(),
            duration: Duration::from_millis(self.duration_ms.unsigned_abs()),
            create_time: self.create_time,
        };
        Ok((asset, standing))
    }
}

impl Store {
    /// The store on `pool`; new jobs ring `notifier`.
    #[must_use]
    pub fn new(pool: Pool, notifier: Notifier) -> Self {
        Self { pool, notifier }
    }

    /// The account's asset and how its thumbnail of `key` stands.
    ///
    /// # Errors
    /// [`Error::NotFound`], or when PostgreSQL fails.
    pub async fn find(&self, key: &Key) -> Result<(Asset, Option<Standing>), Error> {
        let row = self.pool.run("find_asset", async |connection| find(key).fetch_optional(connection).await).await?;
        row.ok_or(Error::NotFound)?.read(key.asset)
    }

    /// Writes an asset with its thumbnail; what the account has already stays as it is. A thumbnail that is to be made gets its
    /// job. Returns what there is afterwards.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub async fn put(
        &self,
        asset: &NewAsset,
        key: &Key,
        standing: &Standing,
    ) -> Result<(Asset, Option<Standing>), Error> {
        let work = async |tx: &mut PgConnection| {
            let query = sqlx::query(
                "insert into assets (account_id, sha256, blob, mime_type, size_bytes, width, height, duration_ms)
                 values ($1, $2, $3, $4, $5, $6, $7, $8)
                 on conflict (account_id, sha256) do nothing",
            )
            .bind(key.account.0)
            .bind(key.asset.as_slice())
            .bind(asset.blob.to_string())
            .bind(asset.mime_type)
            .bind(asset.bytes.cast_signed())
            .bind(asset.width.cast_signed())
            .bind(asset.height.cast_signed())
            .bind(i64::try_from(asset.duration.as_millis()).unwrap_or_default())
            .execute(&mut *tx);
            statement("insert_asset", query).await?;
            match standing {
                Standing::Processing => enqueue(tx, key).await?,
                settled => settle(tx, key, settled).await?,
            }
            statement("find_asset", find(key).fetch_one(tx)).await.map_err(Error::from)
        };
        let row = self.pool.transaction("put_asset", work).await?;
        if *standing == Standing::Processing {
            self.notifier.notify().await;
        }
        row.read(key.asset)
    }

    /// Queues a thumbnail of an asset that exists, unless it is there, queued, or cannot be made.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub async fn queue(&self, key: &Key) -> Result<(), Error> {
        self.pool.transaction("queue_thumbnail", async |tx| enqueue(tx, key).await).await?;
        self.notifier.notify().await;
        Ok(())
    }

    /// Writes how a thumbnail came out.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub async fn settle(&self, key: &Key, standing: &Standing) -> Result<(), Error> {
        self.pool.transaction("settle_thumbnail", async |tx| settle(tx, key, standing).await).await
    }

    /// Leases up to `limit` jobs for `worker`. A job that is not readable is ended at once.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub async fn claim(&self, worker: &str, limit: u32) -> Result<Vec<(Leased, Key)>, Error> {
        let queues = [String::new()];
        let wanted = ClaimRequest { kind: KIND, queues: &queues, worker, limit, lease: LEASE, limits: None };
        let work = async |tx: &mut PgConnection| {
            let mut work = Vec::new();
            for job in jobs::claim(tx, wanted).await? {
                if let Some(key) = Payload::key(job.account, &job.payload) {
                    work.push((job, key));
                } else {
                    let cause = "PAYLOAD_UNREADABLE".to_owned();
                    let failure = jobs::Failure { retry: jobs::Retry::Never, cause, detail: String::new() };
                    jobs::fail(tx, job.lease, &failure).await?;
                }
            }
            Ok::<_, Error>(work)
        };
        self.pool.transaction("claim_thumbnails", work).await
    }

    /// Prolongs leases; returns those that are no longer ours.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub async fn heartbeat(&self, leases: &[Lease]) -> Result<Vec<Lease>, Error> {
        let work = async |tx: &mut PgConnection| Ok::<_, Error>(jobs::heartbeat(tx, leases, LEASE).await?);
        let statuses = self.pool.transaction("heartbeat_thumbnails", work).await?;
        Ok(statuses.into_iter().filter(|status| status.held.is_none()).map(|status| status.lease).collect())
    }

    /// Ends a job together with its thumbnail.
    ///
    /// # Errors
    /// When the lease is another's or PostgreSQL fails; then nothing is written.
    pub async fn complete(&self, lease: Lease, key: &Key, standing: &Standing) -> Result<(), Error> {
        let work = async |tx: &mut PgConnection| {
            jobs::complete(tx, lease).await?;
            settle(tx, key, standing).await
        };
        self.pool.transaction("complete_thumbnail", work).await
    }

    /// Ends an attempt that failed; when it was the last, the thumbnail cannot be made.
    ///
    /// # Errors
    /// When the lease is another's or PostgreSQL fails; then nothing is written.
    pub async fn fail(&self, lease: Lease, key: &Key, failure: &jobs::Failure) -> Result<(), Error> {
        let work = async |tx: &mut PgConnection| match jobs::fail(tx, lease, failure).await? {
            jobs::RetryDecision::Retry(_) => Ok(()),
            jobs::RetryDecision::Failed | jobs::RetryDecision::Dead => {
                settle(
                    tx,
                    key,
                    &Standing::Failed("it could not be made, and was tried as often as is allowed".to_owned()),
                )
                .await
            }
        };
        self.pool.transaction("fail_thumbnail", work).await
    }

    /// Gives a lease back unused.
    ///
    /// # Errors
    /// When the lease is another's or PostgreSQL fails.
    pub async fn release(&self, lease: Lease) -> Result<(), Error> {
        let work = async |tx: &mut PgConnection| Ok::<_, Error>(jobs::release(tx, lease).await?);
        self.pool.transaction("release_thumbnail", work).await?;
        Ok(())
    }

    /// Takes back what workers that died left behind, and ends the thumbnails of jobs that are over. Returns how many jobs
    /// can be claimed again.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub async fn sweep(&self) -> Result<usize, Error> {
        let work = async |tx: &mut PgConnection| {
            let reaped = jobs::reap(tx, KIND).await?;
            for buried in &reaped.dead_lettered {
                let query =
                    sqlx::query_scalar::<_, Vec<u8>>("select payload from jobs where id = $1 and account_id = $2")
                        .bind(buried.job)
                        .bind(buried.account)
                        .fetch_one(&mut *tx);
                if let Some(key) = Payload::key(buried.account, &statement("find_payload", query).await?) {
                    settle(tx, &key, &Standing::Failed("whoever tries to make it stops working".to_owned())).await?;
                }
            }
            Ok::<_, Error>(reaped.requeued.len())
        };
        let requeued = self.pool.transaction("sweep_thumbnails", work).await?;
        if requeued > 0 {
            self.notifier.notify().await;
        }
        Ok(requeued)
    }

    /// Finds what no job will ever make, counts it and queues it. There is none unless rows were changed by hand or restored in
    /// part.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub async fn reconcile(&self) -> Result<usize, Error> {
        let findings = [
            ("thumbnail_without_job", self.requeue_lost().await?),
            ("asset_without_thumbnail", self.queue_bare().await?),
        ];
        let mut all = 0;
        for (invariant, found) in findings {
            metrics::counter!("rushes_reconciler_findings_total", "invariant" => invariant).increment(found as u64);
            all += found;
        }
        if all > 0 {
            self.notifier.notify().await;
        }
        Ok(all)
    }

    /// Assets of the last day, a minute old, which no thumbnail was ever queued of.
    async fn queue_bare(&self) -> Result<usize, Error> {
        let work = async |tx: &mut PgConnection| {
            let query = sqlx::query_as::<_, (Uuid, Vec<u8>)>(
                "select a.account_id, a.sha256 from assets a
                 where a.create_time > now() - interval '1 day' and a.create_time < now() - interval '1 minute'
                   and not exists (
                       select from thumbnails t where t.account_id = a.account_id and t.asset_sha256 = a.sha256)
                 limit 100",
            );
            let bare = statement("find_bare_assets", query.fetch_all(&mut *tx)).await?;
            for (account, sha256) in &bare {
                if let Ok(asset) = sha256.as_slice().try_into() {
                    enqueue(tx, &Key { account: AccountId(*account), asset, spec: Spec::default() }).await?;
                }
            }
            Ok::<_, Error>(bare.len())
        };
        self.pool.transaction("queue_bare_assets", work).await
    }

    /// Thumbnails that are said to be in the making for a minute although no job is.
    async fn requeue_lost(&self) -> Result<usize, Error> {
        type Lost = (Uuid, Vec<u8>, i32, i32, i32);
        let work = async |tx: &mut PgConnection| {
            let query = sqlx::query_as::<_, Lost>(
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
            let lost = statement("find_lost_thumbnails", query).await?;
            for (account, sha256, width, height, quality) in &lost {
                let spec = Spec {
                    width: width.unsigned_abs(),
                    height: height.unsigned_abs(),
                    quality: u8::try_from(*quality).unwrap_or(80),
                };
                if let Ok(asset) = sha256.as_slice().try_into() {
                    jobs::enqueue(tx, &job(&Key { account: AccountId(*account), asset, spec })).await?;
                }
            }
            Ok::<_, Error>(lost.len())
        };
        self.pool.transaction("requeue_lost_thumbnails", work).await
    }
}

fn find(key: &Key) -> sqlx::query::QueryAs<'_, sqlx::Postgres, Row, sqlx::postgres::PgArguments> {
    sqlx::query_as(
        "select a.blob, a.mime_type, a.size_bytes, a.width, a.height, a.duration_ms, a.create_time,
                t.state, t.blob as thumbnail, t.failure_reason
         from assets a
         left join thumbnails t on t.account_id = a.account_id and t.asset_sha256 = a.sha256
              and t.width = $3 and t.height = $4 and t.quality = $5
         where a.account_id = $1 and a.sha256 = $2",
    )
    .bind(key.account.0)
    .bind(key.asset.as_slice())
    .bind(key.spec.width.cast_signed())
    .bind(key.spec.height.cast_signed())
    .bind(i32::from(key.spec.quality))
}

/// The key is the content's hash and the spec, so that the same thumbnail is made once.
fn job(key: &Key) -> NewJob {
    let Spec { width, height, quality } = key.spec;
    let payload = Payload::of(key).encode_to_vec();
    let idem_key = format!("{}-{width}x{height}-q{quality}", hex::encode(key.asset));
    NewJob { payload, ..NewJob::new(key.account.0, KIND, idem_key) }
}

async fn enqueue(tx: &mut PgConnection, key: &Key) -> Result<(), Error> {
    let query = sqlx::query(
        "insert into thumbnails (account_id, asset_sha256, width, height, quality, state)
         values ($1, $2, $3, $4, $5, 1)
         on conflict (account_id, asset_sha256, width, height, quality) do nothing",
    )
    .bind(key.account.0)
    .bind(key.asset.as_slice())
    .bind(key.spec.width.cast_signed())
    .bind(key.spec.height.cast_signed())
    .bind(i32::from(key.spec.quality))
    .execute(&mut *tx);
    if statement("insert_thumbnail", query).await?.rows_affected() == 1 {
        jobs::enqueue(tx, &job(key)).await?;
    }
    Ok(())
}

async fn settle(tx: &mut PgConnection, key: &Key, standing: &Standing) -> Result<(), Error> {
    let (state, blob, reason) = match standing {
        Standing::Processing => (1_i16, None, ""),
        Standing::Ready(name) => (2, Some(name.to_string()), ""),
        Standing::Failed(reason) => (3, None, reason.as_str()),
    };
    let query = sqlx::query(
        "insert into thumbnails (account_id, asset_sha256, width, height, quality, state, blob, failure_reason)
         values ($1, $2, $3, $4, $5, $6, $7, $8)
         on conflict (account_id, asset_sha256, width, height, quality) do update
             set state = excluded.state, blob = excluded.blob, failure_reason = excluded.failure_reason, update_time = now()
             where thumbnails.state <> 2",
    )
    .bind(key.account.0)
    .bind(key.asset.as_slice())
    .bind(key.spec.width.cast_signed())
    .bind(key.spec.height.cast_signed())
    .bind(i32::from(key.spec.quality))
    .bind(state)
    .bind(blob)
    .bind(reason)
    .execute(tx);
    statement("settle_thumbnail", query).await?;
    Ok(())
}
