//! What operators do about a kind of work: pauses, accounts' shares, and dead letters. These functions go across accounts,
//! since a queue does.
//!
//! Invariant: an operator's change of a job stands in its history, with who and why, in the same transaction.

use std::time::Duration;

use chassis::postgres::statement;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::Error;
use crate::state::Cause;

/// A pause of one queue, or of all queues of a kind.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct PausedQueue {
    /// The queue; empty for all queues of the kind.
    pub queue: String,
    /// Who paused it, and why.
    pub note: String,
    /// Since when.
    pub pause_time: OffsetDateTime,
}

/// Pauses a queue, or with an empty `queue` all queues of a kind: no claim that begins after the commit leases an attempt
/// there. Polls go on, and so does what runs. Pausing again changes only the note.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn pause(tx: &mut PgConnection, kind: &str, queue: &str, note: &str) -> Result<(), Error> {
    let query = sqlx::query(
        "insert into job_pauses (kind, queue, note) values ($1, $2, $3)
         on conflict (kind, queue) do update set note = excluded.note",
    )
    .bind(kind)
    .bind(queue)
    .bind(note);
    statement("pause_jobs", query.execute(tx)).await?;
    Ok(())
}

/// Ends a pause; notify the workers after the commit. Returns whether there was one.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn resume(tx: &mut PgConnection, kind: &str, queue: &str) -> Result<bool, Error> {
    let query = sqlx::query("delete from job_pauses where kind = $1 and queue = $2").bind(kind).bind(queue);
    Ok(statement("resume_jobs", query.execute(tx)).await?.rows_affected() == 1)
}

/// Reads the pauses of a kind.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn paused_queues(tx: &mut PgConnection, kind: &str) -> Result<Vec<PausedQueue>, Error> {
    let query =
        sqlx::query_as("select queue, note, pause_time from job_pauses where kind = $1 order by queue").bind(kind);
    Ok(statement("paused_jobs", query.fetch_all(tx)).await?)
}

/// Sets how many turns an account gets where another gets one. It applies to what the account enqueues from then on.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn set_weight(tx: &mut PgConnection, kind: &str, account: Uuid, weight: f64) -> Result<(), Error> {
    let query = sqlx::query(
        "insert into job_accounts (kind, account_id, weight) values ($1, $2, $3)
         on conflict (kind, account_id) do update set weight = excluded.weight",
    )
    .bind(kind)
    .bind(account)
    .bind(weight);
    statement("set_account_weight", query.execute(tx)).await?;
    Ok(())
}

/// One account's part of the jobs of a kind.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// The account.
    pub account: Uuid,
    /// Its jobs that wait for a worker.
    pub queued: i64,
    /// Its jobs that are leased or suspended.
    pub running: i64,
    /// How long its oldest claimable job has been waiting.
    pub oldest: Duration,
    /// How many turns it gets where another gets one.
    pub weight: f64,
    /// How many of its jobs may run at once, where that was set for it.
    pub running_limit: Option<i32>,
}

/// Reads the accounts that have the most jobs queued. Reads every unfinished job of the kind: not for every second.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn shares(tx: &mut PgConnection, kind: &str, limit: i64) -> Result<Vec<Share>, Error> {
    let query = sqlx::query_as::<_, (Uuid, i64, i64, f64, f64, Option<i32>)>(
        "with queued as (
             -- One branch for each partial index, here and below, as in the depths.
             select account_id, count(*) as queued, min(run_at) filter (where run_at <= now()) as oldest
             from (
                 select account_id, run_at from jobs where kind = $1 and state = 'queued' and not delayed
                 union all
                 select account_id, run_at from jobs where kind = $1 and state = 'queued' and delayed
             ) either group by account_id
         ), running as (
             select account_id, sum(count)::bigint as running
             from (
                 select account_id, count(*) from jobs where kind = $1 and state = 'leased' group by account_id
                 union all
                 select account_id, count(*) from jobs where kind = $1 and state = 'waiting' group by account_id
             ) either group by account_id
         )
         select account_id, coalesce(queued, 0), coalesce(running, 0),
                coalesce(extract(epoch from now() - oldest), 0)::double precision, coalesce(a.weight, 1),
                a.running_limit
         from queued full join running using (account_id)
         left join (select account_id, weight, running_limit from job_accounts where kind = $1) a using (account_id)
         order by coalesce(queued, 0) desc, coalesce(running, 0) desc, account_id
         limit $2",
    )
    .bind(kind)
    .bind(limit);
    let rows = statement("job_shares", query.fetch_all(tx)).await?;
    let share = |(account, queued, running, oldest, weight, running_limit)| {
        let oldest = Duration::try_from_secs_f64(oldest).unwrap_or_default();
        Share { account, queued, running, oldest, weight, running_limit }
    };
    Ok(rows.into_iter().map(share).collect())
}

/// A job that was given up, and stays for an operator.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct DeadLetter {
    /// The job.
    #[sqlx(rename = "id")]
    pub job: Uuid,
    /// Its account.
    #[sqlx(rename = "account_id")]
    pub account: Uuid,
    /// Its queue.
    pub queue: String,
    /// Why it was given up, in upper snake case.
    pub cause: Option<String>,
    /// The sentence that goes with the cause.
    #[sqlx(rename = "last_error")]
    pub detail: Option<String>,
    /// How many attempts counted.
    pub attempt: i32,
    /// How often it was claimed.
    pub claims: i32,
    /// When it was enqueued.
    pub created_at: OffsetDateTime,
    /// When it was given up.
    pub finished_at: Option<OffsetDateTime>,
}

/// Which dead letters; those that meet every condition that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LetterFilter {
    /// Of one of these queues.
    pub queues: Option<Vec<String>>,
    /// Of this account.
    pub account: Option<Uuid>,
    /// With this cause.
    pub cause: Option<String>,
    /// Given up before that time.
    pub before: Option<OffsetDateTime>,
    /// Enqueued before this job: where the page before ended.
    pub older_than: Option<Uuid>,
}

/// Up to `limit` dead letters of a kind, newest first.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn dead_letters(
    tx: &mut PgConnection,
    kind: &str,
    filter: &LetterFilter,
    limit: i64,
) -> Result<Vec<DeadLetter>, Error> {
    let query = sqlx::query_as(
        "select id, account_id, queue, cause, last_error, attempt, claims, created_at, finished_at
         from jobs where kind = $1 and state = 'dead' and id < $2
           and (queue = any ($4) or $4 is null) and (account_id = $5 or $5 is null)
           and (cause = $6 or $6 is null) and (finished_at < $7 or $7 is null)
         order by id desc limit $3",
    )
    .bind(kind)
    .bind(filter.older_than.unwrap_or(Uuid::max()))
    .bind(limit)
    .bind(&filter.queues)
    .bind(filter.account)
    .bind(&filter.cause)
    .bind(filter.before);
    Ok(statement("dead_letters", query.fetch_all(tx)).await?)
}

/// Closes a dead letter that another job replaces: it becomes `failed`, and `detail`, which says who wanted it, why, and what
/// replaced it, stays in its history. Returns whether the job was dead.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn close_dead_letter(tx: &mut PgConnection, account: Uuid, job: Uuid, detail: &str) -> Result<bool, Error> {
    let query = sqlx::query(
        "update jobs set state = 'failed', cause = $4, last_error = $3
         where id = $1 and account_id = $2 and state = 'dead'",
    )
    .bind(job)
    .bind(account)
    .bind(detail)
    .bind(Cause::Requeued.as_str());
    Ok(statement("close_dead_letter", query.execute(tx)).await?.rows_affected() == 1)
}
