//! Statements that erase an account, beside those that delete an asset.

use chassis::postgres::statement;
use domain::id::AccountId;
use sqlx::PgConnection;
use uuid::Uuid;

use super::Store;
use super::payload::KIND;
use crate::error::Error;

/// How many accounts are erased in one round.
const ACCOUNTS: i64 = 100;

impl Store {
    /// Accounts that have something left to erase here, and no generation any more.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub(crate) async fn unfinished_erasures(&self) -> Result<Vec<AccountId>, Error> {
        let query = sqlx::query_scalar::<_, Uuid>(
            "select account_id from account_erasures
             where (assets_time is null or projects_time is null) and generations_time is not null and assets_time is null
             order by account_id limit $1",
        )
        .bind(ACCOUNTS);
        let run = async |connection: &mut PgConnection| query.fetch_all(connection).await;
        let accounts = self.pool.run("find_erasures", run).await?;
        Ok(accounts.into_iter().map(AccountId).collect())
    }

    /// Deletes up to `batch` of an account's jobs of thumbnails with their history; false when there were none.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub(crate) async fn erase_jobs(&self, account: AccountId, batch: u32) -> Result<bool, Error> {
        let run =
            async |tx: &mut PgConnection| Ok::<_, Error>(jobs::erase(tx, account.0, &[KIND], true, batch).await? > 0);
        self.pool.transaction_of(account.0, "erase_jobs", run).await
    }

    /// Up to `limit` assets of an account that is erased; none of one that is not.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub(crate) async fn assets_of_erased(&self, account: AccountId, limit: u32) -> Result<Vec<[u8; 32]>, Error> {
        let query = sqlx::query_scalar::<_, Vec<u8>>(
            "select a.sha256 from assets a join account_erasures e on e.account_id = a.account_id
             where a.account_id = $1 order by a.id limit $2",
        )
        .bind(account.0)
        .bind(i64::from(limit));
        let run = async |connection: &mut PgConnection| query.fetch_all(connection).await;
        let found = self.pool.run("find_assets_of_erased", run).await?;
        Ok(found.into_iter().filter_map(|sha256| <[u8; 32]>::try_from(sha256).ok()).collect())
    }

    /// Stamps an erasure of which nothing is left here; false when something is.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub(crate) async fn finish_erasure(&self, account: AccountId) -> Result<bool, Error> {
        let run = async |tx: &mut PgConnection| {
            let query = sqlx::query(
                "update account_erasures e set assets_time = now()
                 where e.account_id = $1 and e.assets_time is null
                   and not exists (select from assets where account_id = $1)
                   and not exists (select from thumbnails where account_id = $1)
                   and not exists (select from jobs where account_id = $1 and kind = $2)",
            )
            .bind(account.0)
            .bind(KIND);
            let finished = statement("finish_erasure", query.execute(&mut *tx)).await?.rows_affected() > 0;
            if finished {
                jobs::erase_turns(tx, account.0, &[KIND]).await?;
                let counted = sqlx::query("delete from account_storage where account_id = $1").bind(account.0);
                statement("erase_storage", counted.execute(tx)).await?;
            }
            Ok(finished)
        };
        self.pool.transaction_of(account.0, "finish_erasure", run).await
    }
}
