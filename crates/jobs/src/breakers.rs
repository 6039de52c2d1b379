//! Breakers: a pool or a queue whose attempts fail for a reason that is its own gets none but a probe at a time, whatever is
//! queued, until an attempt succeeds. All workers share one, in the database.
//!
//! Invariants: a pool, a key and a queue of the same name have breakers of their own; an open breaker has at most one probe under way, and a probe that never ends holds it for [`PROBE_LEASE_SECONDS`] only.
//! Only a probe's own failure prolongs it: what was under way when it opened says nothing new.

use std::time::Duration;

use chassis::postgres::statement;
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::servers::SERVED_SECONDS;
use crate::{Error, Lease};

/// So many attempts that fail one after another open a breaker, where a single one says little.
pub const MAX_FAILURES_IN_ROW: i32 = 4;
/// The pause before the first probe. It doubles with each probe that fails.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause between two probes.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// A probe that has not ended after so many seconds is taken for lost, and another is given out.
pub(crate) const PROBE_LEASE_SECONDS: f64 = 60.0;
/// How much more than runs may run once a breaker has closed; from there it grows as after a refusal.
const ROOM_AFTER: f64 = 2.0;

/// The condition on a breaker `b` that it is of this queue or of this pool.
macro_rules! concerns {
    ($queue:literal, $pool:literal) => {
        concat!("(b.scope, b.target) in (('queue', ", $queue, "), ('pool', ", $pool, "))")
    };
}
pub(crate) use concerns;

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All queues of the job's pool.
    Pool,
    /// One of the keys with which the pool is worked; the others go on.
    Key,
    /// The job's queue alone.
    Queue,
}

impl Scope {
    /// The scope as the column `scope` has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pool => "pool",
            Self::Key => "key",
            Self::Queue => "queue",
        }
    }
}

impl TryFrom<String> for Scope {
    type Error = UnknownScope;

    fn try_from(name: String) -> Result<Self, UnknownScope> {
        [Self::Pool, Self::Key, Self::Queue].into_iter().find(|scope| scope.as_str() == name).ok_or(UnknownScope(name))
    }
}

/// A word in the column `scope` that names no scope.
#[derive(Debug, thiserror::Error)]
#[error("no scope of a breaker is called {0:?}")]
pub struct UnknownScope(String);

/// What an attempt found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symptom<'a> {
    /// What is broken.
    pub scope: Scope,
    /// The key that the attempt was made with; empty: none has a name.
    pub key: &'a str,
    /// Why, in upper snake case.
    pub cause: &'a str,
    /// The other side's own words.
    pub detail: &'a str,
    /// One attempt is proof enough.
    pub certain: bool,
}

/// An open breaker.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Breaker {
    /// What `target` is.
    #[sqlx(try_from = "String")]
    pub scope: Scope,
    /// The pool, the key or the queue.
    pub target: String,
    /// Why, in upper snake case.
    pub cause: String,
    /// The other side's own words.
    pub detail: String,
    /// Since when.
    pub open_time: OffsetDateTime,
}

/// What is known of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Facts {
    failures: i32,
    open: bool,
    /// The attempt that failed is its probe.
    probing: bool,
}

/// What a failed attempt does to a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// It was under way when the breaker opened.
    Nothing,
    /// The failure is counted; nothing is held back yet.
    Count,
    /// It opens, or stays open, and the next probe is due after this long.
    Open(Duration),
}

fn failed(facts: Facts, certain: bool) -> Change {
    let failures = facts.failures.saturating_add(1);
    match (facts.open, facts.probing) {
        (true, false) => Change::Nothing,
        (true, true) => Change::Open(pause(failures)),
        (false, _) if certain || failures >= MAX_FAILURES_IN_ROW => Change::Open(FIRST_PAUSE),
        (false, _) => Change::Count,
    }
}

/// The pause after so many failures, of which the last were probes.
fn pause(failures: i32) -> Duration {
    let doublings = u32::try_from(failures - 1).unwrap_or_default().min(16);
    FIRST_PAUSE.saturating_mul(2_u32.pow(doublings)).min(MAX_PAUSE)
}

/// Counts a failed attempt, and opens its breaker where that is enough. Returns the breaker if this opened it. To be called under
/// the job's lease.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn trip(tx: &mut PgConnection, lease: Lease, symptom: Symptom<'_>) -> Result<Option<Breaker>, Error> {
    let query = sqlx::query_scalar::<_, String>(
        "insert into job_breakers (kind, scope, target, cause)
         select j.kind, $3,
                case $3 when 'pool' then coalesce(q.pool, j.queue) when 'key' then $5 else j.queue end, $4
         from jobs j left join job_queues q on q.kind = j.kind and q.queue = j.queue
         where j.id = $1 and j.fence = $2
         -- Not `do nothing`, which returns no row.
         on conflict (kind, scope, target) do update set update_time = now()
         returning target",
    )
    .bind(lease.job)
    .bind(lease.fence)
    .bind(symptom.scope.as_str())
    .bind(symptom.cause)
    .bind(symptom.key);
    let target = statement("touch_breaker", query.fetch_optional(&mut *tx)).await?.ok_or(Error::StaleFence)?;
    let query = sqlx::query_as::<_, (i32, bool, bool)>(
        "select failures, open_time is not null, probe_job is not distinct from $1 from job_breakers b
         where b.scope = $3 and b.target = $2 and b.kind = (select kind from jobs where id = $1)",
    )
    .bind(lease.job)
    .bind(&target)
    .bind(symptom.scope.as_str());
    let (failures, open, probing) = statement("read_breaker", query.fetch_one(&mut *tx)).await?;
    let (opens, pause) = match failed(Facts { failures, open, probing }, symptom.certain) {
        Change::Nothing => return Ok(None),
        Change::Count => (false, Duration::ZERO),
        Change::Open(pause) => (true, pause),
    };
    let query = sqlx::query_as::<_, Breaker>(
        "update job_breakers b
         set failures = failures + 1, cause = $3, detail = $4, probe_job = null, update_time = now(),
             open_time = case when $5 then coalesce(open_time, now()) end,
             probe_time = now() + make_interval(secs => $6)
         where b.scope = $7 and b.target = $2 and b.kind = (select kind from jobs where id = $1)
         returning scope, target, cause, detail, coalesce(open_time, now()) as open_time",
    )
    .bind(lease.job)
    .bind(&target)
    .bind(symptom.cause)
    .bind(symptom.detail)
    .bind(opens)
    .bind(pause.as_secs_f64())
    .bind(symptom.scope.as_str());
    let breaker = statement("trip_breaker", query.fetch_one(&mut *tx)).await?;
    Ok(Some(breaker).filter(|_| opens && !open))
}

/// An attempt found out nothing about a breaker of one of these scopes that it may have been the probe of: the next probe is due at
/// once. To be called under the job's lease.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn pass_probe(tx: &mut PgConnection, lease: Lease, scopes: &[Scope]) -> Result<(), Error> {
    let query = sqlx::query(
        "update job_breakers b set probe_job = null, probe_time = now(), update_time = now()
         from jobs j
         where j.id = $1 and j.fence = $2 and b.kind = j.kind and b.probe_job = j.id and b.scope = any ($3)",
    )
    .bind(lease.job)
    .bind(lease.fence)
    .bind(scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>());
    statement("pass_probe", query.execute(tx)).await?;
    Ok(())
}

/// An attempt succeeded: the breakers of its queue and of its pool close; its key's is [`recover_key`](crate::recover_key)'s. Returns those that were open. To be called under the
/// job's lease.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn recover(tx: &mut PgConnection, lease: Lease) -> Result<Vec<Breaker>, Error> {
    let query = sqlx::query_as::<_, Breaker>(concat!(
        "with closed as (
             delete from job_breakers b
             using jobs j left join job_queues q on q.kind = j.kind and q.queue = j.queue
             where j.id = $1 and j.fence = $2 and b.kind = j.kind and ",
        concerns!("j.queue", "coalesce(q.pool, j.queue)"),
        "    returning b.scope, b.target, b.cause, b.detail, b.open_time
         )
         select * from closed where open_time is not null"
    ))
    .bind(lease.job)
    .bind(lease.fence);
    let closed = statement("close_breakers", query.fetch_all(&mut *tx)).await?;
    if !closed.is_empty() {
        // What waited does not come at once: the other side has just come back.
        let query = sqlx::query(
            "insert into job_pools as p (kind, pool, ceiling)
             select j.kind, coalesce(q.pool, j.queue), $2 + (
                 select count(*) from jobs r left join job_queues o on o.kind = r.kind and o.queue = r.queue
                 where r.kind = j.kind and r.state in ('leased', 'waiting')
                   and coalesce(o.pool, r.queue) = coalesce(q.pool, j.queue)
             )
             from jobs j left join job_queues q on q.kind = j.kind and q.queue = j.queue
             where j.id = $1
             on conflict (kind, pool) do update set ceiling = excluded.ceiling, lower_time = now()",
        )
        .bind(lease.job)
        .bind(ROOM_AFTER);
        statement("reopen_pool", query.execute(&mut *tx)).await?;
    }
    Ok(closed)
}

/// The open breakers of a kind, the oldest first; of keys only those that some worker has.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn open_breakers(tx: &mut PgConnection, kind: &str) -> Result<Vec<Breaker>, Error> {
    let query = sqlx::query_as(
        "select scope, target, cause, detail, open_time from job_breakers b
         where kind = $1 and open_time is not null
           and (scope <> 'key' or exists (
               select from job_keys k
               where k.kind = b.kind and k.key = b.target and k.seen_time > now() - make_interval(secs => $2)))
         order by open_time, scope, target",
    )
    .bind(kind)
    .bind(SERVED_SECONDS);
    Ok(statement("open_breakers", query.fetch_all(tx)).await?)
}

/// Closes the breakers of these pools or queues, whose cause is known to be gone. Returns those that were open.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn reset_breakers(
    tx: &mut PgConnection,
    kind: &str,
    scope: Scope,
    targets: &[String],
) -> Result<Vec<Breaker>, Error> {
    let query = sqlx::query_as(
        "with closed as (
             delete from job_breakers where kind = $1 and scope = $2 and target = any ($3)
             returning scope, target, cause, detail, open_time
         )
         select * from closed where open_time is not null",
    )
    .bind(kind)
    .bind(scope.as_str())
    .bind(targets);
    Ok(statement("reset_breakers", query.fetch_all(tx)).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_proof_or_several_signs_in_a_row_open_a_breaker() {
        let closed = |failures| Facts { failures, open: false, probing: false };
        assert_eq!(failed(closed(0), true), Change::Open(FIRST_PAUSE));
        for failures in 0..MAX_FAILURES_IN_ROW - 1 {
            assert_eq!(failed(closed(failures), false), Change::Count, "{failures}");
        }
        assert_eq!(failed(closed(MAX_FAILURES_IN_ROW - 1), false), Change::Open(FIRST_PAUSE));
    }

    #[test]
    fn only_its_own_probe_prolongs_an_open_breaker() {
        for certain in [false, true] {
            let late = Facts { failures: 4, open: true, probing: false };
            assert_eq!(failed(late, certain), Change::Nothing);
            let Change::Open(pause) = failed(Facts { probing: true, ..late }, certain) else { panic!("it stays open") };
            assert!(pause > FIRST_PAUSE);
        }
    }

    #[test]
    fn pauses_double_up_to_a_minute() {
        let seconds = [1, 2, 3, 4, 5, 6, 7, 40, i32::MAX].map(|failures| pause(failures).as_secs());
        assert_eq!(seconds, [2, 4, 8, 16, 32, 60, 60, 60, 60]);
    }
}
