//! What accounts have in storage, counted by a trigger of `assets` in the transactions that add and remove them.

use chassis::postgres::statement;
use domain::id::AccountId;
use sqlx::PgConnection;

use super::Store;
use crate::error::Error;
use crate::model::{Quota, Usage};

#[derive(sqlx::FromRow)]
struct Row {
    bytes: i64,
    objects: i64,
    max_bytes: Option<i64>,
    max_objects: Option<i64>,
}

impl Row {
    /// The account's own quota, and where it has none `quota`.
    fn read(&self, quota: Quota) -> Usage {
        let used = Quota { bytes: self.bytes.unsigned_abs(), objects: self.objects.unsigned_abs() };
        let own = |max: Option<i64>, default| max.map_or(default, i64::unsigned_abs);
        let quota = Quota { bytes: own(self.max_bytes, quota.bytes), objects: own(self.max_objects, quota.objects) };
        Usage { used, quota }
    }
}

impl Store {
    /// What an account has, and what it may have where nothing else than `quota` was set for it.
    ///
    /// # Errors
    /// When PostgreSQL fails.
    pub(crate) async fn usage(&self, account: AccountId, quota: Quota) -> Result<Usage, Error> {
        let row = self.pool.run("find_storage", async |connection| find(account).fetch_one(connection).await).await?;
        Ok(row.read(quota))
    }
}

/// Has the trigger that counts refuse what is more than `quota`, or than the account's own, at this transaction's commit.
pub(super) async fn hold_to(tx: &mut PgConnection, quota: Quota) -> Result<(), Error> {
    let text = |max: u64| i64::try_from(max).unwrap_or(i64::MAX).to_string();
    let query =
        sqlx::query("select set_config('rushes.quota_bytes', $1, true), set_config('rushes.quota_objects', $2, true)")
            .bind(text(quota.bytes))
            .bind(text(quota.objects));
    statement("hold_to_quota", query.execute(tx)).await?;
    Ok(())
}

/// Whether a transaction was refused since its account has as much as it may.
pub(super) fn is_over(error: &Error) -> bool {
    matches!(error, Error::Database(error) if error.constraint() == Some("account_storage_quota"))
}

fn find(account: AccountId) -> sqlx::query::QueryAs<'static, sqlx::Postgres, Row, sqlx::postgres::PgArguments> {
    sqlx::query_as(
        "select coalesce(s.bytes, 0) as bytes, coalesce(s.objects, 0) as objects, q.max_bytes, q.max_objects
         from (select $1::uuid as account_id) wanted
         left join account_storage s on s.account_id = wanted.account_id
         left join storage_quotas q on q.account_id = wanted.account_id",
    )
    .bind(account.0)
}
