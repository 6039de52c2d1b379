//! Limits: how many jobs may run at once, of an account and in a pool. A pool is whoever does a queue's work, such as a
//! provider.
//!
//! Invariant: while all claims of a kind pass limits, no account and no pool has more running than it may, however many
//! processes claim: these claims are made one after another, under one lock, and each counts what runs.

use std::time::Duration;

use chassis::postgres::statement;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::breakers::open_breakers;
use crate::delay::{due, promote};
use crate::servers::SERVED_SECONDS;
use crate::{Breaker, Error, Lease};

/// The limits that all claims of a kind keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many jobs of an account may run at once, unless [`set_running_limit`] says otherwise for that account.
    pub account: i32,
}

/// After a refusal, a pool's ceiling grows by one each time so many seconds have passed. Soon, since another refusal costs
/// nothing but time, and some providers refuse at random.
pub(crate) const POOL_GROWTH_SECONDS: f64 = 0.5;

/// Refusals within so many seconds of the one that lowered the ceiling lower it no further: they answer calls that were made
/// before it.
const SAME_REFUSAL_SECONDS: f64 = 5.0;

/// The longest time for which one refusal closes a pool, whatever the pool asks for.
const MAX_POOL_CLOSED: Duration = Duration::from_secs(120);

/// Makes claims with limits of one kind wait for each other until the transaction ends, and promotes what has come due.
pub(crate) async fn serialize_claims(tx: &mut PgConnection, kind: &str) -> Result<(), Error> {
    // A statement of its own and no part of the claim: the claim must count what runs in a snapshot that is taken under the
    // lock. The plan of the claim is then the generic one, made once for each connection: planning takes longer than
    // execution, and PostgreSQL, which does not know that `limit $4` is a few rows, would think each new plan worth its time.
    let query = sqlx::query(concat!(
        due!(),
        ", promoted as (",
        promote!(),
        ") select set_config('plan_cache_mode', 'force_generic_plan', true),
                  pg_advisory_xact_lock(hashtextextended('claims of ' || $1, 0))"
    ))
    .bind(kind);
    statement("serialize_claims", query.execute(tx)).await?;
    Ok(())
}

/// Sets how many jobs of an account may run at once; `None`: as many as of any other.
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

/// Assigns the queue of a leased job to a pool. A queue that is assigned to none is a pool by itself.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn assign_pool(tx: &mut PgConnection, lease: Lease, pool: &str) -> Result<(), Error> {
    // Read first: nearly always the row says so already, and a row written anew for every order would be waited for.
    let query = sqlx::query(
        "insert into job_queues (kind, queue, pool)
         select j.kind, j.queue, $2 from jobs j
         where j.id = $1
           and not exists (select from job_queues q where q.kind = j.kind and q.queue = j.queue and q.pool = $2)
         on conflict (kind, queue) do update set pool = excluded.pool",
    )
    .bind(lease.job)
    .bind(pool);
    statement("assign_job_pool", query.execute(tx)).await?;
    Ok(())
}

/// Lowers the ceiling of a job's pool, which refused the job because it has enough to do, to half of what runs there, and
/// closes the pool until `after` has passed. To be called under the job's lease, while the job still counts as running.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn throttle_pool(tx: &mut PgConnection, lease: Lease, after: Option<Duration>) -> Result<(), Error> {
    let query = sqlx::query(
        "with refused as (
             select j.kind, coalesce(q.pool, j.queue) as pool
             from jobs j left join job_queues q on q.kind = j.kind and q.queue = j.queue
             where j.id = $1 and j.fence = $2
         ), half as (
             -- At least one: a pool whose ceiling is nothing would never be asked again.
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
                     -- The same refusal, told again by a call that was under way.
                     when p.lower_time > now() - make_interval(secs => $4) then p.ceiling
                     -- Half of what runs, or half of what the ceiling has grown to where that is less: a refusal never
                     -- raises a ceiling, however many calls slipped through beside it.
                     else least(excluded.ceiling,
                                greatest(1, floor((p.ceiling + greatest(extract(epoch from now() - p.lower_time), 0) / $5) / 2)))
                 end,
                 lower_time = case when p.lower_time > now() - make_interval(secs => $4) then p.lower_time else now() end,
                 closed_until = greatest(p.closed_until, excluded.closed_until)",
    )
    .bind(lease.job)
    .bind(lease.fence)
    .bind(after.unwrap_or_default().min(MAX_POOL_CLOSED).as_secs_f64())
    .bind(SAME_REFUSAL_SECONDS)
    .bind(POOL_GROWTH_SECONDS);
    statement("throttle_job_pool", query.execute(tx)).await?;
    Ok(())
}

/// Why a claimable job is not claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockReason {
    /// An operator paused its queue.
    Paused,
    /// Its account has as many running as it may.
    Account,
    /// Its pool asked for a pause, or has as many running as it is thought to take.
    Pool,
    /// The breaker of its queue or of its pool is open.
    Unavailable,
}

/// What is blocked of a kind at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueStatus {
    /// The whole kind is paused.
    pub all_paused: bool,
    /// Queues that are paused by their own name.
    pub paused: Vec<String>,
    /// Queues whose pool takes nothing.
    pub full_queues: Vec<String>,
    /// Accounts that have as many running as they may.
    pub full_accounts: Vec<Uuid>,
    /// Open breakers, the oldest first.
    pub breakers: Vec<Breaker>,
    /// Queues whose breaker, or whose pool's, is open.
    pub unavailable_queues: Vec<String>,
    /// Queues that some worker was seen to serve within the last minute.
    pub served_queues: Vec<String>,
    /// Keys whose breaker is open and whose next probe is not due.
    pub resting_keys: Vec<String>,
}

impl QueueStatus {
    /// Whether nothing is blocked.
    #[must_use]
    pub fn is_free(&self) -> bool {
        !self.all_paused
            && self.paused.is_empty()
            && self.full_queues.is_empty()
            && self.full_accounts.is_empty()
            && self.unavailable_queues.is_empty()
    }

    /// Why a claimable job of this account and queue is not claimed. Of several reasons the first to be removed: while a queue
    /// is paused, room in an account or a pool changes nothing.
    #[must_use]
    pub fn block_reason(&self, account: Uuid, queue: &str) -> Option<BlockReason> {
        let contains = |queues: &[String]| queues.iter().any(|name| name == queue);
        if self.all_paused || contains(&self.paused) {
            Some(BlockReason::Paused)
        } else if contains(&self.unavailable_queues) {
            Some(BlockReason::Unavailable)
        } else if self.full_accounts.contains(&account) {
            Some(BlockReason::Account)
        } else if contains(&self.full_queues) {
            Some(BlockReason::Pool)
        } else {
            None
        }
    }
}

/// Reads what is blocked of a kind now.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn queue_status(tx: &mut PgConnection, kind: &str, limits: Limits) -> Result<QueueStatus, Error> {
    let query = sqlx::query_as::<_, (Vec<String>, Vec<String>, Vec<Uuid>, Vec<String>, Vec<String>, Vec<String>, bool)>(
        "with running as materialized (
             select account_id, queue, count(*)::integer as running
             from jobs where kind = $1 and state in ('leased', 'waiting')
             group by account_id, queue
         ), in_pool as (
             select coalesce(q.pool, r.queue) as pool, sum(r.running) as running
             from running r left join job_queues q on q.kind = $1 and q.queue = r.queue
             group by 1
         ), full_pools as (
             -- As the claim has it: closed, or at a ceiling that has grown since it was lowered.
             select p.pool from job_pools p left join in_pool using (pool)
             where p.kind = $1 and (
                 p.closed_until > now()
                 or floor(p.ceiling + greatest(extract(epoch from now() - p.lower_time), 0) / $3) <= coalesce(in_pool.running, 0))
         )
         select array(select queue from job_pauses where kind = $1 order by queue),
                -- The queues that are assigned to a full pool, and full pools that are a queue by themselves.
                array(select queue from job_queues q join full_pools using (pool) where q.kind = $1
                      union
                      select pool from full_pools
                      where not exists (select from job_queues q where q.kind = $1 and q.queue = full_pools.pool)),
                array(select account_id from running r
                      left join (select account_id, running_limit from job_accounts where kind = $1) own using (account_id)
                      group by account_id, own.running_limit
                      having sum(r.running) >= coalesce(own.running_limit, $2)
                      union
                      -- An account that may run nothing is full without running anything.
                      select account_id from job_accounts where kind = $1 and running_limit = 0),
                -- A pool that no queue is assigned to is a queue by itself.
                array(select coalesce(q.queue, b.target) from job_breakers b
                      left join job_queues q on b.scope = 'pool' and q.kind = $1 and q.pool = b.target
                      where b.kind = $1 and b.open_time is not null and b.scope <> 'key'),
                array(select queue from job_servers
                      where kind = $1 and seen_time > now() - make_interval(secs => $4) order by queue),
                array(select target from job_breakers
                      where kind = $1 and scope = 'key' and open_time is not null and probe_time > now()),
                exists (select from job_breakers where kind = $1 and open_time is not null)",
    )
    .bind(kind)
    .bind(limits.account)
    .bind(POOL_GROWTH_SECONDS)
    .bind(SERVED_SECONDS);
    let (mut paused, full_queues, full_accounts, unavailable_queues, served_queues, resting_keys, any_open) =
        statement("job_queue_status", query.fetch_one(&mut *tx)).await?;
    // Nearly always none, and then that is all.
    let breakers = if any_open { open_breakers(tx, kind).await? } else { Vec::new() };
    // The empty name, which is of all queues, comes first in order.
    let all_paused = paused.first().is_some_and(String::is_empty);
    paused.retain(|queue| !queue.is_empty());
    Ok(QueueStatus {
        all_paused,
        paused,
        full_queues,
        full_accounts,
        breakers,
        unavailable_queues,
        served_queues,
        resting_keys,
    })
}
