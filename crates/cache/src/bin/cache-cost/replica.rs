//! A replica of a service with rows to read and to change: its cache with connections of its own, as in a process of its own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cache::{Asof, Cache, Hit, Key, Lifetime, Loaded, outbox};
use chassis::postgres::{Error, Pool, PoolSettings};
use chassis::settings::Source;
use uuid::Uuid;

use crate::result::Result;

const ACCOUNT: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
/// The bytes of a row's body, about those of an encoded generation.
const BODY: usize = 800;

/// One replica.
pub(crate) struct Replica {
    pub(crate) cache: Cache,
    data: Pool,
    body: Bytes,
}

/// The key of a row.
pub(crate) fn key(id: usize) -> Key {
    Key::row("cost", ACCOUNT, id)
}

impl Replica {
    /// Starts `count` of them on `rows` rows, and waits until all have a proof.
    pub(crate) async fn start(source: &Source, count: usize, rows: usize) -> Result<Vec<Arc<Self>>> {
        let mut replicas = Vec::with_capacity(count);
        let database: String = source.required("RUSHES_DATABASE_URL", "a URL")?;
        for _ in 0..count {
            let nats = chassis::nats::connect(&source.required::<String>("RUSHES_NATS_URL", "a URL")?).await?;
            let pool = Pool::connect_lazy("cache", &database, &cache::Settings::pool())?;
            let cache = Cache::start(cache::Settings::read(source)?, Some(pool), Some(nats))?;
            let data = Pool::connect_lazy("data", &database, &PoolSettings::default())?;
            replicas.push(Arc::new(Self { cache, data, body: vec![0x2a; BODY].into() }));
        }
        fill(&replicas[0].data, i64::try_from(rows)?).await?;
        for replica in &replicas {
            replica.proven().await;
        }
        Ok(replicas)
    }

    /// Waits for a proof that lets L1 answer.
    pub(crate) async fn proven(&self) {
        while self.cache.proof_age().is_none_or(|age| age > Duration::from_millis(500)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Reads a row through the cache.
    pub(crate) async fn get(self: &Arc<Self>, key: &Key, id: usize) -> Result<Hit, Error> {
        let this = Arc::clone(self);
        self.cache.get(key, None, move || async move { this.load(id).await }).await
    }

    async fn load(&self, id: usize) -> Result<Loaded, Error> {
        let (epoch, seq, version): (i64, i64, i64) = self
            .data
            .run("load_cost", async |connection| {
                sqlx::query_as(
                    "select c.epoch, c.seq, r.version from cache_clock c
                     cross join cache_cost r where c.part = 0 and r.id = $1",
                )
                .bind(id as i64)
                .fetch_one(connection)
                .await
            })
            .await?;
        Ok(Loaded { version, asof: Asof { epoch, seq }, body: self.body.clone(), lifetime: Lifetime::TERMINAL })
    }

    /// Changes a row, and notifies nobody but the outbox; returns its version.
    pub(crate) async fn change(&self, key: &Key, id: usize) -> Result<i64, Error> {
        self.data
            .transaction("change_cost", async |connection| {
                let change =
                    sqlx::query_scalar("update cache_cost set version = version + 1 where id = $1 returning version")
                        .bind(id as i64)
                        .fetch_one(&mut *connection);
                let version = chassis::postgres::statement("change_cost", change).await?;
                outbox::append(connection, key, version).await?;
                Ok::<_, Error>(version)
            })
            .await
    }
}

async fn fill(data: &Pool, rows: i64) -> Result<()> {
    for statement in
        ["drop table if exists cache_cost", "create table cache_cost (id bigint primary key, version bigint)"]
    {
        sqlx::query(statement).execute(&mut data.connect().await?).await?;
    }
    let fill = sqlx::query("insert into cache_cost (id, version) select n, 1 from generate_series(0, $1 - 1) n");
    fill.bind(rows).execute(&mut data.connect().await?).await?;
    Ok(())
}
