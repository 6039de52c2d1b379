//! Claims: which jobs a worker gets next. Polls that are due come before attempts, since what a poll finds may free a pool or
//! end a wait; among attempts, priority decides, then the fair order.
//!
//! Invariants: an attempt counts when it is claimed, so that a job that kills its worker runs out of attempts; a poll of a
//! waiting job is leased like an attempt, and is none; a pause keeps back attempts, never polls.

use std::time::Duration;

use chassis::postgres::statement;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::breakers::{PROBE_LEASE_SECONDS, concerns};
use crate::delay::promote_due;
use crate::limits::{POOL_GROWTH_SECONDS, serialize_claims};
use crate::{Error, Lease, Leased, Limits, metrics};

/// What a worker asks for.
#[derive(Clone, Copy, Debug)]
pub struct ClaimRequest<'a> {
    /// The kind of work.
    pub kind: &'static str,
    /// The queues of the kind that the worker can serve; `&[""]` for a kind without queues.
    pub queues: &'a [String],
    /// The worker's name: for people, and to give a lost lease to another worker first.
    pub worker: &'a str,
    /// How many jobs at most.
    pub limit: u32,
    /// How long the lease lasts unless a heartbeat prolongs it.
    pub lease: Duration,
    /// How much may run at once; `None` for a kind that has no limits. All claims of a kind pass the same.
    pub limits: Option<Limits>,
}

/// How long the lease of a poll lasts at most, unless prolonged. A poll is one short call, so that a worker lost during a poll
/// is noticed sooner than one lost during an attempt.
const POLL_LEASE: Duration = Duration::from_secs(15);

/// How many jobs at the front of each queue a claim with limits reads before it goes account by account. A literal and no
/// parameter: the generic plan would take a parameter for a tenth of the table.
macro_rules! front_rows {
    () => {
        "200"
    };
}

/// The condition on a queued job that may be claimed. For one lease's length after a lease was lost, other workers go first: a
/// worker that is stopped keeps its claim session open, and would lose the same job until that is dead.
macro_rules! claimable {
    () => {
        "state = 'queued' and not delayed and run_at <= now() and (deadline_at is null or deadline_at > now())
         and not (expired_in_row > 0 and worker = $3 and run_at > now() - make_interval(secs => $5))"
    };
}

/// Polls that are due, oldest first. Materialized, as is every part that locks rows: a subquery that the plan runs again would
/// lock, and skip, further rows.
macro_rules! due_polls {
    () => {
        "due_polls as materialized (
             select due.id, due.run_at
             from unnest($2::text[]) as requested(queue)
             -- Lateral, for each queue by itself: the index on (kind, queue, run_at) then gives the first few in order.
             cross join lateral (
                 select id, run_at from jobs
                 where kind = $1 and jobs.queue = requested.queue and state = 'waiting' and run_at <= now()
                   and not (expired_in_row > 0 and worker = $3 and run_at > now() - make_interval(secs => $5))
                 order by run_at
                 limit $4
                 -- Skipped where another claim has them: claims of one kind do not wait for each other here.
                 for update skip locked
             ) due
         )"
    };
}

/// Leases the first of `due_polls` and `candidates`, whose rows are locked; `also` is what else follows from the choice.
macro_rules! lease_first {
    ($also:literal) => {
        concat!(
            "picked as materialized (
             select id, poll from (
                 select id, true as poll, 0 as priority, extract(epoch from run_at) as place from due_polls
                 union all
                 select id, false, priority, vft from candidates
             ) either
             order by poll desc, priority, place limit $4
         )",
            $also,
            "
         update jobs
         -- The fence rises with each lease: a write of the holder before names the old one and finds no row. The start
         -- deadline is met by being claimed, and matters no more.
         set state = 'leased', worker = $3, polling = poll, elsewhere = false, fence = fence + 1, deadline_at = null,
             lease_until = now() + make_interval(secs => case when poll then least($5, $6) else $5 end),
             -- Counted now and not at the end, which a job that kills its worker never reaches.
             claims = claims + (not poll)::int, attempt = attempt + (not poll)::int, polls = polls + poll::int
         from picked
         where jobs.id = picked.id
         returning jobs.id, fence, account_id, queue, payload, attempt, max_attempts, polling,
                   polls - polling::int as polls, lease_until,
                   extract(epoch from now() - run_at)::double precision as waited,
                   cancel_at is not null as cancel_requested, traceparent"
        )
    };
}

/// The claim without limits: each queue offers its first few, and the first of all are leased.
const CLAIM: &str = concat!(
    "with ",
    due_polls!(),
    ", candidates as materialized (
         select first.id, first.priority, first.vft
         from unnest($2::text[]) as requested(queue)
         cross join lateral (
             select id, priority, vft from jobs
             where kind = $1 and jobs.queue = requested.queue and ",
    claimable!(),
    "        order by priority, vft
             limit $4
             for update skip locked
         ) first
         -- A pause of '' is of all queues.
         where not exists (select from job_pauses p where p.kind = $1 and p.queue in ('', requested.queue))
     ), ",
    lease_first!("")
);

/// The claim with limits: as [`CLAIM`], but it passes over accounts and pools that have as many jobs running as they may.
///
/// It reads each queue's `front` first. Only where nothing in a queue's front may run, all of it being of accounts that are
/// full, does it go account by account (`account_heads`): one step of the index `jobs_own` for each account with something
/// claimable, so that what a full account has queued costs nothing, however much it is.
macro_rules! claim_within_limits {
    () => {
        concat!(
            "with recursive running as materialized (
         -- Waiting jobs count: their provider is still at work.
         select account_id, queue, count(*)::integer as running
         from jobs where kind = $1 and state in ('leased', 'waiting')
         group by account_id, queue
     ), account_room as materialized (
         -- Accounts that run something, or have a limit of their own. Every other account has the usual room, $7.
         select account_id, coalesce(own.running_limit, $7) - coalesce(total.running, 0) as room
         from (select account_id, sum(running)::integer as running from running group by account_id) total
         full join (select account_id, running_limit from job_accounts
                    where kind = $1 and running_limit is not null) own using (account_id)
     ), open_queues as materialized (
         -- Queues that are not paused and whose pool can take more; `room` is null where the pool never refused anything.
         select * from (
             select requested.queue, coalesce(q.pool, requested.queue) as pool,
                    -- Of an open breaker one is given out as a probe, however many run.
                    case when b.open then 1
                         when p.closed_until > now() then 0
                         -- The ceiling has grown by one every $8 seconds since it was lowered.
                         else floor(p.ceiling + greatest(extract(epoch from now() - p.lower_time), 0) / $8) - (
                             select coalesce(sum(r.running), 0)
                             from running r left join job_queues o on o.kind = $1 and o.queue = r.queue
                             where coalesce(o.pool, r.queue) = p.pool
                         ) end as room
             from unnest($2::text[]) as requested(queue)
             left join job_queues q on q.kind = $1 and q.queue = requested.queue
             left join job_pools p on p.kind = $1 and p.pool = coalesce(q.pool, requested.queue)
             cross join lateral (
                 select count(*) > 0 as open, max(b.probe_time) as probe_time from job_breakers b
                 where b.kind = $1 and b.open_time is not null and ",
            concerns!("requested.queue", "coalesce(q.pool, requested.queue)"),
            "
             ) b
             where not exists (select from job_pauses x where x.kind = $1 and x.queue in ('', requested.queue))
               and (not b.open or b.probe_time <= now())
         ) pools
         where room is null or room > 0
     ), ",
            due_polls!(),
            ", front as materialized (
         -- Reads without locks: what is passed over must stay free for others, and is locked below once it is chosen.
         select first.*
         from open_queues
         cross join lateral (
             select id, account_id, open_queues.queue, open_queues.pool, open_queues.room as pool_room, priority, vft
             from jobs
             where kind = $1 and jobs.queue = open_queues.queue and ",
            claimable!(),
            "        order by priority, vft
             limit ",
            front_rows!(),
            "
         ) first
         left join account_room using (account_id)
         where coalesce(account_room.room, $7) > 0
     ), account_heads (queue, pool, pool_room, account_id, priority, vft) as (
         -- A loose index scan: the first claimable job of the lowest account, then of the next account, and so on.
         select open_queues.queue, open_queues.pool, open_queues.room, head.account_id, head.priority, head.vft
         from open_queues
         cross join lateral (
             select account_id, priority, vft from jobs
             where kind = $1 and jobs.queue = open_queues.queue and ",
            claimable!(),
            "        order by account_id, priority, vft
             limit 1
         ) head
         where not exists (select from front where front.queue = open_queues.queue)
         union all
         select account_heads.queue, account_heads.pool, account_heads.pool_room, next.account_id, next.priority, next.vft
         from account_heads
         cross join lateral (
             select account_id, priority, vft from jobs
             where kind = $1 and jobs.queue = account_heads.queue and jobs.account_id > account_heads.account_id and ",
            claimable!(),
            "        order by account_id, priority, vft
             limit 1
         ) next
     ), behind_front as materialized (
         -- The accounts that may run more and whose turn is next offer their first few.
         select first.*
         from (
             select account_heads.* from account_heads left join account_room using (account_id)
             where coalesce(account_room.room, $7) > 0
             order by account_heads.priority, account_heads.vft limit $4
         ) next
         cross join lateral (
             select id, account_id, next.queue, next.pool, next.pool_room, priority, vft from jobs
             where kind = $1 and jobs.queue = next.queue and jobs.account_id = next.account_id and ",
            claimable!(),
            "        order by priority, vft
             limit $4
         ) first
     ), within_limits as (
         -- Of each account only as many as it has room for, and of those, numbered by pool, as many as the pool has.
         select id, pool_room, priority, vft,
                row_number() over (partition by pool order by priority, vft, id) as in_pool
         from (
             select either.*, row_number() over (partition by account_id order by priority, vft, id) as in_account
             from (select * from front union all select * from behind_front) either
         ) numbered
         left join account_room using (account_id)
         where in_account <= coalesce(account_room.room, $7)
     ), candidates as materialized (
         -- Locked by id, and read once more: since the reads above a job may have been cancelled. `state || ''` keeps this from
         -- the index of all that is queued, which a plan made while the table was small would read from end to end.
         select id, priority, vft from jobs
         where state || '' = 'queued' and id = any (array(
             select id from within_limits where pool_room is null or in_pool <= pool_room order by priority, vft limit $4
         ))
         for update skip locked
     ), ",
            lease_first!(
                ", probed as (
                     -- What is given out of an open breaker is its probe: until it ends, or is lost, there is no other.
                     update job_breakers b set probe_time = now() + make_interval(secs => $9), probe_job = picked.id
                     from picked
                     join jobs j on j.id = picked.id
                     left join job_queues q on q.kind = j.kind and q.queue = j.queue
                     where not picked.poll and b.kind = $1 and b.open_time is not null
                       and (b.scope, b.target) in (('queue', j.queue), ('pool', coalesce(q.pool, j.queue)))
                 )"
            )
        )
    };
}

const CLAIM_WITHIN_LIMITS: &str = claim_within_limits!();

#[derive(sqlx::FromRow)]
struct Row {
    id: Uuid,
    fence: i64,
    account_id: Uuid,
    queue: String,
    payload: Vec<u8>,
    attempt: i32,
    max_attempts: i32,
    polling: bool,
    polls: i32,
    lease_until: OffsetDateTime,
    waited: f64,
    cancel_requested: bool,
    traceparent: Option<String>,
}

/// Whether a claim of kind `$kind`, a parameter, may find something: a job that is ready or has come due. What it would pass over counts too.
#[macro_export]
macro_rules! any_due {
    ($kind:literal) => {
        concat!(
            "(exists (select from jobs where kind = ",
            $kind,
            " and state = 'queued' and not delayed)
             or exists (select from jobs where kind = ",
            $kind,
            " and state = 'queued' and delayed and run_at <= now())
             or exists (select from jobs where kind = ",
            $kind,
            " and state = 'waiting' and run_at <= now()))"
        )
    };
}

/// Whether a claim of this kind may find something, in a round trip by itself; a claim that finds nothing takes four. For who comes because
/// time has passed, and not because somebody notified.
///
/// # Errors
/// What PostgreSQL answered.
pub async fn any_due(connection: &mut PgConnection, kind: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(concat!("select ", any_due!("$1"))).bind(kind).fetch_one(connection).await
}

/// Leases up to `limit` jobs. Claims without limits never wait for one another; each claim with limits waits until the one
/// before has committed.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn claim(tx: &mut PgConnection, request: ClaimRequest<'_>) -> Result<Vec<Leased>, Error> {
    match request.limits {
        Some(_) => serialize_claims(tx, request.kind).await?,
        None => promote_due(tx, request.kind).await?,
    }
    let query = sqlx::query_as::<_, Row>(if request.limits.is_some() { CLAIM_WITHIN_LIMITS } else { CLAIM })
        .bind(request.kind)
        .bind(request.queues)
        .bind(request.worker)
        .bind(i64::from(request.limit))
        .bind(request.lease.as_secs_f64())
        .bind(POLL_LEASE.as_secs_f64());
    let query = match request.limits {
        Some(limits) => query.bind(limits.account).bind(POOL_GROWTH_SECONDS).bind(PROBE_LEASE_SECONDS),
        None => query,
    };
    let rows = statement("claim_jobs", query.fetch_all(tx)).await?;
    Ok(rows.into_iter().map(|row| leased(request.kind, row)).collect())
}

/// The plan of a claim with limits, line by line, as PostgreSQL carried it out: the generic plan, which all claims share. The
/// claim is made all the same: roll back.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn explain_claim(tx: &mut PgConnection, request: ClaimRequest<'_>) -> Result<Vec<String>, Error> {
    serialize_claims(tx, request.kind).await?;
    // `explain` takes no parameters for the statement that it executes: PostgreSQL quotes them into a text first.
    let explain = sqlx::query_scalar::<_, String>(
        "select format('explain (analyze, costs off, timing off, summary off)
                        execute explained (%L, %L, %L, %L, %L, %L, %L, %L, %L)',
                       $1::text, $2::text[], $3::text, $4::bigint, $5::float8, $6::float8, $7::integer, $8::float8,
                       $9::float8)",
    )
    .bind(request.kind)
    .bind(request.queues)
    .bind(request.worker)
    .bind(i64::from(request.limit))
    .bind(request.lease.as_secs_f64())
    .bind(POLL_LEASE.as_secs_f64())
    .bind(request.limits.map_or(i32::MAX, |limits| limits.account))
    .bind(POOL_GROWTH_SECONDS)
    .bind(PROBE_LEASE_SECONDS);
    let explain = statement("phrase_explain_claim", explain.fetch_one(&mut *tx)).await?;
    let plan = statement("explain_claim", async {
        sqlx::raw_sql(concat!("prepare explained as ", claim_within_limits!())).execute(&mut *tx).await?;
        let rows = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(&mut *tx).await?;
        sqlx::raw_sql("deallocate explained").execute(&mut *tx).await?;
        rows.iter().map(|row| row.try_get(0)).collect()
    });
    Ok(plan.await?)
}

fn leased(kind: &'static str, row: Row) -> Leased {
    metrics::job_waited(kind, row.polling, row.waited);
    Leased {
        lease: Lease { job: row.id, fence: row.fence },
        account: row.account_id,
        queue: row.queue,
        payload: row.payload,
        attempt: row.attempt,
        max_attempts: row.max_attempts,
        poll: row.polling,
        polls: row.polls,
        lease_until: row.lease_until,
        waited: Duration::try_from_secs_f64(row.waited).unwrap_or_default(),
        cancel_requested: row.cancel_requested,
        traceparent: row.traceparent,
    }
}
