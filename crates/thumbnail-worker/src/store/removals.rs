//! Assets that are deleted, and objects in storage that no row names any more.
//!
//! Invariant: an object's bytes are removed only under the exclusive lock of its name, while no row names it; a row that names it is
//! committed under a shared lock, taken by a trigger, and whoever wrote it looks for the bytes afterwards. So no row is left without its
//! bytes, whichever came first.

use chassis::blobs::Name;
use chassis::postgres::{self, statement};
use domain::id::AccountId;
use sqlx::PgConnection;

use super::Store;
use super::payload::KIND;
use super::thumbnails::read_name;
use crate::error::{Error, Noun};

/// How often a deletion is tried that another transaction is in the way of.
const MAX_TRIES: usize = 3;

/// Ends the jobs of an asset's thumbnails: a job that has ended would else keep its thumbnail from being made again, once the asset is
/// uploaded again.
macro_rules! delete_jobs {
    ($lock:literal) => {
        concat!(
            "delete from jobs where id in (
                 select j.id from thumbnails t
                 join jobs j on j.account_id = t.account_id and j.kind = $3
                      and j.idem_key = encode(t.asset_sha256, 'hex') || '-' || t.width || 'x' || t.height || '-q' || t.quality
                 where t.account_id = $1 and t.asset_sha256 = $2
                 for update of j",
            $lock,
            ")"
        )
    };
}

impl Store {
    /// Deletes an asset with its thumbnails and their jobs; returns the names of the objects that it had in storage.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::InUse`], or when PostgreSQL fails; then nothing is deleted.
    pub(crate) async fn delete(&self, account: AccountId, asset: [u8; 32]) -> Result<Vec<Name>, Error> {
        // An upload of the same bytes locks asset and job in the other order: PostgreSQL ends one of the two, which has done nothing.
        for _ in 1..MAX_TRIES {
            match self.try_delete(account, asset).await {
                Err(Error::Database(postgres::Error::Conflict(_))) => {}
                deleted => return deleted,
            }
        }
        self.try_delete(account, asset).await
    }

    async fn try_delete(&self, account: AccountId, asset: [u8; 32]) -> Result<Vec<Name>, Error> {
        let work = async |tx: &mut PgConnection| {
            // Before the asset: whoever ends a job has it locked, and then needs the asset.
            let jobs = sqlx::query(delete_jobs!("")).bind(account.0).bind(asset.as_slice()).bind(KIND);
            statement("delete_thumbnail_jobs", jobs.execute(&mut *tx)).await?;
            let lock = sqlx::query("select from assets where account_id = $1 and sha256 = $2 for update")
                .bind(account.0)
                .bind(asset.as_slice());
            if statement("lock_asset", lock.fetch_optional(&mut *tx)).await?.is_none() {
                return Err(Error::NotFound(Noun::Asset));
            }
            // A statement of its own: what began to use the asset while this one waited for the lock is seen only by the next.
            let used = sqlx::query_scalar::<_, bool>(
                "select exists (select from asset_uses where account_id = $1 and sha256 = $2)",
            )
            .bind(account.0)
            .bind(asset.as_slice());
            if statement("find_asset_uses", used.fetch_one(&mut *tx)).await? {
                return Err(Error::InUse);
            }
            // Of thumbnails that were queued since; those whose job is ending at this moment are left to that.
            let jobs = sqlx::query(delete_jobs!(" skip locked")).bind(account.0).bind(asset.as_slice()).bind(KIND);
            statement("delete_thumbnail_jobs", jobs.execute(&mut *tx)).await?;
            let thumbnails = sqlx::query_scalar::<_, Option<String>>(
                "delete from thumbnails where account_id = $1 and asset_sha256 = $2 returning blob",
            )
            .bind(account.0)
            .bind(asset.as_slice());
            let mut blobs = statement("delete_thumbnails", thumbnails.fetch_all(&mut *tx)).await?;
            let assets = sqlx::query_as::<_, (String, Option<String>, Option<String>)>(
                "delete from assets where account_id = $1 and sha256 = $2 returning blob, poster_large, poster_small",
            )
            .bind(account.0)
            .bind(asset.as_slice());
            let (blob, large, small) = statement("delete_asset", assets.fetch_one(&mut *tx)).await?;
            blobs.extend([Some(blob), large, small]);
            let mut blobs: Vec<String> = blobs.into_iter().flatten().collect();
            blobs.sort_unstable();
            blobs.dedup();
            blobs.iter().map(|name| read_name(name)).collect::<Result<Vec<_>, Error>>()
        };
        self.pool.transaction_of(account.0, "delete_asset", work).await
    }

    /// Of these names of objects, those that no row of any account has.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub(crate) async fn unnamed(&self, names: &[Name]) -> Result<Vec<Name>, Error> {
        let names: Vec<String> = names.iter().map(Name::to_string).collect();
        let query = sqlx::query_scalar::<_, String>(
            "select name from unnest($1::text[]) as name
             where not exists (select from assets where blob = name)
               and not exists (select from thumbnails where blob = name)
               and not exists (select from assets where poster_large = name)
               and not exists (select from assets where poster_small = name)",
        )
        .bind(names);
        let run = async |connection: &mut PgConnection| query.fetch_all(connection).await;
        let unnamed = self.pool.run("find_unnamed_blobs", run).await?;
        unnamed.iter().map(|name| read_name(name)).collect()
    }

    /// Does `remove` to an object unless some row has its name, while none can get it; says whether it was done.
    ///
    /// # Errors
    /// What `remove` returns, or when PostgreSQL fails.
    pub(crate) async fn remove_unnamed(
        &self,
        name: &Name,
        remove: impl AsyncFnOnce() -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        let text = name.to_string();
        let work = async |tx: &mut PgConnection| {
            let lock = sqlx::query("select pg_advisory_xact_lock(hashtextextended($1, 41))").bind(&text);
            statement("lock_blob", lock.execute(&mut *tx)).await?;
            // A statement of its own, whose snapshot is younger than the lock.
            let named = sqlx::query_scalar::<_, bool>(
                "select exists (select from assets where blob = $1) or exists (select from thumbnails where blob = $1)
                     or exists (select from assets where poster_large = $1)
                     or exists (select from assets where poster_small = $1)",
            )
            .bind(&text);
            if statement("find_blob", named.fetch_one(&mut *tx)).await? {
                return Ok(false);
            }
            remove().await
        };
        self.pool.transaction("remove_blob", work).await
    }
}
