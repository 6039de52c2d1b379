//! Statements that erase an account: batches of what this service has of it, in the order in which one thing names another.
//!
//! Invariant: an erasure's row is locked while a batch is deleted, so that two processes never wait for each other's rows; what remains is
//! the ledger, the balance, and the usage without its end users.

use chassis::postgres::statement;
use domain::generation::{DELETION_JOBS, State};
use domain::id::{AccountId, GenerationId};
use sqlx::PgConnection;
use uuid::Uuid;

use super::Store;
use crate::error::Error;
use crate::model::{DELIVERY_JOBS, GENERATION_JOBS};

/// The kinds of jobs that this service has of accounts.
const KINDS: [&str; 3] = [GENERATION_JOBS, DELIVERY_JOBS, DELETION_JOBS];
/// How many accounts are erased in one round.
const ACCOUNTS: i64 = 100;

/// What is deleted before the generations: each takes the account and how many, and says how many were deleted.
const BEFORE: [(&str, &str); 5] = [
    (
        "erase_deliveries",
        "delete from webhook_deliveries where id in (
             select id from webhook_deliveries where account_id = $1 order by endpoint_id, id desc limit $2)",
    ),
    (
        "erase_endpoints",
        "delete from webhook_endpoints where id in (
             select id from webhook_endpoints where account_id = $1 order by id limit $2)",
    ),
    (
        "erase_labels",
        "delete from generation_labels where account_id = $1 and (key, value, generation_id) in (
             select key, value, generation_id from generation_labels where account_id = $1
             order by key, value, generation_id limit $2)",
    ),
    (
        "erase_end_users",
        "delete from end_users where account_id = $1 and end_user in (
             select end_user from end_users where account_id = $1 order by end_user limit $2)",
    ),
    // The sums of a day and model stay, those of end users become part of those of none.
    (
        "erase_usage_by_end_user",
        "with gone as (
             delete from usage_daily where account_id = $1 and (day, model, end_user) in (
                 select day, model, end_user from usage_daily where account_id = $1 and end_user <> ''
                 order by end_user, day limit $2)
             returning *
         )
         insert into usage_daily as u (account_id, day, model, end_user, started, completed, failed, cancelled, expired,
                                       captured_micros, provider_cost_micros)
         select account_id, day, model, '', sum(started), sum(completed), sum(failed), sum(cancelled), sum(expired),
                sum(captured_micros), sum(provider_cost_micros)
         from gone group by account_id, day, model
         on conflict (account_id, day, model, end_user) do update
             set started = u.started + excluded.started, completed = u.completed + excluded.completed,
                 failed = u.failed + excluded.failed, cancelled = u.cancelled + excluded.cancelled,
                 expired = u.expired + excluded.expired, captured_micros = u.captured_micros + excluded.captured_micros,
                 provider_cost_micros = u.provider_cost_micros + excluded.provider_cost_micros",
    ),
];

/// What goes with generations, and they themselves, by the account and their ids.
const WITH: [(&str, &str); 3] = [
    ("erase_orders", "delete from generation_orders where account_id = $1 and generation_id = any ($2)"),
    ("erase_provider_calls", "delete from provider_calls where account_id = $1 and generation_id = any ($2)"),
    ("erase_generations", "delete from generations where account_id = $1 and id = any ($2)"),
];

impl Store {
    /// Accounts of which this service has something left to erase.
    pub(crate) async fn unfinished_erasures(&self) -> Result<Vec<AccountId>, Error> {
        let query = sqlx::query_scalar::<_, Uuid>(
            "select account_id from account_erasures
             where (assets_time is null or projects_time is null) and generations_time is null
             order by account_id limit $1",
        )
        .bind(ACCOUNTS);
        let run = async |connection: &mut PgConnection| query.fetch_all(connection).await;
        let accounts = self.pools.reaper.run("find_erasures", run).await?;
        Ok(accounts.into_iter().map(AccountId).collect())
    }

    /// Deletes an erased account's endpoints as their user would: from now on they are told nothing.
    pub(crate) async fn delete_endpoints_of_erased(&self, account: AccountId) -> Result<(), Error> {
        let query = sqlx::query(
            "update webhook_endpoints
             set disable_reason = 'DELETED', disable_time = coalesce(disable_time, now()), version = version + 1
             where account_id = $1 and disable_reason is distinct from 'DELETED'",
        )
        .bind(account.0);
        let run = async |tx: &mut PgConnection| {
            statement("delete_endpoints", query.execute(tx)).await?;
            Ok::<_, Error>(())
        };
        self.pools.reaper.transaction_of(account.0, "delete_endpoints_of_erased", run).await
    }

    /// Up to `limit` of an erased account's generations that can be cancelled, oldest first. One that is not erased has none here.
    pub(crate) async fn cancellable_of_erased(
        &self,
        account: AccountId,
        limit: u32,
    ) -> Result<Vec<GenerationId>, Error> {
        let query = sqlx::query_scalar::<_, Uuid>(
            "select g.id from generations g join account_erasures e on e.account_id = g.account_id
             where g.account_id = $1 and g.end_state = 0 and g.state = any ($2)
             order by g.id limit $3",
        )
        .bind(account.0)
        .bind([State::Queued, State::Submitting, State::Processing].map(State::number))
        .bind(i64::from(limit));
        let run = async |connection: &mut PgConnection| query.fetch_all(connection).await;
        let ids = self.pools.reaper.run("find_cancellable", run).await?;
        Ok(ids.into_iter().map(GenerationId).collect())
    }

    /// Deletes up to `batch` rows of the first table that has some, and of generations what goes with them; false when there was nothing,
    /// or another process is at it.
    pub(crate) async fn erase_batch(&self, account: AccountId, batch: u32) -> Result<bool, Error> {
        let run = async |tx: &mut PgConnection| {
            let lock = sqlx::query(
                "select from account_erasures where account_id = $1 and generations_time is null for no key update skip locked",
            )
            .bind(account.0);
            if statement("lock_erasure", lock.fetch_optional(&mut *tx)).await?.is_none() {
                return Ok(false);
            }
            for (name, sql) in BEFORE {
                let query = sqlx::query(sql).bind(account.0).bind(i64::from(batch));
                if statement(name, query.execute(&mut *tx)).await?.rows_affected() > 0 {
                    return Ok(true);
                }
            }
            let ended = sqlx::query_scalar::<_, Uuid>(
                "select id from generations where account_id = $1 and end_state > 0 order by id limit $2",
            )
            .bind(account.0)
            .bind(i64::from(batch));
            let ended = statement("find_ended", ended.fetch_all(&mut *tx)).await?;
            if !ended.is_empty() {
                for (name, sql) in WITH {
                    statement(name, sqlx::query(sql).bind(account.0).bind(&ended).execute(&mut *tx)).await?;
                }
                return Ok(true);
            }
            let internal = jobs::erase(tx, account.0, &[DELIVERY_JOBS, DELETION_JOBS], true, batch).await?;
            // That of a generation that is under way is needed.
            Ok(internal + jobs::erase(tx, account.0, &[GENERATION_JOBS], false, batch).await? > 0)
        };
        self.pools.reaper.transaction_of(account.0, "erase_batch", run).await
    }

    /// Stamps an erasure of which nothing is left here; false when something is, or may still come: a call that was admitted before the
    /// suspension takes ten minutes at most.
    pub(crate) async fn finish_erasure(&self, account: AccountId) -> Result<bool, Error> {
        let run = async |tx: &mut PgConnection| {
            let query = sqlx::query(
                "update account_erasures e set generations_time = now()
                 where e.account_id = $1 and e.generations_time is null
                   and exists (select from accounts a where a.id = $1 and a.suspend_time < now() - interval '15 minutes')
                   and not exists (select from generations where account_id = $1)
                   and not exists (select from generation_labels where account_id = $1)
                   and not exists (select from webhook_endpoints where account_id = $1)
                   and not exists (select from end_users where account_id = $1)
                   and not exists (select from usage_daily where account_id = $1 and end_user <> '')
                   and not exists (select from jobs where account_id = $1 and kind = any ($2))",
            )
            .bind(account.0)
            .bind(KINDS);
            let finished = statement("finish_erasure", query.execute(&mut *tx)).await?.rows_affected() > 0;
            if finished {
                jobs::erase_turns(tx, account.0, &KINDS).await?;
                let shares = sqlx::query("delete from job_accounts where account_id = $1").bind(account.0);
                statement("erase_shares", shares.execute(tx)).await?;
            }
            Ok(finished)
        };
        self.pools.reaper.transaction_of(account.0, "finish_erasure", run).await
    }
}
