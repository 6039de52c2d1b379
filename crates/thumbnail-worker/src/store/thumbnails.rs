//! Thumbnails' rows.

use chassis::postgres::{self, statement};
use sqlx::PgConnection;

use super::Store;
use super::payload::job_of;
use crate::error::{Error, Noun};
use crate::model::{ThumbnailKey, ThumbnailStatus};

// The numbers of `thumbnails.state`. SQL has the first one written out where a partial index is to be found by it: a bound
// value would hide the index from a generic plan.
const PROCESSING: i16 = 1;
const READY: i16 = 2;
const FAILED: i16 = 3;

/// A thumbnail's status, as its columns have it.
#[derive(sqlx::FromRow)]
pub(super) struct Columns {
    state: Option<i16>,
    thumbnail: Option<String>,
    failure_reason: Option<String>,
}

impl Columns {
    /// The status; nothing when there is no row.
    pub(super) fn read(self) -> Result<Option<ThumbnailStatus>, Error> {
        Ok(match self.state {
            None => None,
            Some(READY) => Some(ThumbnailStatus::Ready(read_name(&self.thumbnail.unwrap_or_default())?)),
            Some(FAILED) => Some(ThumbnailStatus::Failed(self.failure_reason.unwrap_or_default())),
            Some(_) => Some(ThumbnailStatus::Processing),
        })
    }
}

/// A name in storage, as a column has it.
pub(super) fn read_name(text: &str) -> Result<chassis::blobs::Name, Error> {
    text.parse().map_err(|error| postgres::Error::from(sqlx::Error::Decode(Box::new(error))).into())
}

impl Store {
    /// Queues a thumbnail of an asset that exists, unless it is ready, queued or failed.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub(crate) async fn enqueue(&self, key: &ThumbnailKey) -> Result<(), Error> {
        self.pool.transaction_of(key.account.0, "queue_thumbnail", async |tx| enqueue(tx, key).await).await?;
        self.notifier.notify().await;
        Ok(())
    }

    /// Writes a thumbnail's status; says whether it was written, which it is not over one that is ready.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub async fn settle(&self, key: &ThumbnailKey, status: &ThumbnailStatus) -> Result<bool, Error> {
        self.pool.transaction_of(key.account.0, "settle_thumbnail", async |tx| settle(tx, key, status).await).await
    }
}

/// Refused by the database: the asset was deleted since it was read.
fn about_asset(error: postgres::Error) -> Error {
    if error.constraint() == Some("thumbnails_account_id_asset_sha256_fkey") {
        return Error::NotFound(Noun::Asset);
    }
    error.into()
}

/// Inserts a thumbnail that is to be rendered, with its job, unless it has a row already.
pub(super) async fn enqueue(tx: &mut PgConnection, key: &ThumbnailKey) -> Result<(), Error> {
    let query = sqlx::query(
        "insert into thumbnails (account_id, asset_sha256, width, height, quality, state)
         values ($1, $2, $3, $4, $5, $6)
         on conflict (account_id, asset_sha256, width, height, quality) do nothing",
    )
    .bind(key.account.0)
    .bind(key.asset.as_slice())
    .bind(key.spec.width.cast_signed())
    .bind(key.spec.height.cast_signed())
    .bind(i32::from(key.spec.quality))
    .bind(PROCESSING)
    .execute(&mut *tx);
    if statement("insert_thumbnail", query).await.map_err(about_asset)?.rows_affected() == 1 {
        jobs::enqueue(tx, &job_of(key)).await?;
    }
    Ok(())
}

/// Writes a thumbnail's status over any but ready; says whether it was written.
pub(super) async fn settle(tx: &mut PgConnection, key: &ThumbnailKey, status: &ThumbnailStatus) -> Result<bool, Error> {
    let (state, blob, reason) = match status {
        ThumbnailStatus::Processing => (PROCESSING, None, ""),
        ThumbnailStatus::Ready(name) => (READY, Some(name.to_string()), ""),
        ThumbnailStatus::Failed(reason) => (FAILED, None, reason.as_str()),
    };
    let query = sqlx::query(
        "insert into thumbnails (account_id, asset_sha256, width, height, quality, state, blob, failure_reason)
         values ($1, $2, $3, $4, $5, $6, $7, $8)
         on conflict (account_id, asset_sha256, width, height, quality) do update
             set state = excluded.state, blob = excluded.blob, failure_reason = excluded.failure_reason, update_time = now()
             where thumbnails.state <> $9",
    )
    .bind(key.account.0)
    .bind(key.asset.as_slice())
    .bind(key.spec.width.cast_signed())
    .bind(key.spec.height.cast_signed())
    .bind(i32::from(key.spec.quality))
    .bind(state)
    .bind(blob)
    .bind(reason)
    .bind(READY)
    .execute(tx);
    Ok(statement("settle_thumbnail", query).await.map_err(about_asset)?.rows_affected() == 1)
}
