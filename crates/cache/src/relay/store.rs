//! The relay's SQL. Every write is conditional on the epoch and the owner, so that a leader that was paused and superseded changes
//! nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use chassis::postgres::{Error, Pool};

use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;

use coherence::relay::{ClockRow, Compaction, Drained};
use coherence::time::PgTime;

/// The maximum of rows that one pass takes; the rest follows at once.
pub(super) const MAX_ROWS: i64 = 2000;

/// The changes of one drain.
pub(super) struct Outbox {
    pub(super) ids: Vec<i64>,
    /// Each key once, with its highest version.
    pub(super) changes: Vec<(Arc<str>, i64)>,
    /// The traces of the changes, each once.
    pub(super) traces: Vec<String>,
}

/// Takes the lease if it has run out; returns whether it did.
pub(super) async fn take(pool: &Pool, epoch: i64, owner: &str) -> Result<bool, Error> {
    let taken = sqlx::query(
        "update cache_clock
         set epoch = $1, seq = 0, owner = $2, lease_until = now() + interval '2 seconds'
         where part = 0 and (lease_until is null or lease_until < now() or owner = $2)",
    );
    update_clock(pool, taken.bind(epoch).bind(owner)).await
}

/// Keeps the lease through a quiet time.
pub(super) async fn renew(pool: &Pool, epoch: i64, owner: &str) -> Result<bool, Error> {
    let renewed = sqlx::query(
        "update cache_clock set lease_until = now() + interval '2 seconds'
         where part = 0 and epoch = $1 and owner = $2",
    );
    update_clock(pool, renewed.bind(epoch).bind(owner)).await
}

/// Releases the lease for whoever asks next.
pub(super) async fn release(pool: &Pool, epoch: i64, owner: &str) -> Result<(), Error> {
    let released = sqlx::query(
        "update cache_clock set lease_until = null, owner = null
         where part = 0 and epoch = $1 and owner = $2",
    );
    update_clock(pool, released.bind(epoch).bind(owner)).await.map(drop)
}

async fn update_clock(pool: &Pool, statement: Query<'_, Postgres, PgArguments>) -> Result<bool, Error> {
    let done = pool.quietly(async |connection| statement.execute(connection).await).await?;
    Ok(done.rows_affected() == 1)
}

#[derive(sqlx::FromRow)]
struct Row {
    epoch: i64,
    seq: i64,
    l2_ns: i64,
    l2_run: Option<String>,
    l2_dirty: bool,
    at: i64,
    id: Option<i64>,
    key: Option<String>,
    version: Option<i64>,
    trace: Option<String>,
}

/// One snapshot of the clock and the outbox.
///
/// Guard: `at` is `now()`, the start of the statement's transaction, which is before its snapshot. A time from after the snapshot
/// would vouch for changes that commit in between.
///
/// Untraced: it runs many times a second and belongs to no request.
pub(super) async fn drain(pool: &Pool) -> Result<(Drained, Outbox), Error> {
    let drained = sqlx::query_as(
        "with taken as materialized (
             select o.id, o.key, o.ver, o.trace from outbox o where o.part = 0 order by o.id limit $1
         ),
         bumps as (
             select o.key, count(*) as n from outbox o
             where o.key in (select t.key from taken t where t.ver is null)
             group by o.key
         )
         select c.epoch, c.seq, c.l2_ns, c.l2_run, c.l2_dirty,
                (extract(epoch from now()) * 1000000)::bigint as at,
                t.id, t.key, coalesce(t.ver, coalesce(k.ver, 0) + b.n) as version, t.trace
         from cache_clock c
         left join taken t on true
         left join bumps b on b.key = t.key
         left join cache_key k on k.key = t.key
         where c.part = 0
         order by t.id",
    );
    let rows: Vec<Row> = pool.quietly(async |connection| drained.bind(MAX_ROWS).fetch_all(connection).await).await?;
    let first = rows.first().ok_or(Error::NoRow)?;
    let clock = ClockRow {
        epoch: first.epoch,
        seq: first.seq,
        space: first.l2_ns,
        run: first.l2_run.clone(),
        dirty: first.l2_dirty,
    };
    let at = PgTime(first.at);
    let outbox = collect(rows);
    let complete = i64::try_from(outbox.ids.len()).is_ok_and(|taken| taken < MAX_ROWS);
    Ok((Drained { clock, at, data: !outbox.ids.is_empty(), complete }, outbox))
}

fn collect(rows: Vec<Row>) -> Outbox {
    let mut outbox = Outbox { ids: Vec::new(), changes: Vec::new(), traces: Vec::new() };
    let mut places = std::collections::HashMap::new();
    let mut traces = BTreeSet::new();
    for row in rows {
        let (Some(id), Some(key), Some(version)) = (row.id, row.key, row.version) else { continue };
        outbox.ids.push(id);
        let key: Arc<str> = key.into();
        let place = *places.entry(Arc::clone(&key)).or_insert_with(|| {
            outbox.changes.push((key, version));
            outbox.changes.len() - 1
        });
        outbox.changes[place].1 = outbox.changes[place].1.max(version);
        traces.extend(row.trace);
    }
    outbox.traces = traces.into_iter().take(crate::nats::MAX_TRACES).collect();
    outbox
}

/// Deletes what was drained, adds the bumps to their bases and moves the clock on, all or nothing; returns whether this
/// leader still leads.
///
/// Guard: all of it depends on the row of the clock that has this epoch and owner. A superseded leader would delete rows that its
/// successor has not published.
pub(super) async fn compact(
    pool: &Pool,
    epoch: i64,
    owner: &str,
    compaction: &Compaction,
    ids: &[i64],
) -> Result<bool, Error> {
    let space = compaction.reopen.as_ref().map(|_| fastrand::i64(1..));
    pool.run("relay_compact", async |connection| {
        sqlx::query_scalar(
            "with term as (
                 update cache_clock
                 set seq = $3, lease_until = now() + interval '2 seconds', l2_dirty = $4,
                     l2_ns = coalesce($5, l2_ns), l2_run = coalesce($6, l2_run)
                 where part = 0 and epoch = $1 and owner = $2
                 returning part
             ),
             drained as (
                 delete from outbox o using term t
                 where o.part = t.part and o.id = any($7::bigint[])
                 returning o.key, o.ver
             ),
             compacted as (
                 insert into cache_key (key, ver)
                 select d.key, count(*) from drained d where d.ver is null group by d.key order by d.key
                 on conflict (key) do update set ver = cache_key.ver + excluded.ver
             )
             select exists (select from term)",
        )
        .bind(epoch)
        .bind(owner)
        .bind(compaction.seq)
        .bind(compaction.dirty)
        .bind(space)
        .bind(compaction.reopen.as_deref())
        .bind(ids)
        .fetch_one(connection)
        .await
    })
    .await
}
