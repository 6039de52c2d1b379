//! Jobs that ended long ago, deleted with their history.
//!
//! Invariant: a batch reads a bounded number of rows, in the order of the times in their ids, and goes on behind the last one; so what is
//! kept is read once in a round and not once in a batch. A dead letter waits for somebody, however old it is.

use std::time::Duration;

use chassis::postgres::statement;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::Error;

/// One batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retained {
    /// How many jobs were deleted.
    pub deleted: u64,
    /// Where the next batch begins; nil when this one has reached the end, and the next round begins.
    pub next: Uuid,
}

/// Deletes those of up to `limit` jobs after `after` that ended longer ago than `kinds` says for theirs. Others' kinds are left alone.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn delete_ended(
    tx: &mut PgConnection,
    kinds: &[(&str, Duration)],
    after: Uuid,
    limit: u32,
) -> Result<Retained, Error> {
    let (names, ages): (Vec<&str>, Vec<f64>) = kinds.iter().map(|(kind, age)| (*kind, age.as_secs_f64())).unzip();
    let query = sqlx::query_as::<_, (i64, Option<Uuid>, i64)>(
        "with kinds as (
             select * from unnest($1::text[], $2::double precision[]) as k (kind, age)
         ),
         scanned as (
             select id from jobs
             where id > $3 and id < (
                 select (lpad(to_hex((extract(epoch from now() - make_interval(secs => min(age))) * 1000)::bigint), 12, '0')
                         || repeat('0', 20))::uuid
                 from kinds
             )
             order by id limit $4
         ),
         gone as (
             delete from jobs j using scanned s, kinds k
             where j.id = s.id and j.kind = k.kind and j.state in ('done', 'failed', 'cancelled')
               and j.finished_at < now() - make_interval(secs => k.age)
             returning j.id
         ),
         events as (
             delete from job_events e using gone g where e.job_id = g.id
         )
         select (select count(*) from scanned), (select id from scanned order by id desc limit 1), (select count(*) from gone)",
    )
    .bind(names)
    .bind(ages)
    .bind(after)
    .bind(i64::from(limit))
    .fetch_one(tx);
    let (scanned, last, deleted) = statement("delete_ended_jobs", query).await?;
    let next = last.filter(|_| scanned == i64::from(limit)).unwrap_or_default();
    Ok(Retained { deleted: deleted.unsigned_abs(), next })
}

/// Deletes up to `limit` jobs of an account of these kinds, with their history; those that have not ended only where `live` says so.
/// Returns how many were deleted.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn erase(tx: &mut PgConnection, account: Uuid, kinds: &[&str], live: bool, limit: u32) -> Result<u64, Error> {
    let query = sqlx::query_scalar::<_, i64>(
        "with gone as (
             delete from jobs where id in (
                 select id from jobs
                 where account_id = $1 and kind = any($2) and (finished_at is not null or $3)
                 order by kind, idem_key limit $4
             )
             returning id
         ),
         events as (
             delete from job_events e using gone g where e.job_id = g.id
         )
         select count(*) from gone",
    )
    .bind(account)
    .bind(kinds)
    .bind(live)
    .bind(i64::from(limit))
    .fetch_one(tx);
    Ok(statement("erase_jobs", query).await?.unsigned_abs())
}

/// Deletes an account's places in the queues of these kinds, and what was set for it there.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn erase_turns(tx: &mut PgConnection, account: Uuid, kinds: &[&str]) -> Result<(), Error> {
    let query = sqlx::query("delete from job_turns where account_id = $1 and kind = any($2)").bind(account).bind(kinds);
    statement("erase_turns", query.execute(&mut *tx)).await?;
    Ok(())
}
