//! Leases: prolonged by heartbeats, and ended by their worker in one of five ways: complete, cancel, fail, suspend, release.
//!
//! Invariant: every statement here names the fence, so that a worker that lost its lease changes nothing.

use std::collections::HashMap;
use std::time::Duration;

use chassis::postgres::statement;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::state::{Cause, State};
use crate::transitions::{apply, lock};
use crate::{Error, Failure, Held, Lease, LeaseStatus, RetryDecision, Suspension, metrics, rules};

/// Prolongs leases, all of a worker's in one statement, and returns one status for each, in the order given. A lease that ran
/// out is prolonged too while it has not been reaped: nobody else has the job yet.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn heartbeat(tx: &mut PgConnection, leases: &[Lease], lease: Duration) -> Result<Vec<LeaseStatus>, Error> {
    let (jobs, fences) = columns(leases);
    // Locked in the order of their ids, so that two heartbeats never wait for each other in a circle. `no key`, since nothing
    // here changes a key: rows that refer to the job can be written meanwhile.
    let query = sqlx::query_as::<_, (Uuid, i64, Uuid, bool)>(
        "with held as materialized (
             select jobs.id from unnest($1::uuid[], $2::bigint[]) as asked(id, fence)
             join jobs on jobs.id = asked.id and jobs.fence = asked.fence
             where state = 'leased'
             order by jobs.id
             for no key update of jobs
         )
         update jobs set lease_until = now() + make_interval(secs => $3)
         from held where jobs.id = held.id
         returning jobs.id, fence, account_id, cancel_at is not null",
    )
    .bind(jobs)
    .bind(fences)
    .bind(lease.as_secs_f64())
    .fetch_all(tx);
    Ok(statuses(leases, &statement("heartbeat_jobs", query).await?))
}

fn columns(leases: &[Lease]) -> (Vec<Uuid>, Vec<i64>) {
    leases.iter().map(|lease| (lease.job, lease.fence)).unzip()
}

fn statuses(leases: &[Lease], held: &[(Uuid, i64, Uuid, bool)]) -> Vec<LeaseStatus> {
    let held: HashMap<_, _> = held
        .iter()
        .map(|&(job, fence, account, cancel_requested)| (Lease { job, fence }, Held { account, cancel_requested }))
        .collect();
    leases.iter().map(|lease| LeaseStatus { lease: *lease, held: held.get(lease).copied() }).collect()
}

/// Locks leases until the transaction ends, so that what the transaction writes is written by their holder. Returns one status
/// for each, in the order given.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn lock_leases(tx: &mut PgConnection, leases: &[Lease]) -> Result<Vec<LeaseStatus>, Error> {
    let (jobs, fences) = columns(leases);
    let query = sqlx::query_as::<_, (Uuid, i64, Uuid, bool)>(
        "select jobs.id, jobs.fence, account_id, cancel_at is not null
         from unnest($1::uuid[], $2::bigint[]) as asked(id, fence)
         join jobs on jobs.id = asked.id and jobs.fence = asked.fence
         where state = 'leased'
         order by jobs.id
         for no key update of jobs",
    )
    .bind(jobs)
    .bind(fences)
    .fetch_all(tx);
    Ok(statuses(leases, &statement("lock_leases", query).await?))
}

/// What [`lock_lease`] does, as a step of a statement that writes under the lease and commits by itself: it gives a row with the
/// `account_id` where the job `$1` is leased under the fence `$2`, and none where it is not.
#[macro_export]
macro_rules! held_lease {
    () => {
        "select account_id, cancel_at is not null as cancel_requested from jobs
         where id = $1 and fence = $2 and state = 'leased'
         for no key update"
    };
}

/// Locks a lease until the transaction ends, so that what the transaction writes is written by its holder.
///
/// # Errors
/// [`Error::StaleFence`], [`Error::Postgres`].
pub async fn lock_lease(tx: &mut PgConnection, lease: Lease) -> Result<Held, Error> {
    let query = sqlx::query_as::<_, (Uuid, bool)>(held_lease!()).bind(lease.job).bind(lease.fence).fetch_optional(tx);
    let (account, cancel_requested) = statement("lock_leases", query).await?.ok_or(Error::StaleFence)?;
    Ok(Held { account, cancel_requested })
}

/// Locks a lease as [`lock_lease`] does, and notes that its attempt is about to begin elsewhere: from here on the job is not queued
/// again when its worker is lost or gives it back, but waits, and a poll is due. For a lease of an attempt; the next claim forgets it.
///
/// # Errors
/// [`Error::StaleFence`], [`Error::Postgres`].
pub async fn begin_elsewhere(tx: &mut PgConnection, lease: Lease) -> Result<Held, Error> {
    let query = sqlx::query_as::<_, (Uuid, bool)>(
        "update jobs set elsewhere = true
         where id = $1 and fence = $2 and state = 'leased'
         returning account_id, cancel_at is not null",
    )
    .bind(lease.job)
    .bind(lease.fence)
    .fetch_optional(tx);
    let (account, cancel_requested) = statement("begin_job_elsewhere", query).await?.ok_or(Error::StaleFence)?;
    Ok(Held { account, cancel_requested })
}

/// Ends a job well.
///
/// # Errors
/// [`Error::StaleFence`], [`Error::Postgres`].
pub async fn complete(tx: &mut PgConnection, lease: Lease) -> Result<Held, Error> {
    let query = sqlx::query_as::<_, (String, Uuid, bool)>(
        "update jobs
         set state = 'done', lease_until = null, polling = false, finished_at = now(), expired_in_row = 0,
             cause = null, last_error = null
         where id = $1 and fence = $2 and state = 'leased'
         returning kind, account_id, cancel_at is not null",
    )
    .bind(lease.job)
    .bind(lease.fence)
    .fetch_optional(tx);
    ended(statement("complete_job", query).await?, "done")
}

/// Ends a job that its worker stopped, as was asked.
///
/// # Errors
/// [`Error::StaleFence`], [`Error::Postgres`].
pub async fn cancel(tx: &mut PgConnection, lease: Lease) -> Result<Held, Error> {
    let query = sqlx::query_as::<_, (String, Uuid, bool)>(
        "update jobs
         set state = 'cancelled', lease_until = null, polling = false, finished_at = now(), expired_in_row = 0,
             cause = $3, cancel_at = coalesce(cancel_at, now())
         where id = $1 and fence = $2 and state = 'leased'
         returning kind, account_id, cancel_at is not null",
    )
    .bind(lease.job)
    .bind(lease.fence)
    .bind(Cause::Cancelled.as_str())
    .fetch_optional(tx);
    ended(statement("cancel_job", query).await?, "cancelled")
}

fn ended(row: Option<(String, Uuid, bool)>, outcome: &'static str) -> Result<Held, Error> {
    let (kind, account, cancel_requested) = row.ok_or(Error::StaleFence)?;
    metrics::job_ended(kind, outcome);
    Ok(Held { account, cancel_requested })
}

/// Ends an attempt that failed: the job is queued again after a back-off, or ends.
///
/// # Errors
/// [`Error::StaleFence`], [`Error::Postgres`].
pub async fn fail(tx: &mut PgConnection, lease: Lease, failure: &Failure) -> Result<RetryDecision, Error> {
    let job = lock(tx, lease).await?;
    let next = rules::attempt_failed(&job.facts, failure);
    let to = next.to;
    let moved = apply(tx, &[(lease, next)]).await?;
    let Some(&run_at) = moved.get(&lease.job) else { return Err(Error::StaleFence) };
    let (decision, outcome) = match to {
        State::Queued => (RetryDecision::Retry(run_at), "retried"),
        State::Dead => (RetryDecision::Dead, "dead"),
        _ => (RetryDecision::Failed, "failed"),
    };
    metrics::job_ended(job.kind, outcome);
    Ok(decision)
}

/// Ends a lease while its attempt goes on elsewhere: the job waits, and is leased again when its next poll is due.
///
/// # Errors
/// [`Error::StaleFence`], [`Error::Postgres`].
pub async fn suspend(tx: &mut PgConnection, lease: Lease, suspension: Suspension<'_>) -> Result<Held, Error> {
    let query = sqlx::query_as::<_, (Uuid, bool)>(
        "update jobs
         set state = 'waiting', lease_until = null, polling = false, expired_in_row = 0,
             run_at = coalesce(now() + make_interval(secs => $3), 'infinity'), cause = $4, last_error = $5
         where id = $1 and fence = $2 and state = 'leased'
         returning account_id, cancel_at is not null",
    )
    .bind(lease.job)
    .bind(lease.fence)
    .bind(suspension.poll_after.map(|after| after.as_secs_f64()))
    .bind(suspension.cause)
    .bind(suspension.detail)
    .fetch_optional(tx);
    let (account, cancel_requested) = statement("suspend_job", query).await?.ok_or(Error::StaleFence)?;
    Ok(Held { account, cancel_requested })
}

/// Gives a lease back unused: the job is claimable at once, and the attempt does not count. A poll is due again at once.
///
/// # Errors
/// [`Error::StaleFence`], [`Error::Postgres`].
pub async fn release(tx: &mut PgConnection, lease: Lease) -> Result<Held, Error> {
    let job = lock(tx, lease).await?;
    let moved = apply(tx, &[(lease, rules::released(&job.facts))]).await?;
    if moved.is_empty() {
        return Err(Error::StaleFence);
    }
    metrics::job_ended(job.kind, "released");
    Ok(Held { account: job.account, cancel_requested: job.cancel_requested })
}
