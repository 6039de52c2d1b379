//! The way in and the view from outside: enqueue, stop, revive, measure.
//!
//! Order within a priority is by virtual finish time (start-time fair queueing): a job starts where its account's last one
//! finished or where the queue's front is, whichever is later, so that an account's backlog makes only itself wait. What is
//! enqueued with another priority than the ordinary one takes no turn of what is not.

use std::time::Duration;

use chassis::postgres::statement;
use metrics::gauge;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{Enqueued, Error, NewJob, job::NORMAL};

/// Writes a job unless its account, kind and key have one. Wake the workers after the commit ([`crate::Notifier::notify`]).
///
/// # Errors
/// [`Error::Postgres`].
pub async fn enqueue(tx: &mut PgConnection, job: &NewJob) -> Result<Enqueued, Error> {
    let query = sqlx::query_scalar::<_, Uuid>(
        "with front as (
             select coalesce(
                 (select vft from jobs
                  where kind = $3 and queue = $4 and state = 'queued' and not delayed and priority = $8
                  order by vft limit 1),
                 (select max(vft) from jobs where kind = $3 and queue = $4 and state = 'leased'),
                 (select max(last_vft) from job_turns where kind = $3 and queue = $4),
                 0) as vft
         ), own as (
             select $9 / coalesce((select weight from job_accounts where kind = $3 and account_id = $2), 1) as length
         ), turn as (
             insert into job_turns as t (kind, queue, account_id, last_vft)
             select $3, $4, $2, front.vft + own.length from front cross join own where $8 = $14
             on conflict (kind, queue, account_id) do update
                 set last_vft = greatest(t.last_vft + (select length from own), excluded.last_vft)
             returning last_vft
         ), place as (
             select last_vft as vft from turn
             union all
             select greatest(front.vft, (select max(vft) from jobs
                                         where kind = $3 and queue = $4 and account_id = $2 and priority = $8
                                           and state = 'queued' and not delayed)) + own.length
             from front cross join own where $8 <> $14
         )
         insert into jobs (id, account_id, kind, queue, idem_key, request_hash, payload, priority, vft,
                           max_attempts, run_at, deadline_at, traceparent)
         select $1, $2, $3, $4, $5, $6, $7, $8, place.vft,
                $10, now() + make_interval(secs => $11), now() + make_interval(secs => $12), $13
         from place
         on conflict (account_id, kind, idem_key) do nothing
         returning id",
    )
    .bind(job.id)
    .bind(job.account)
    .bind(job.kind)
    .bind(&job.queue)
    .bind(&job.idem_key)
    .bind(&job.request_hash)
    .bind(&job.payload)
    .bind(job.priority)
    .bind(job.cost)
    .bind(job.max_attempts)
    .bind(job.delay.as_secs_f64())
    .bind(job.deadline.map(|deadline| deadline.as_secs_f64()))
    .bind(&job.traceparent)
    .bind(NORMAL)
    .fetch_optional(&mut *tx);
    if let Some(id) = statement("enqueue_job", query).await? {
        return Ok(Enqueued::New(id));
    }
    let query = sqlx::query_as::<_, (Uuid, bool)>(
        "select id, request_hash = $4 from jobs where account_id = $1 and kind = $2 and idem_key = $3",
    )
    .bind(job.account)
    .bind(job.kind)
    .bind(&job.idem_key)
    .bind(&job.request_hash)
    .fetch_one(tx);
    let (id, same) = statement("find_job", query).await?;
    Ok(if same { Enqueued::Same(id) } else { Enqueued::Other(id) })
}

/// Takes a job out of the queue for good. Returns whether it was waiting there.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn withdraw(tx: &mut PgConnection, account: Uuid, job: Uuid) -> Result<bool, Error> {
    let query = sqlx::query(
        "update jobs
         set state = 'cancelled', cancel_at = coalesce(cancel_at, now()), finished_at = now(), cause = 'CANCELLED'
         where id = $1 and account_id = $2 and state = 'queued'",
    )
    .bind(job)
    .bind(account)
    .execute(tx);
    Ok(statement("withdraw_job", query).await?.rows_affected() == 1)
}

/// Asks whoever has a job, or takes it next, to stop it: a worker hears of it with the job or at its next heartbeat.
/// Asking twice is the same as once. Returns whether the job had not ended.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn ask_to_stop(tx: &mut PgConnection, account: Uuid, job: Uuid) -> Result<bool, Error> {
    let query = sqlx::query(
        "update jobs
         set cancel_at = coalesce(cancel_at, now()), run_at = least(run_at, now())
         where id = $1 and account_id = $2 and state in ('queued', 'leased', 'waiting')",
    )
    .bind(job)
    .bind(account)
    .execute(tx);
    Ok(statement("ask_job_to_stop", query).await?.rows_affected() == 1)
}

/// Says that there may be news of a job that waits: the next poll is due now. Returns whether it was waiting.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn hint(tx: &mut PgConnection, job: Uuid) -> Result<bool, Error> {
    let query =
        sqlx::query("update jobs set run_at = least(run_at, now()) where id = $1 and state = 'waiting'").bind(job);
    Ok(statement("hint_job", query.execute(tx)).await?.rows_affected() == 1)
}

/// Adds a line to a job's history: who did something about it, and why.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn note(tx: &mut PgConnection, account: Uuid, job: Uuid, cause: &str, detail: &str) -> Result<(), Error> {
    let query = sqlx::query(
        "insert into job_events (job_id, from_state, to_state, fence, attempt, cause, detail)
         select id, state, state, fence, attempt, $3, $4 from jobs where id = $1 and account_id = $2",
    )
    .bind(job)
    .bind(account)
    .bind(cause)
    .bind(detail);
    statement("note_job", query.execute(tx)).await?;
    Ok(())
}

/// What is decided of a job that nobody has a lease on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// What it waits for will not come: it is queued again, and the attempt counts.
    Requeue,
    /// It is over.
    Fail,
    /// It is over, as was asked.
    Cancel,
}

/// Ends a job that waits or is queued, or queues one that waits; `cause` and `detail` stay in its history. Returns whether
/// anything was changed: whoever has a lease is not disturbed.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn decide(
    tx: &mut PgConnection,
    account: Uuid,
    job: Uuid,
    decision: Decision,
    (cause, detail): (&str, &str),
) -> Result<bool, Error> {
    let state = match decision {
        Decision::Requeue => "queued",
        Decision::Fail => "failed",
        Decision::Cancel => "cancelled",
    };
    let query = sqlx::query(
        "update jobs
         set state = $3, run_at = now(), finished_at = case when $3 <> 'queued' then now() end, polls = 0,
             cause = $4, last_error = $5
         where id = $1 and account_id = $2 and (state = 'waiting' or (state = 'queued' and $3 <> 'queued'))",
    )
    .bind(job)
    .bind(account)
    .bind(state)
    .bind(cause)
    .bind(detail);
    Ok(statement("decide_job", query.execute(tx)).await?.rows_affected() == 1)
}

/// Gives a dead letter all its attempts back. `by` says who wanted it and stays in the job's history. Returns whether the
/// job was dead.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn requeue(tx: &mut PgConnection, job: Uuid, by: &str) -> Result<bool, Error> {
    let query = sqlx::query(
        "update jobs
         set state = 'queued', attempt = 0, expired_in_row = 0, run_at = now(), finished_at = null, deadline_at = null,
             cause = 'REQUEUED', last_error = $2
         where id = $1 and state = 'dead'",
    )
    .bind(job)
    .bind(by)
    .execute(tx);
    Ok(statement("requeue_job", query).await?.rows_affected() == 1)
}

/// How much of one queue there is.
#[derive(Clone, Debug, PartialEq)]
pub struct Depth {
    /// The part of the kind.
    pub queue: String,
    /// Could be claimed now.
    pub ready: i64,
    /// Wait for their time.
    pub delayed: i64,
    /// Are with a worker.
    pub leased: i64,
    /// Go on elsewhere, and are looked at now and then.
    pub waiting: i64,
    /// Are dead letters.
    pub dead: i64,
    /// How long the one that could be claimed the longest has been waiting.
    pub oldest: Duration,
}

/// Counts a kind's queues. Reads every unfinished job of the kind: for a gauge every some seconds, not for a request.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn depths(tx: &mut PgConnection, kind: &str) -> Result<Vec<Depth>, Error> {
    let query = sqlx::query_as::<_, (String, i64, i64, i64, i64, i64, f64)>(
        "with unfinished as (
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

/// Sets the gauges `rushes_jobs{kind,queue,state}` and `rushes_jobs_oldest_ready_seconds{kind,queue}`.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn observe(tx: &mut PgConnection, kind: &'static str) -> Result<(), Error> {
    for depth in depths(tx, kind).await? {
        let queue = depth.queue;
        for (state, count) in [
            ("ready", depth.ready),
            ("delayed", depth.delayed),
            ("leased", depth.leased),
            ("waiting", depth.waiting),
            ("dead", depth.dead),
        ] {
            gauge!("rushes_jobs", "kind" => kind, "queue" => queue.clone(), "state" => state).set(count as f64);
        }
        gauge!("rushes_jobs_oldest_ready_seconds", "kind" => kind, "queue" => queue).set(depth.oldest.as_secs_f64());
    }
    Ok(())
}
