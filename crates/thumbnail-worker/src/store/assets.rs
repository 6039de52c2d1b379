//! Assets' rows.

use std::time::Duration;

use chassis::postgres::statement;
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::Store;
use super::quotas::{hold_to, is_over};
use super::thumbnails::{Columns, enqueue, read_name, settle};
use crate::error::{Error, Noun};
use crate::model::{
    Asset, NewAsset, OverQuota, Poster, PosterImage, Quota, StoredAsset, ThumbnailKey, ThumbnailStatus,
};

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

/// The columns that a [`Row`] is read from, of an asset `a` and a thumbnail `t`.
macro_rules! columns {
    () => {
        "a.blob, a.mime_type, a.size_bytes, a.width, a.height, a.duration_ms, a.has_audio,
         a.frame_rate, a.c2pa, a.create_time,
         a.poster_large, a.poster_large_width, a.poster_large_height,
         a.poster_small, a.poster_small_width, a.poster_small_height, a.thumbhash,
         t.state, t.blob as thumbnail, t.failure_reason"
    };
}
pub(super) use columns;

/// An asset's row, with that of one thumbnail.
#[derive(sqlx::FromRow)]
pub(super) struct Row {
    blob: String,
    mime_type: String,
    size_bytes: i64,
    width: i32,
    height: i32,
    duration_ms: i64,
    has_audio: bool,
    frame_rate: f64,
    c2pa: bool,
    create_time: OffsetDateTime,
    #[sqlx(flatten)]
    poster: PosterColumns,
    #[sqlx(flatten)]
    thumbnail: Columns,
}

/// The pictures of a poster, all of them or none.
#[derive(sqlx::FromRow)]
struct PosterColumns {
    poster_large: Option<String>,
    poster_large_width: Option<i32>,
    poster_large_height: Option<i32>,
    poster_small: Option<String>,
    poster_small_width: Option<i32>,
    poster_small_height: Option<i32>,
    thumbhash: Option<Vec<u8>>,
}

impl PosterColumns {
    fn read(self) -> Result<Option<Poster>, Error> {
        let large = read_image(self.poster_large.as_deref(), self.poster_large_width, self.poster_large_height)?;
        let small = read_image(self.poster_small.as_deref(), self.poster_small_width, self.poster_small_height)?;
        let pictures = large.zip(small).zip(self.thumbhash);
        Ok(pictures.map(|((large, small), thumbhash)| Poster { large, small, thumbhash }))
    }
}

fn read_image(blob: Option<&str>, width: Option<i32>, height: Option<i32>) -> Result<Option<PosterImage>, Error> {
    let Some(((blob, width), height)) = blob.zip(width).zip(height) else { return Ok(None) };
    Ok(Some(PosterImage { blob: read_name(blob)?, width: width.unsigned_abs(), height: height.unsigned_abs() }))
}

impl Row {
    pub(super) fn read(self, sha256: [u8; 32]) -> Result<StoredAsset, Error> {
        let asset = Asset {
            sha256,
            blob: read_name(&self.blob)?,
            mime_type: self.mime_type,
            bytes: self.size_bytes.unsigned_abs(),
            width: self.width.unsigned_abs(),
            height: self.height.unsigned_abs(),
            duration: Duration::from_millis(self.duration_ms.unsigned_abs()),
            audio: self.has_audio,
            frame_rate: self.frame_rate,
            c2pa: self.c2pa,
            poster: self.poster.read()?,
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
    /// its job. Where there is a `quota`, an asset that is new must fit it.
    ///
    /// # Errors
    /// [`Error::OverQuota`], or when PostgreSQL fails; then nothing is written.
    pub(crate) async fn put(
        &self,
        asset: &NewAsset,
        key: &ThumbnailKey,
        thumbnail: &ThumbnailStatus,
        quota: Option<Quota>,
    ) -> Result<Put, Error> {
        let work = async |tx: &mut PgConnection| {
            let is_new = insert(tx, asset, key).await?;
            if is_new && let Some(quota) = quota {
                hold_to(tx, quota).await?;
            }
            let settled = match thumbnail {
                ThumbnailStatus::Processing => enqueue(tx, key).await.map(|()| false)?,
                ended => settle(tx, key, ended).await?,
            };
            let row = statement("find_asset", find(key).fetch_one(tx)).await?;
            Ok::<_, Error>((row, is_new, settled))
        };
        let (row, is_new, settled) = match (self.pool.transaction_of(key.account.0, "put_asset", work).await, quota) {
            (Err(error), Some(quota)) if is_over(&error) => {
                return Err(OverQuota(self.usage(key.account, quota).await?).into());
            }
            (written, _) => written?,
        };
        if *thumbnail == ThumbnailStatus::Processing {
            self.notifier.notify().await;
        }
        Ok(Put { stored: row.read(key.asset)?, is_new, settled })
    }
}

/// Inserts an asset unless the account has it; says whether it was inserted. One that has no poster yet, since none could be made
/// or none was made in its day, gets it, and so does what was not looked for then.
async fn insert(tx: &mut PgConnection, asset: &NewAsset, key: &ThumbnailKey) -> Result<bool, Error> {
    let poster = asset.poster.as_ref();
    let (large, small) = (poster.map(|poster| &poster.large), poster.map(|poster| &poster.small));
    // A row that was inserted has no transaction that ended its version before.
    let query = sqlx::query_scalar(
        "insert into assets (account_id, sha256, blob, mime_type, size_bytes, width, height, duration_ms, has_audio,
                frame_rate, c2pa, poster_large, poster_large_width, poster_large_height,
                poster_small, poster_small_width, poster_small_height, thumbhash)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
         on conflict (account_id, sha256) do update
             set has_audio = excluded.has_audio, frame_rate = excluded.frame_rate, c2pa = excluded.c2pa,
                 poster_large = coalesce(assets.poster_large, excluded.poster_large),
                 poster_large_width = coalesce(assets.poster_large_width, excluded.poster_large_width),
                 poster_large_height = coalesce(assets.poster_large_height, excluded.poster_large_height),
                 poster_small = coalesce(assets.poster_small, excluded.poster_small),
                 poster_small_width = coalesce(assets.poster_small_width, excluded.poster_small_width),
                 poster_small_height = coalesce(assets.poster_small_height, excluded.poster_small_height),
                 thumbhash = coalesce(assets.thumbhash, excluded.thumbhash)
             where (assets.poster_large is null and excluded.poster_large is not null)
                   or (assets.has_audio, assets.frame_rate, assets.c2pa)
                      is distinct from (excluded.has_audio, excluded.frame_rate, excluded.c2pa)
         returning xmax = 0",
    )
    .bind(key.account.0)
    .bind(key.asset.as_slice())
    .bind(asset.blob.to_string())
    .bind(asset.mime_type)
    .bind(asset.bytes.cast_signed())
    .bind(asset.width.cast_signed())
    .bind(asset.height.cast_signed())
    .bind(i64::try_from(asset.duration.as_millis()).unwrap_or_default())
    .bind(asset.audio)
    .bind(asset.frame_rate)
    .bind(asset.c2pa)
    .bind(large.map(|image| image.blob.to_string()))
    .bind(large.map(|image| image.width.cast_signed()))
    .bind(large.map(|image| image.height.cast_signed()))
    .bind(small.map(|image| image.blob.to_string()))
    .bind(small.map(|image| image.width.cast_signed()))
    .bind(small.map(|image| image.height.cast_signed()))
    .bind(poster.map(|poster| poster.thumbhash.as_slice()))
    .fetch_optional(tx);
    Ok(statement("insert_asset", query).await?.unwrap_or(false))
}

/// Gives an asset its poster unless it has one.
pub(super) async fn set_poster(tx: &mut PgConnection, key: &ThumbnailKey, poster: &Poster) -> Result<(), Error> {
    let Poster { large, small, thumbhash } = poster;
    let query = sqlx::query(
        "update assets set poster_large = $3, poster_large_width = $4, poster_large_height = $5,
                poster_small = $6, poster_small_width = $7, poster_small_height = $8, thumbhash = $9
         where account_id = $1 and sha256 = $2 and poster_large is null",
    )
    .bind(key.account.0)
    .bind(key.asset.as_slice())
    .bind(large.blob.to_string())
    .bind(large.width.cast_signed())
    .bind(large.height.cast_signed())
    .bind(small.blob.to_string())
    .bind(small.width.cast_signed())
    .bind(small.height.cast_signed())
    .bind(thumbhash.as_slice())
    .execute(tx);
    statement("set_poster", query).await?;
    Ok(())
}

fn find(key: &ThumbnailKey) -> sqlx::query::QueryAs<'_, sqlx::Postgres, Row, sqlx::postgres::PgArguments> {
    sqlx::query_as(concat!(
        "select ",
        columns!(),
        "
         from assets a
         left join thumbnails t on t.account_id = a.account_id and t.asset_sha256 = a.sha256
              and t.width = $3 and t.height = $4 and t.quality = $5
         where a.account_id = $1 and a.sha256 = $2"
    ))
    .bind(key.account.0)
    .bind(key.asset.as_slice())
    .bind(key.spec.width.cast_signed())
    .bind(key.spec.height.cast_signed())
    .bind(i32::from(key.spec.quality))
}
