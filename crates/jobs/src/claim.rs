//! Claims: who gets which job next. Looks that are due before work that is ready, since what they find may free a provider or
//! end a wait; then the fairest first.
//!
//! Invariants: an attempt counts when it is claimed, so that a job that kills its worker runs out of attempts; a poll at a job
//! that waits is leased like work, and is no attempt; and of what is paused, only polls are given out.

use std::time::Duration;

use chassis::postgres::statement;
use metrics::histogram;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::delayed::wake_due;
use crate::limits::{STEP, take_turn};
use crate::{Error, Lease, Leased, Limits};

/// What a worker wants.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// What sort of work.
    pub kind: &'static str,
    /// The parts of the kind that it can serve; `&[""]` for a kind without parts.
    pub queues: &'a [String],
    /// Its name, for people.
    pub worker: &'a str,
    /// How many jobs at most.
    pub limit: u32,
    /// How long the lease lasts unless prolonged.
    pub lease: Duration,
    /// What the claim keeps to; nothing for a kind whose accounts and pools may run any number. All claims of a kind say the
    /// same.
    pub limits: Option<Limits>,
}

/// How long the lease of a poll lasts at most, unless prolonged.
const POLL_LEASE: Duration = Duration::from_secs(15);

/// How many jobs at a queue's front a claim with limits polls at before it goes by accounts. A literal, for the plan.
macro_rules! near {
    () => {
        "200"
    };
}

/// What makes a queued job one to be given out. A job whose lease just ran out is for others first: a worker that stands still
/// keeps its stream, and would be given the same job until that is dead.
macro_rules! ready {
    () => {
        "state = 'queued' and not delayed and run_at <= now() and (deadline_at is null or deadline_at > now())
         and not (expired_in_row > 0 and worker = $3 and run_at > now() - make_interval(secs => $5))"
    };
}

/// Looks that are due. Materialized, as all that locks: a subquery that is run again locks further rows.
macro_rules! polls {
    () => {
        "polls as materialized (
             select due.id, due.run_at
             from unnest($2::text[]) as wanted(queue)
             cross join lateral (
                 select id, run_at from jobs
                 where kind = $1 and jobs.queue = wanted.queue and state = 'waiting' and run_at <= now()
                   and not (expired_in_row > 0 and worker = $3 and run_at > now() - make_interval(secs => $5))
                 order by run_at
                 limit $4
                 for update skip locked
             ) due
         )"
    };
}

/// Leases the first of `polls` and `candidates`.
macro_rules! take {
    () => {
        "picked as materialized (
             select id, poll from (
                 select id, true as poll, 0 as priority, extract(epoch from run_at) as place from polls
                 union all
                 select id, false, priority, vft from candidates
             ) either
             order by poll desc, priority, place limit $4
         )
         update jobs
         set state = 'leased', worker = $3, polling = poll, fence = fence + 1, deadline_at = null,
             lease_until = now() + make_interval(secs => case when poll then least($5, $6) else $5 end),
             claims = claims + (not poll)::int, attempt = attempt + (not poll)::int, polls = polls + poll::int
         from picked
         where jobs.id = picked.id
         returning jobs.id, fence, account_id, queue, payload, attempt, max_attempts, polling,
                   polls - polling::int as polls, lease_until,
                   extract(epoch from now() - run_at)::double precision as waited,
                   cancel_at is not null as cancel_requested, traceparent"
    };
}

/// Of several queues, each gives its first few, and the first of all are taken.
const CLAIM: &str = concat!(
    "with ",
    polls!(),
    ", candidates as materialized (
         select first.id, first.priority, first.vft
         from unnest($2::text[]) as wanted(queue)
         cross join lateral (
             select id, priority, vft from jobs
             where kind = $1 and jobs.queue = wanted.queue and ",
    ready!(),
    "        order by priority, vft
             limit $4
             for update skip locked
         ) first
         where not exists (select from job_pauses p where p.kind = $1 and p.queue in ('', wanted.queue))
     ), ",
    take!()
);

/// As [`CLAIM`], passing over accounts and pools that have as many running as they may. `near` is the front of each queue.
/// Where all of that is of accounts that may not, `backlog` goes by account, one step of `jobs_own` for each that has
/// something ready, so that what a full account has queued costs nothing however much it is; the accounts whose turn is next
/// give their first few. What is locked is found by its id and then looked at once more: `state || ''` since a plan made while
/// the table was small might read an index of all that is queued for it.
macro_rules! claim_within {
    () => {
        concat!(
            "with recursive running as materialized (
         select account_id, queue, count(*)::integer as running
         from jobs where kind = $1 and state in ('leased', 'waiting')
         group by account_id, queue
     ), accounts as materialized (
         select account_id, coalesce(own.running_limit, $7) - coalesce(at_work.running, 0) as room
         from (select account_id, sum(running)::integer as running from running group by account_id) at_work
         full join (select account_id, running_limit from job_accounts
                    where kind = $1 and running_limit is not null) own using (account_id)
     ), open as materialized (
         select * from (
             select wanted.queue, coalesce(q.pool, wanted.queue) as pool,
                    case when p.closed_until > now() then 0
                         else floor(p.ceiling + greatest(extract(epoch from now() - p.lower_time), 0) / $8) - (
                             select coalesce(sum(r.running), 0)
                             from running r left join job_queues o on o.kind = $1 and o.queue = r.queue
                             where coalesce(o.pool, r.queue) = p.pool
                         ) end as room
             from unnest($2::text[]) as wanted(queue)
             left join job_queues q on q.kind = $1 and q.queue = wanted.queue
             left join job_pools p on p.kind = $1 and p.pool = coalesce(q.pool, wanted.queue)
             where not exists (select from job_pauses x where x.kind = $1 and x.queue in ('', wanted.queue))
         ) pools
         where room is null or room > 0
     ), ",
            polls!(),
            ", near as materialized (
         select first.*
         from open
         cross join lateral (
             select id, account_id, open.queue as part, open.pool, open.room as pool_room, priority, vft from jobs
             where kind = $1 and jobs.queue = open.queue and ",
            ready!(),
            "        order by priority, vft
             limit ",
            near!(),
            "
         ) first
         left join accounts using (account_id)
         where coalesce(accounts.room, $7) > 0
     ), backlog (part, pool, pool_room, account_id, priority, vft) as (
         select open.queue, open.pool, open.room, first.account_id, first.priority, first.vft
         from open
         cross join lateral (
             select account_id, priority, vft from jobs
             where kind = $1 and jobs.queue = open.queue and ",
            ready!(),
            "        order by account_id, priority, vft
             limit 1
         ) first
         where not exists (select from near where near.part = open.queue)
         union all
         select backlog.part, backlog.pool, backlog.pool_room, next.account_id, next.priority, next.vft
         from backlog
         cross join lateral (
             select account_id, priority, vft from jobs
             where kind = $1 and jobs.queue = backlog.part and jobs.account_id > backlog.account_id and ",
            ready!(),
            "        order by account_id, priority, vft
             limit 1
         ) next
     ), far as materialized (
         select first.*
         from (
             select backlog.* from backlog left join accounts using (account_id)
             where coalesce(accounts.room, $7) > 0
             order by backlog.priority, backlog.vft limit $4
         ) turn
         cross join lateral (
             select id, account_id, turn.part, turn.pool, turn.pool_room, priority, vft from jobs
             where kind = $1 and jobs.queue = turn.part and jobs.account_id = turn.account_id and ",
            ready!(),
            "        order by priority, vft
             limit $4
         ) first
     ), fit as (
         select id, pool_room, priority, vft,
                row_number() over (partition by pool order by priority, vft, id) as in_pool
         from (
             select either.*, row_number() over (partition by account_id order by priority, vft, id) as in_account
             from (select * from near union all select * from far) either
         ) numbered
         left join accounts using (account_id)
         where in_account <= coalesce(accounts.room, $7)
     ), candidates as materialized (
         select id, priority, vft from jobs
         where state || '' = 'queued' and id = any (array(
             select id from fit where pool_room is null or in_pool <= pool_room order by priority, vft limit $4
         ))
         for update skip locked
     ), ",
            take!()
        )
    };
}

const CLAIM_WITHIN: &str = claim_within!();

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

/// Leases up to `limit` jobs. Without limits claimers never wait for one another; with them, each waits for the commit of the
/// one before.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn claim(tx: &mut PgConnection, wanted: Wanted<'_>) -> Result<Vec<Leased>, Error> {
    match wanted.limits {
        Some(_) => take_turn(tx, wanted.kind).await?,
        None => wake_due(tx, wanted.kind).await?,
    }
    let query = sqlx::query_as::<_, Row>(if wanted.limits.is_some() { CLAIM_WITHIN } else { CLAIM })
        .bind(wanted.kind)
        .bind(wanted.queues)
        .bind(wanted.worker)
        .bind(i64::from(wanted.limit))
        .bind(wanted.lease.as_secs_f64())
        .bind(POLL_LEASE.as_secs_f64());
    let query = match wanted.limits {
        Some(limits) => query.bind(limits.account).bind(STEP),
        None => query,
    };
    let rows = statement("claim_jobs", query.fetch_all(tx)).await?;
    Ok(rows.into_iter().map(|row| leased(wanted.kind, row)).collect())
}

/// How PostgreSQL goes about a claim with limits, line by line, by the plan that claims have in common. It is made all the
/// same: roll back.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn explain_claim(tx: &mut PgConnection, wanted: Wanted<'_>) -> Result<Vec<String>, Error> {
    take_turn(tx, wanted.kind).await?;
    let explain = sqlx::query_scalar::<_, String>(
        "select format('explain (analyze, costs off, timing off, summary off)
                        execute explained (%L, %L, %L, %L, %L, %L, %L, %L)',
                       $1::text, $2::text[], $3::text, $4::bigint, $5::float8, $6::float8, $7::integer, $8::float8)",
    )
    .bind(wanted.kind)
    .bind(wanted.queues)
    .bind(wanted.worker)
    .bind(i64::from(wanted.limit))
    .bind(wanted.lease.as_secs_f64())
    .bind(POLL_LEASE.as_secs_f64())
    .bind(wanted.limits.map_or(i32::MAX, |limits| limits.account))
    .bind(STEP);
    let explain = statement("phrase_explain_claim", explain.fetch_one(&mut *tx)).await?;
    let plan = statement("explain_claim", async {
        sqlx::raw_sql(concat!("prepare explained as ", claim_within!())).execute(&mut *tx).await?;
        let rows = sqlx::raw_sql(AssertSqlSafe(explain)).fetch_all(&mut *tx).await?;
        sqlx::raw_sql("deallocate explained").execute(&mut *tx).await?;
        rows.iter().map(|row| row.try_get(0)).collect()
    });
    Ok(plan.await?)
}

fn leased(kind: &'static str, row: Row) -> Leased {
    let what = if row.polling { "poll" } else { "attempt" };
    histogram!("rushes_job_wait_seconds", "kind" => kind, "for" => what).record(row.waited);
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
