//! All SQL that reads: the versions of aggregates, and PostgreSQL's clock. The relay's SQL is in `relay/store.rs`.

use chassis::postgres::{Error, Pool};

use coherence::asof::Asof;
use coherence::time::PgTime;

/// The versions of some aggregates, in their order, with the clock of the same snapshot. Spelled out rather than by `cache_version`,
/// which PostgreSQL plans anew for each key. The limit is the number of keys: of an array alone PostgreSQL thinks that it has ten, and
/// plans each statement for one anew.
pub(crate) async fn versions(pool: &Pool, keys: &[String]) -> Result<(Vec<i64>, Asof), Error> {
    let row: (Vec<i64>, i64, i64) = pool
        .run("validate_cached", async |connection| {
            sqlx::query_as(
                "select array(select coalesce((select k.ver from cache_key k where k.key = wanted.key), 0)
                                     + (select count(*) from outbox o where o.key = wanted.key)
                              from (select * from unnest($1::text[]) with ordinality as listed (key, place) limit $2)
                                  as wanted
                              order by wanted.place),
                        c.epoch, c.seq
                 from cache_clock c
                 where c.part = 0",
            )
            .bind(keys)
            .bind(i64::try_from(keys.len()).unwrap_or(i64::MAX))
            .fetch_one(connection)
            .await
        })
        .await?;
    Ok((row.0, Asof { epoch: row.1, seq: row.2 }))
}

/// The version of an aggregate; nothing if no change of it was ever compacted, as for a row's key. Asked by the observer and
/// by no request.
pub(crate) async fn aggregate(pool: &Pool, key: &str) -> Result<Option<i64>, Error> {
    let asked = sqlx::query_scalar("select cache_version(k.key) from cache_key k where k.key = $1").bind(key);
    pool.quietly(async |connection| asked.fetch_optional(connection).await).await
}

/// PostgreSQL's clock, read while the statement runs. Not traced: it comes every few seconds and belongs to no request.
pub(crate) async fn clock(pool: &Pool) -> Result<PgTime, Error> {
    let asked = sqlx::query_scalar("select (extract(epoch from clock_timestamp()) * 1000000)::bigint");
    pool.quietly(async |connection| asked.fetch_one(connection).await).await.map(PgTime)
}
