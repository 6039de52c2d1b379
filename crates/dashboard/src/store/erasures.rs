//! Statements that erase an account: batches of what this service has of it, in the order in which one thing names another.
//!
//! Invariant: an erasure's row is locked while a batch is deleted, so that two processes never wait for each other's rows; what remains is
//! the account's row, without a name, and the audit log, without the names and networks that were the account's.

use chassis::postgres::statement;
use domain::id::AccountId;
use sqlx::PgConnection;
use uuid::Uuid;

use super::Store;
use crate::error::Error;

/// How many accounts are erased in one round.
const ACCOUNTS: i64 = 100;

/// What is deleted, in this order: each takes the account and how many.
const TABLES: [(&str, &str); 5] = [
    (
        "erase_scenes",
        "delete from scenes where account_id = $1 and id in (
             select id from scenes where account_id = $1 order by id limit $2)",
    ),
    (
        "erase_projects",
        "delete from projects where account_id = $1 and id in (
             select id from projects where account_id = $1 order by id limit $2)",
    ),
    (
        "erase_notices",
        "delete from notices where account_id = $1 and id in (
             select id from notices where account_id = $1 order by id limit $2)",
    ),
    // One that was being made while its account was erased.
    (
        "erase_keys",
        "delete from api_keys where account_id = $1 and id in (
             select id from api_keys where account_id = $1 order by id limit $2)",
    ),
    (
        "erase_quota",
        "delete from storage_quotas where account_id = $1 and account_id in (
             select account_id from storage_quotas where account_id = $1 limit $2)",
    ),
];

impl Store {
    /// Accounts that have something left to erase here, and no generation any more.
    pub(crate) async fn unfinished_erasures(&self) -> Result<Vec<AccountId>, Error> {
        let query = sqlx::query_scalar::<_, Uuid>(
            "select account_id from account_erasures
             where (assets_time is null or projects_time is null) and generations_time is not null
               and projects_time is null
             order by account_id limit $1",
        )
        .bind(ACCOUNTS);
        let run = async |connection: &mut PgConnection| query.fetch_all(connection).await;
        let accounts = self.write.run("find_erasures", run).await?;
        Ok(accounts.into_iter().map(AccountId).collect())
    }

    /// Deletes up to `batch` rows of the first table that has some, or takes what is the account's out of as many entries of the audit log;
    /// false when there was nothing, or another process is at it.
    pub(crate) async fn erase_batch(&self, account: AccountId, batch: u32) -> Result<bool, Error> {
        let run = async |tx: &mut PgConnection| {
            let lock = sqlx::query(
                "select from account_erasures where account_id = $1 and projects_time is null for no key update skip locked",
            )
            .bind(account.0);
            if statement("lock_erasure", lock.fetch_optional(&mut *tx)).await?.is_none() {
                return Ok(false);
            }
            for (name, sql) in TABLES {
                let query = sqlx::query(sql).bind(account.0).bind(i64::from(batch));
                if statement(name, query.execute(&mut *tx)).await?.rows_affected() > 0 {
                    return Ok(true);
                }
            }
            let redact = sqlx::query_scalar::<_, i64>("select rushes_redact_audit($1, $2)");
            let redact = redact.bind(account.0).bind(i64::from(batch)).fetch_one(tx);
            Ok::<_, Error>(statement("redact_audit", redact).await? > 0)
        };
        self.write.transaction_of(account.0, "erase_batch", run).await
    }

    /// Stamps an erasure of which nothing is left here; false when something is.
    pub(crate) async fn finish_erasure(&self, account: AccountId) -> Result<bool, Error> {
        let run = async |tx: &mut PgConnection| {
            let query = sqlx::query(
                "update account_erasures e set projects_time = now()
                 where e.account_id = $1 and e.projects_time is null
                   and not exists (select from projects where account_id = $1)
                   and not exists (select from scenes where account_id = $1)
                   and not exists (select from notices where account_id = $1)
                   and not exists (select from api_keys where account_id = $1)
                   and not exists (select from storage_quotas where account_id = $1)",
            )
            .bind(account.0);
            Ok::<_, Error>(statement("finish_erasure", query.execute(tx)).await?.rows_affected() > 0)
        };
        self.write.transaction_of(account.0, "finish_erasure", run).await
    }
}
