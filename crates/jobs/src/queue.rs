//! The queue from outside: enqueue, cancel, requeue, and the depths.
//!
//! The order within a priority is by virtual finish time (start-time fair queueing). A job starts where its account's last job
//! finished or where the front of the queue is, whichever is later, so that a backlog makes only its own account wait. A job of
//! another priority than the ordinary one takes no turn of its account's ordinary jobs.

use std::time::Duration;

use chassis::postgres::statement;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::job::NORMAL_PRIORITY;
use crate::state::Cause;
use crate::{Enqueued, Error, NewJob, Resolution, metrics, rules};

/// The steps of a statement that enqueues a job: `$job` is the step before them with the job's row, if there is one to be enqueued, with the
/// columns `id, account_id, kind, queue, takes_turn, idem_key, request_hash, payload, priority, cost, max_attempts, run_at, deadline_at,
/// traceparent`, of which `takes_turn` is whether the priority is [`NORMAL_PRIORITY`]. The last of them, `enqueued`, has the id of the job,
/// and no row where its account has one of its kind under the same key.
#[macro_export]
macro_rules! enqueue_steps {
    ($job:literal) => {
        concat!(
            "front as (
             -- Where the queue is: the next job to be claimed; if none is claimable, the furthest that is leased; else the
             -- last turn that was given. Each is one step of an index.
             select coalesce(
                 (select vft from jobs
                  where kind = new.kind and queue = new.queue and state = 'queued' and not delayed and priority = new.priority
                  order by vft limit 1),
                 (select max(vft) from jobs where kind = new.kind and queue = new.queue and state = 'leased'),
                 (select max(last_vft) from job_turns where kind = new.kind and queue = new.queue),
                 0) as vft,
                 -- An account of weight two has turns of half the length, and so gets two where another gets one.
                 new.cost / coalesce((select weight from job_accounts
                                      where kind = new.kind and account_id = new.account_id), 1) as length
             from ", $job, " new
         ), turn as (
             insert into job_turns as t (kind, queue, account_id, last_vft)
             select new.kind, new.queue, new.account_id, front.vft + front.length from ", $job, " new cross join front
             where new.takes_turn
             -- The later of where the account's last job finished and where the front is: idle time is not saved up, and past
             -- use is not held against the account. Added to the row as it is once locked, not as the snapshot had it, so that
             -- two jobs enqueued at once get two turns.
             on conflict (kind, queue, account_id) do update
                 set last_vft = greatest(t.last_vft + (select length from front), excluded.last_vft)
             returning last_vft
         ), place as (
             select last_vft as vft from turn
             union all
             -- Another priority: behind what the account has queued there, without a row that keeps its turns.
             select greatest(front.vft, (select max(vft) from jobs
                                         where kind = new.kind and queue = new.queue and account_id = new.account_id
                                           and priority = new.priority and state = 'queued' and not delayed)) + front.length
             from ", $job, " new cross join front where not new.takes_turn
         ), enqueued as (
             insert into jobs (id, account_id, kind, queue, idem_key, request_hash, payload, priority, vft,
                               max_attempts, run_at, deadline_at, traceparent)
             select new.id, new.account_id, new.kind, new.queue, new.idem_key, new.request_hash, new.payload, new.priority,
                    place.vft, new.max_attempts, new.run_at, new.deadline_at, new.traceparent
             from ", $job, " new cross join place
             on conflict (account_id, kind, idem_key) do nothing
             returning id
         )"
        )
    };
}

/// Writes a job, unless its account has one of its kind under the same key. Notify the workers after the commit
/// ([`crate::Notifier::notify`]).
///
/// # Errors
/// [`Error::Postgres`].
pub async fn enqueue(tx: &mut PgConnection, job: &NewJob) -> Result<Enqueued, Error> {
    let query = sqlx::query_scalar::<_, Uuid>(concat!(
        "with job (id, account_id, kind, queue, takes_turn, idem_key, request_hash, payload, priority, cost, max_attempts,
                   run_at, deadline_at, traceparent) as (
             select $1::uuid, $2::uuid, $3::text, $4::text, $14::boolean, $5::text, $6::bytea, $7::bytea, $8::smallint,
                    $9::double precision, $10::integer, now() + make_interval(secs => $11), now() + make_interval(secs => $12),
                    $13::text
         ), ",
        enqueue_steps!("job"),
        " select id from enqueued"
    ))
    .bind(job.id)
    .bind(job.account)
    .bind(job.kind)
    .bind(&job.queue)
    .bind(&job.idempotency_key)
    .bind(&job.request_hash)
    .bind(&job.payload)
    .bind(job.priority)
    .bind(job.cost)
    .bind(job.max_attempts)
    .bind(job.delay.as_secs_f64())
    .bind(job.deadline.map(|deadline| deadline.as_secs_f64()))
    .bind(&job.traceparent)
    .bind(job.priority == NORMAL_PRIORITY)
    .fetch_optional(&mut *tx);
    if let Some(id) = statement("enqueue_job", query).await? {
        return Ok(Enqueued::Created(id));
    }
    // A statement of its own: the snapshot of the first may be older than the job that it ran into.
    let query = sqlx::query_as::<_, (Uuid, bool)>(
        "select id, request_hash = $4 from jobs where account_id = $1 and kind = $2 and idem_key = $3",
    )
    .bind(job.account)
    .bind(job.kind)
    .bind(&job.idempotency_key)
    .bind(&job.request_hash)
    .fetch_one(tx);
    let (id, same) = statement("find_job", query).await?;
    Ok(if same { Enqueued::Duplicate(id) } else { Enqueued::Conflict(id) })
}

/// Cancels a job that no worker has claimed. Returns whether it was queued.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn cancel_queued(tx: &mut PgConnection, account: Uuid, job: Uuid) -> Result<bool, Error> {
    let query = sqlx::query(
        "update jobs
         set state = 'cancelled', cancel_at = coalesce(cancel_at, now()), finished_at = now(), cause = $3
         where id = $1 and account_id = $2 and state = 'queued'",
    )
    .bind(job)
    .bind(account)
    .bind(Cause::Cancelled.as_str())
    .execute(tx);
    Ok(statement("cancel_queued_job", query).await?.rows_affected() == 1)
}

/// Asks the worker that has a job, or claims it next, to cancel it: the worker learns of it with the claim or at its next
/// heartbeat. Asking twice is the same as once. Returns whether the job had not ended.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn request_cancel(tx: &mut PgConnection, account: Uuid, job: Uuid) -> Result<bool, Error> {
    let query = sqlx::query(
        "update jobs
         -- Due now: a job that waits for its provider, or for its next attempt, is claimed at once to be cancelled.
         set cancel_at = coalesce(cancel_at, now()), run_at = least(run_at, now())
         where id = $1 and account_id = $2 and state in ('queued', 'leased', 'waiting')",
    )
    .bind(job)
    .bind(account)
    .execute(tx);
    Ok(statement("request_job_cancel", query).await?.rows_affected() == 1)
}

/// Makes the next poll of a waiting job due now, since there may be news of it. Returns whether the job was waiting.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn poll_now(tx: &mut PgConnection, job: Uuid) -> Result<bool, Error> {
    let query =
        sqlx::query("update jobs set run_at = least(run_at, now()) where id = $1 and state = 'waiting'").bind(job);
    Ok(statement("poll_job_now", query.execute(tx)).await?.rows_affected() == 1)
}

/// A queued job's attempt turned out to go on elsewhere: the job waits, and a poll is due. The attempt counts; `cause` and `detail`
/// stay in its history. Returns whether the job was queued.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn await_elsewhere(
    tx: &mut PgConnection,
    account: Uuid,
    job: Uuid,
    (cause, detail): (&str, &str),
) -> Result<bool, Error> {
    let query = sqlx::query(
        "update jobs
         -- Without a start deadline, as after a claim.
         set state = 'waiting', attempt = attempt + 1, run_at = now(), polls = 0, deadline_at = null,
             cause = $3, last_error = $4
         where id = $1 and account_id = $2 and state = 'queued'",
    )
    .bind(job)
    .bind(account)
    .bind(cause)
    .bind(detail);
    Ok(statement("await_job_elsewhere", query.execute(tx)).await?.rows_affected() == 1)
}

/// Adds a line to a job's history without moving the job: who did something about it, and why.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn append_event(
    tx: &mut PgConnection,
    account: Uuid,
    job: Uuid,
    cause: &str,
    detail: &str,
) -> Result<(), Error> {
    let query = sqlx::query(
        "insert into job_events (job_id, from_state, to_state, fence, attempt, cause, detail)
         select id, state, state, fence, attempt, $3, $4 from jobs where id = $1 and account_id = $2",
    )
    .bind(job)
    .bind(account)
    .bind(cause)
    .bind(detail);
    statement("append_job_event", query.execute(tx)).await?;
    Ok(())
}

/// Ends a job that is waiting or queued, or queues one that is waiting; `cause` and `detail` stay in its history. Returns
/// whether the job was moved: a worker that holds a lease is not disturbed.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn resolve(
    tx: &mut PgConnection,
    account: Uuid,
    job: Uuid,
    resolution: Resolution,
    (cause, detail): (&str, &str),
) -> Result<bool, Error> {
    let (next, from) = rules::resolved(resolution);
    let query = sqlx::query(
        "update jobs
         set state = $3, run_at = now(), finished_at = case when $6 then now() end, polls = 0,
             cause = $4, last_error = $5
         where id = $1 and account_id = $2 and state = any ($7)",
    )
    .bind(job)
    .bind(account)
    .bind(next.as_str())
    .bind(cause)
    .bind(detail)
    .bind(next.is_finished())
    .bind(from.iter().map(|state| state.as_str()).collect::<Vec<_>>());
    Ok(statement("resolve_job", query.execute(tx)).await?.rows_affected() == 1)
}

/// Queues a dead letter again with all its attempts. `by` says who wanted it and stays in the job's history. Returns whether
/// the job was dead.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn requeue(tx: &mut PgConnection, job: Uuid, by: &str) -> Result<bool, Error> {
    let query = sqlx::query(
        "update jobs
         -- Without a start deadline: the old one has passed, and would end the job again at once.
         set state = 'queued', attempt = 0, expired_in_row = 0, run_at = now(), finished_at = null, deadline_at = null,
             cause = $3, last_error = $2
         where id = $1 and state = 'dead'",
    )
    .bind(job)
    .bind(by)
    .bind(Cause::Requeued.as_str())
    .execute(tx);
    Ok(statement("requeue_job", query).await?.rows_affected() == 1)
}

/// The numbers of one queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Depth {
    /// The queue's name within its kind.
    pub queue: String,
    /// Claimable now.
    pub ready: i64,
    /// Queued, and their time has not come.
    pub delayed: i64,
    /// With a worker.
    pub leased: i64,
    /// Suspended: their attempts go on elsewhere, and are polled.
    pub waiting: i64,
    /// Dead letters.
    pub dead: i64,
    /// How long the oldest claimable job has been waiting.
    pub oldest: Duration,
}

/// Counts the jobs in each queue of a kind. Reads every unfinished job of the kind: for a gauge every few seconds, not for a
/// request.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn depths(tx: &mut PgConnection, kind: &str) -> Result<Vec<Depth>, Error> {
    let query = sqlx::query_as::<_, (String, i64, i64, i64, i64, i64, f64)>(
        "with unfinished as (
             -- One branch for each partial index: one condition over all these states would read the whole table.
             select queue, state, run_at from jobs where kind = $1 and state = 'queued' and not delayed
             union all
             select queue, state, run_at from jobs where kind = $1 and state = 'queued' and delayed
             union all
             select queue, state, run_at from jobs where kind = $1 and state = 'leased'
             union all
             select queue, state, run_at from jobs where kind = $1 and state = 'waiting'
             union all
             select queue, state, run_at from jobs where kind = $1 and state = 'dead'
         ), known as (
             -- Queues that are empty now are counted too: a gauge must come back to zero.
             select distinct queue from job_turns where kind = $1
         )
         select known.queue,
                count(*) filter (where state = 'queued' and run_at <= now()),
                count(*) filter (where state = 'queued' and run_at > now()),
                count(*) filter (where state = 'leased'),
                count(*) filter (where state = 'waiting'),
                count(*) filter (where state = 'dead'),
                coalesce(extract(epoch from now() - min(run_at) filter (where state = 'queued' and run_at <= now())), 0)
                    ::double precision
         from known left join unfinished using (queue)
         group by known.queue",
    )
    .bind(kind)
    .fetch_all(tx);
    let rows = statement("job_depths", query).await?;
    Ok(rows
        .into_iter()
        .map(|(queue, ready, delayed, leased, waiting, dead, oldest)| Depth {
            queue,
            ready,
            delayed,
            leased,
            waiting,
            dead,
            oldest: Duration::try_from_secs_f64(oldest).unwrap_or_default(),
        })
        .collect())
}

/// Sets the gauges of every queue of a kind.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn observe(tx: &mut PgConnection, kind: &'static str) -> Result<(), Error> {
    for depth in depths(tx, kind).await? {
        let states = [
            ("ready", depth.ready),
            ("delayed", depth.delayed),
            ("leased", depth.leased),
            ("waiting", depth.waiting),
            ("dead", depth.dead),
        ];
        metrics::queue_depth(kind, &depth.queue, states, depth.oldest);
    }
    Ok(())
}
