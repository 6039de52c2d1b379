//! How much may run at once: of an account, and in a pool, which is whoever does a queue's work, as a provider.
//!
//! Invariant: while claims are made with limits, no account and no pool has more running than it may, however many processes
//! claim: a kind's claims are made one after another, under one lock, and each counts what runs.

use std::time::Duration;

use chassis::postgres::statement;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::delayed::{due, wake};
use crate::{Error, Lease};

/// What claims of a kind keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many jobs of an account may run at once, where nothing else is set for it.
    pub account: i32,
}

/// A pool that refused something is thought to take one more after each so many seconds: soon, since a refusal costs nothing but
/// time, and some providers refuse by chance.
pub(crate) const STEP: f64 = 0.5;

/// Refusals this soon after another are of calls that were made before it, and lower nothing further.
const SAME: f64 = 5.0;

/// The longest that one refusal closes a pool.
const CLOSED: Duration = Duration::from_secs(120);

/// Lets claims with limits be made one after another until the transaction ends. A statement of its own, since what runs must
/// be counted in a snapshot that is taken under the lock, and what has come due must be seen. The claim is then planned once for a connection: planning it takes
/// longer than carrying it out, and PostgreSQL, which does not know that `limit $4` is a few rows, would think each new plan
/// worth its time.
pub(crate) async fn take_turn(tx: &mut PgConnection, kind: &str) -> Result<(), Error> {
    let query = sqlx::query(concat!(
        due!(),
        ", woken as (",
        wake!(),
        ") select set_config('plan_cache_mode', 'force_generic_plan', true),
                  pg_advisory_xact_lock(hashtextextended('claims of ' || $1, 0))"
    ))
    .bind(kind);
    statement("take_claim_turn", query.execute(tx)).await?;
    Ok(())
}

/// Sets how many jobs of an account may run at once; nothing: as many as of any other.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn set_running_limit(
    tx: &mut PgConnection,
    kind: &str,
    account: Uuid,
    limit: Option<i32>,
) -> Result<(), Error> {
    let query = sqlx::query(
        "insert into job_accounts (kind, account_id, running_limit) values ($1, $2, $3)
         on conflict (kind, account_id) do update set running_limit = excluded.running_limit",
    )
    .bind(kind)
    .bind(account)
    .bind(limit);
    statement("set_running_limit", query.execute(tx)).await?;
    Ok(())
}

/// Takes note of who does the work of a job's queue.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn served_by(tx: &mut PgConnection, lease: Lease, pool: &str) -> Result<(), Error> {
    // Looked at first: a row that is written anew for every order would be waited for.
    let query = sqlx::query(
        "insert into job_queues (kind, queue, pool)
         select j.kind, j.queue, $2 from jobs j
         where j.id = $1
           and not exists (select from job_queues q where q.kind = j.kind and q.queue = j.queue and q.pool = $2)
         on conflict (kind, queue) do update set pool = excluded.pool",
    )
    .bind(lease.job)
    .bind(pool);
    statement("note_job_pool", query.execute(tx)).await?;
    Ok(())
}

/// The pool of a job refused it because it has enough to do: it gets half of what ran, and nothing until `after` has passed.
/// To be called under the job's lease, while that still counts as running.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn throttled(tx: &mut PgConnection, lease: Lease, after: Option<Duration>) -> Result<(), Error> {
    let query = sqlx::query(
        "with refused as (
             select j.kind, coalesce(q.pool, j.queue) as pool
             from jobs j left join job_queues q on q.kind = j.kind and q.queue = j.queue
             where j.id = $1 and j.fence = $2
         ), half as (
             select refused.kind, refused.pool, greatest(1, floor(count(*) / 2.0)) as ceiling
             from refused
             join jobs r on r.kind = refused.kind and r.state in ('leased', 'waiting')
             left join job_queues o on o.kind = r.kind and o.queue = r.queue
             where coalesce(o.pool, r.queue) = refused.pool
             group by refused.kind, refused.pool
         )
         insert into job_pools as p (kind, pool, ceiling, closed_until)
         select kind, pool, ceiling, now() + make_interval(secs => $3) from half
         on conflict (kind, pool) do update
             set ceiling = case
                     when p.lower_time > now() - make_interval(secs => $4) then p.ceiling
                     else least(excluded.ceiling,
                                greatest(1, floor((p.ceiling + greatest(extract(epoch from now() - p.lower_time), 0) / $5) / 2)))
                 end,
                 lower_time = case when p.lower_time > now() - make_interval(secs => $4) then p.lower_time else now() end,
                 closed_until = greatest(p.closed_until, excluded.closed_until)",
    )
    .bind(lease.job)
    .bind(lease.fence)
    .bind(after.unwrap_or_default().min(CLOSED).as_secs_f64())
    .bind(SAME)
    .bind(STEP);
    statement("throttle_job_pool", query.execute(tx)).await?;
    Ok(())
}

/// Why a job that is ready is not given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockReason {
    /// An operator paused its queue.
    Paused,
    /// Its account has as many running as it may.
    Account,
    /// Its pool asked for a pause, or has as many running as it is thought to take.
    Pool,
}

/// What is held back of a kind at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueStatus {
    /// Everything is paused.
    pub all_paused: bool,
    /// Queues that are paused by their own name.
    pub paused: Vec<String>,
    /// Queues whose pool takes nothing.
    pub full_queues: Vec<String>,
    /// Accounts that have as many running as they may.
    pub full_accounts: Vec<Uuid>,
}

impl QueueStatus {
    /// Whether nothing is held back.
    #[must_use]
    pub fn is_free(&self) -> bool {
        !self.all_paused && self.paused.is_empty() && self.full_queues.is_empty() && self.full_accounts.is_empty()
    }

    /// Why a ready job of this account and queue is not given out; the reason that the most would have to be done about first.
    #[must_use]
    pub fn block_reason(&self, account: Uuid, queue: &str) -> Option<BlockReason> {
        let named = |queues: &[String]| queues.iter().any(|name| name == queue);
        if self.all_paused || named(&self.paused) {
            Some(BlockReason::Paused)
        } else if self.full_accounts.contains(&account) {
            Some(BlockReason::Account)
        } else if named(&self.full_queues) {
            Some(BlockReason::Pool)
        } else {
            None
        }
    }
}

/// What is held back of a kind now.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn queue_status(tx: &mut PgConnection, kind: &str, limits: Limits) -> Result<QueueStatus, Error> {
    let query = sqlx::query_as::<_, (Vec<String>, Vec<String>, Vec<Uuid>)>(
        "with running as materialized (
             select account_id, queue, count(*)::integer as running
             from jobs where kind = $1 and state in ('leased', 'waiting')
             group by account_id, queue
         ), in_pool as (
             select coalesce(q.pool, r.queue) as pool, sum(r.running) as running
             from running r left join job_queues q on q.kind = $1 and q.queue = r.queue
             group by 1
         ), full_pools as (
             select p.pool from job_pools p left join in_pool using (pool)
             where p.kind = $1 and (
                 p.closed_until > now()
                 or floor(p.ceiling + greatest(extract(epoch from now() - p.lower_time), 0) / $3) <= coalesce(in_pool.running, 0))
         )
         select array(select queue from job_pauses where kind = $1 order by queue),
                array(select queue from job_queues q join full_pools using (pool) where q.kind = $1
                      union
                      select pool from full_pools
                      where not exists (select from job_queues q where q.kind = $1 and q.queue = full_pools.pool)),
                array(select account_id from running r
                      left join (select account_id, running_limit from job_accounts where kind = $1) own using (account_id)
                      group by account_id, own.running_limit
                      having sum(r.running) >= coalesce(own.running_limit, $2)
                      union
                      select account_id from job_accounts where kind = $1 and running_limit = 0)",
    )
    .bind(kind)
    .bind(limits.account)
    .bind(STEP);
    let (mut paused, full_queues, full_accounts) = statement("job_queue_status", query.fetch_one(tx)).await?;
    let all_paused = paused.first().is_some_and(String::is_empty);
    paused.retain(|queue| !queue.is_empty());
    Ok(QueueStatus { all_paused, paused, full_queues, full_accounts })
}
