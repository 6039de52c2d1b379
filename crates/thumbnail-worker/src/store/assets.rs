//! Assets' rows.

use std::time::Duration;

use chassis::postgres::statement;
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::Store;
use super::thumbnails::{Columns, enqueue, read_name, settle};
use crate::error::{Error, Noun};
use crate::model::{Asset, NewAsset, StoredAsset, ThumbnailKey, ThumbnailStatus};

/// An asset that was written, and how much of it was new.
#[derive(Clone, Debug)]
pub(crate) struct Put {
    /// The asset as it is afterwards.
    pub(crate) stored: StoredAsset,
    /// Whether the account did not have it before.
    pub(crate) is_new: bool,
    /// Whether its thumbnail came to its end with it.
    pub(crate) settled: bool,
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
    #[sqlx(flatten)]
    thumbnail: Columns,
}

impl Row {
    fn read(self, sha256: [u8; 32]) -> Result<StoredAsset, Error> {
        let asset = Asset {
            sha256,
            blob: read_name(&self.blob)?,
            mime_type: self.mime_type,
            bytes: self.size_bytes.unsigned_abs(),
            width: self.width.unsigned_abs(),
            height: self.height.unsigned_abs(),
            duration: Duration::from_millis(self.duration_ms.unsigned_abs()),
            create_time: self.create_time,
        };
        Ok(StoredAsset { asset, thumbnail: self.thumbnail.read()? })
    }
}

impl Store {
    /// The account's asset of `key`, and that thumbnail of it.
    ///
    /// # Errors
    /// [`Error::NotFound`], or when PostgreSQL fails.
    pub(crate) async fn find(&self, key: &ThumbnailKey) -> Result<StoredAsset, Error> {
        let row = self.pool.run("find_asset", async |connection| find(key).fetch_optional(connection).await).await?;
        row.ok_or(Error::NotFound(Noun::Asset))?.read(key.asset)
    }

    /// Writes an asset with its thumbnail; what the account has already stays as it is. A thumbnail that is to be rendered gets
    /// its job.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub(crate) async fn put(
        &self,
        asset: &NewAsset,
        key: &ThumbnailKey,
        thumbnail: &ThumbnailStatus,
    ) -> Result<Put, Error> {
        let work = async |tx: &mut PgConnection| {
            let is_new = insert(tx, asset, key).await?;
            let settled = match thumbnail {
                ThumbnailStatus::Processing => enqueue(tx, key).await.map(|()| false)?,
                ended => settle(tx, key, ended).await?,
            };
            let row = statement("find_asset", find(key).fetch_one(tx)).await?;
            Ok::<_, Error>((row, is_new, settled))
        };
        let (row, is_new, settled) = self.pool.transaction("put_asset", work).await?;
        if *thumbnail == ThumbnailStatus::Processing {
            self.notifier.notify().await;
        }
        Ok(Put { stored: row.read(key.asset)?, is_new, settled })
    }
}

/// Inserts an asset unless the account has it; says whether it was inserted.
async fn insert(tx: &mut PgConnection, asset: &NewAsset, key: &ThumbnailKey) -> Result<bool, Error> {
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
    .execute(tx);
    Ok(statement("insert_asset", query).await?.rows_affected() == 1)
}

fn find(key: &ThumbnailKey) -> sqlx::query::QueryAs<'_, sqlx::Postgres, Row, sqlx::postgres::PgArguments> {
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
