//! Keys: several credentials with which one pool's work is done, each with a breaker and pauses of its own. A key that is refused or
//! throttled is left out while the others go on; the pool's own breaker opens, or its ceiling falls, once no other is left.
//!
//! Invariants: an attempt is given a key in the transaction that leases it; of a key whose breaker is open one attempt at a time gets
//! it, as its probe, while another key can be used.

use std::time::Duration;

use chassis::postgres::statement;
use sqlx::{FromRow, PgConnection};
use uuid::Uuid;

use crate::breakers::PROBE_LEASE_SECONDS;
use crate::servers::SERVED_SECONDS;
use crate::{Breaker, Error, Lease, Scope, Symptom, pass_probe, trip};

/// The shortest and the longest time for which a throttled key is left out, whatever the other side asks for.
const MIN_CLOSED: Duration = Duration::from_secs(1);
const MAX_CLOSED: Duration = Duration::from_secs(120);
/// A key counts as some worker's for so many seconds after one left that had it: workers of another process may have it too, which
/// says so sooner.
const LEFT_SECONDS: f64 = 20.0;
/// A key that no worker has had for so many seconds is forgotten with its breaker.
const FORGOTTEN_SECONDS: f64 = 24.0 * 3_600.0;

/// What is known of a key that a worker has.
#[derive(Clone, Copy, Debug, PartialEq, FromRow)]
struct Facts {
    /// It asked for a pause that has not passed.
    closed: bool,
    /// Its breaker is open.
    open: bool,
    /// Its breaker's next probe is due.
    probe_due: bool,
    /// Seconds since it was given work last; nothing: never.
    idle: Option<f64>,
    /// Seconds until it can be tried again; nothing: now.
    wait: Option<f64>,
}

/// Who gets which key: for each of `attempts`, the place of a key in `keys`. A key whose probe is due gets one attempt; the others
/// go to the keys that are well, in turn, the one that was given work the longest ago first. Where none is well, the one that can be
/// tried the soonest gets all: whether anything is given out at all is for the pool to decide.
fn choose(keys: &[Facts], attempts: usize) -> Vec<usize> {
    let mut well: Vec<usize> = (0..keys.len()).filter(|at| !keys[*at].open && !keys[*at].closed).collect();
    // Stable, so that keys that were given work at one time stay in the order of their names.
    well.sort_by(|one, other| idle(&keys[*other]).total_cmp(&idle(&keys[*one])));
    let mut probes = (0..keys.len()).filter(|at| keys[*at].open && keys[*at].probe_due && !keys[*at].closed);
    let soonest = || {
        let wait = |at: &usize| keys[*at].wait.unwrap_or_default();
        (0..keys.len()).min_by(|one, other| wait(one).total_cmp(&wait(other))).unwrap_or_default()
    };
    let mut turn = well.iter().copied().cycle();
    (0..attempts).map(|_| probes.next().or_else(|| turn.next()).unwrap_or_else(soonest)).collect()
}

fn idle(facts: &Facts) -> f64 {
    facts.idle.unwrap_or(f64::INFINITY)
}

/// Says that workers have these keys now, each with its pool, and forgets those that none has had for a day. To be repeated well
/// within a minute.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn mark_keys(tx: &mut PgConnection, kind: &str, keys: &[(String, String)]) -> Result<(), Error> {
    let (pools, keys): (Vec<&str>, Vec<&str>) = keys.iter().map(|(pool, key)| (pool.as_str(), key.as_str())).unzip();
    let query = sqlx::query(
        "with forgotten as (
             delete from job_keys where kind = $1 and seen_time < now() - make_interval(secs => $4) and key <> all ($3)
             returning key
         ), closed as (
             delete from job_breakers b using forgotten
             where b.kind = $1 and b.scope = 'key' and b.target = forgotten.key
         )
         -- One that was never used is the longest idle of all, however lately it came, and open to a claim that began before it came.
         insert into job_keys (kind, pool, key, use_time, closed_until)
         select $1, pool, key, to_timestamp(0), to_timestamp(0) from unnest($2::text[], $3::text[]) as had (pool, key)
         -- In one order, so that two processes never wait for each other in a circle.
         order by key
         on conflict (kind, key) do update set pool = excluded.pool, seen_time = now()",
    )
    .bind(kind)
    .bind(pools)
    .bind(keys)
    .bind(FORGOTTEN_SECONDS);
    statement("mark_keys", query.execute(tx)).await?;
    Ok(())
}

/// Says that a worker left that had these keys, and that nobody here has them any more. Unless another process says otherwise, they
/// count as no worker's in less than a minute: else a pool whose key was replaced would go on as if there were the old one too.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn leave_keys(tx: &mut PgConnection, kind: &str, keys: &[String]) -> Result<(), Error> {
    let query = sqlx::query(
        "with gone as (
             -- In one order, so that two processes never wait for each other in a circle.
             select key from job_keys where kind = $1 and key = any ($2) order by key for update
         )
         update job_keys k set seen_time = least(k.seen_time, now() - make_interval(secs => $3))
         from gone where k.kind = $1 and k.key = gone.key",
    )
    .bind(kind)
    .bind(keys)
    .bind(SERVED_SECONDS - LEFT_SECONDS);
    statement("leave_keys", query.execute(tx)).await?;
    Ok(())
}

/// Gives each of these attempts, which were leased in this transaction, one of a worker's `keys` of their `pool`, and returns the
/// names in that order. Claims with limits are made one after another, so that no two take the same turn.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn choose_keys(
    tx: &mut PgConnection,
    kind: &str,
    pool: &str,
    keys: &[String],
    attempts: &[Uuid],
) -> Result<Vec<String>, Error> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut keys = keys.to_vec();
    keys.sort();
    let query = sqlx::query_as::<_, Facts>(
        "select coalesce(k.closed_until > now(), false) as closed, b.target is not null as open,
                coalesce(b.probe_time <= now(), false) as probe_due,
                extract(epoch from now() - k.use_time)::double precision as idle,
                extract(epoch from greatest(k.closed_until, b.probe_time) - now())::double precision as wait
         from unnest($2::text[]) with ordinality as had (key, place)
         left join job_keys k on k.kind = $1 and k.key = had.key
         left join job_breakers b
             on b.kind = $1 and b.scope = 'key' and b.target = had.key and b.open_time is not null
         order by had.place",
    )
    .bind(kind)
    .bind(&keys);
    let facts = statement("read_keys", query.fetch_all(&mut *tx)).await?;
    let chosen = choose(&facts, attempts.len());
    let mut used: Vec<&str> = chosen.iter().map(|at| keys[*at].as_str()).collect();
    used.sort_unstable();
    used.dedup();
    let query = sqlx::query(
        "insert into job_keys (kind, pool, key, closed_until)
         select $1, $2, key, to_timestamp(0) from unnest($3::text[]) as used (key)
         order by key
         on conflict (kind, key) do update set use_time = now(), seen_time = now()",
    )
    .bind(kind)
    .bind(pool)
    .bind(&used);
    statement("use_keys", query.execute(&mut *tx)).await?;
    let probes = chosen.iter().zip(attempts).filter(|(at, _)| facts[**at].open);
    let (probed, jobs): (Vec<&str>, Vec<Uuid>) = probes.map(|(at, job)| (keys[*at].as_str(), *job)).unzip();
    if !probed.is_empty() {
        let query = sqlx::query(
            "update job_breakers b
             set probe_time = now() + make_interval(secs => $4), probe_job = given.job, update_time = now()
             from unnest($2::text[], $3::uuid[]) as given (key, job)
             where b.kind = $1 and b.scope = 'key' and b.target = given.key and b.open_time is not null",
        )
        .bind(kind)
        .bind(probed)
        .bind(jobs)
        .bind(PROBE_LEASE_SECONDS);
        statement("probe_keys", query.execute(&mut *tx)).await?;
    }
    Ok(chosen.iter().map(|at| keys[*at].clone()).collect())
}

/// Counts a failed attempt of the symptom's key, and opens its breaker where that is enough; the pool's as well where no other key is left that
/// some worker has and that is not refused. Returns the breakers that this opened. To be called under the job's lease.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn trip_key(tx: &mut PgConnection, lease: Lease, symptom: Symptom<'_>) -> Result<Vec<Breaker>, Error> {
    let key = symptom.key;
    let others = sqlx::query_scalar::<_, i64>(
        "select count(*) from job_keys own
         join job_keys k on k.kind = own.kind and k.pool = own.pool and k.key <> own.key
         left join job_breakers b
             on b.kind = k.kind and b.scope = 'key' and b.target = k.key and b.open_time is not null
         where own.kind = (select kind from jobs where id = $1) and own.key = $2 and b.target is null
           and k.seen_time > now() - make_interval(secs => $3)",
    )
    .bind(lease.job)
    .bind(key)
    .bind(SERVED_SECONDS);
    // A lock of its own: of two keys that are refused at one moment, the second sees the first one's breaker.
    let lock = sqlx::query("select pg_advisory_xact_lock(hashtextextended('keys of ' || split_part($1, '/', 1), 0))");
    statement("serialize_key_trips", lock.bind(key).execute(&mut *tx)).await?;
    let others = statement("count_other_keys", others.fetch_one(&mut *tx)).await?;
    let mut opened = Vec::new();
    if others == 0 {
        // The pool's breaker before the key's, as a claim takes them.
        opened.extend(trip(tx, lease, Symptom { scope: Scope::Pool, ..symptom }).await?);
    } else {
        // It says nothing of the pool, whose probe it may have been.
        pass_probe(tx, lease, &[Scope::Pool]).await?;
    }
    opened.extend(trip(tx, lease, Symptom { scope: Scope::Key, ..symptom }).await?);
    Ok(opened)
}

/// An attempt with this key succeeded: its breaker closes. Returns it if it was open.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn recover_key(tx: &mut PgConnection, kind: &str, key: &str) -> Result<Option<Breaker>, Error> {
    let query = sqlx::query_as::<_, (Option<time::OffsetDateTime>, String, String)>(
        "delete from job_breakers where kind = $1 and scope = 'key' and target = $2
         returning open_time, cause, detail",
    )
    .bind(kind)
    .bind(key);
    let closed = statement("close_key_breaker", query.fetch_optional(tx)).await?;
    let open = closed.and_then(|(open_time, cause, detail)| Some((open_time?, cause, detail)));
    let target = key.to_owned();
    Ok(open.map(|(open_time, cause, detail)| Breaker { scope: Scope::Key, target, cause, detail, open_time }))
}

/// Leaves a key out for as long as it asked for, within bounds. Returns whether another key of its pool, which some worker has, can be
/// used meanwhile.
///
/// # Errors
/// [`Error::Postgres`].
pub async fn throttle_key(tx: &mut PgConnection, kind: &str, key: &str, after: Duration) -> Result<bool, Error> {
    let query = sqlx::query_scalar::<_, bool>(
        "with closed as (
             update job_keys set closed_until = greatest(closed_until, now() + make_interval(secs => $3))
             where kind = $1 and key = $2
             returning pool
         )
         select exists (
             select from closed
             join job_keys k on k.kind = $1 and k.pool = closed.pool and k.key <> $2
             left join job_breakers b
                 on b.kind = $1 and b.scope = 'key' and b.target = k.key and b.open_time is not null
             where b.target is null and k.closed_until <= now() and k.seen_time > now() - make_interval(secs => $4)
         )",
    )
    .bind(kind)
    .bind(key)
    .bind(after.clamp(MIN_CLOSED, MAX_CLOSED).as_secs_f64())
    .bind(SERVED_SECONDS);
    Ok(statement("throttle_key", query.fetch_one(tx)).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Facts = Facts { closed: false, open: false, probe_due: false, idle: Some(1.0), wait: None };
    const BROKEN: Facts = Facts { open: true, wait: Some(2.0), ..WELL };

    #[test]
    fn keys_that_are_well_take_turns_and_the_longest_idle_begins() {
        let keys = [WELL, Facts { idle: Some(5.0), ..WELL }, Facts { idle: None, ..WELL }];
        assert_eq!(choose(&keys, 5), [2, 1, 0, 2, 1]);
        assert_eq!(choose(&[WELL, WELL], 3), [0, 1, 0], "by name where both were given work at one time");
    }

    #[test]
    fn a_broken_or_a_throttled_key_is_left_out() {
        let throttled = Facts { closed: true, wait: Some(1.0), ..WELL };
        assert_eq!(choose(&[BROKEN, WELL, throttled], 3), [1, 1, 1]);
    }

    #[test]
    fn a_probe_that_is_due_is_one_attempt() {
        let due = Facts { probe_due: true, wait: Some(-1.0), ..BROKEN };
        assert_eq!(choose(&[WELL, due], 3), [1, 0, 0]);
    }

    #[test]
    fn where_none_is_well_the_one_that_can_be_tried_the_soonest_gets_what_there_is() {
        let later = Facts { wait: Some(9.0), ..BROKEN };
        assert_eq!(choose(&[later, BROKEN], 2), [1, 1]);
        assert_eq!(choose(&[BROKEN], 1), [0]);
    }
}
