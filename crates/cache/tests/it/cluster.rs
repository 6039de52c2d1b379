//! A cluster for the tests: one database with a table of things, Redis, NATS, and as many nodes (caches, as processes have them) as
//! a test wants.
//!
//! A thing's body is its version as text, so that every answer can be checked by itself; the aggregate
//! `all:{account}` shows the sum of the account's versions and is changed by every change of a thing. Triggers write the
//! outbox, as in the product.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cache::{Asof, Cache, Hit, Key, Lifetime, Loaded, Settings, Tier};
use chassis::postgres::{Error, Pool, PoolSettings};
use testkit::{Database, Nats, Postgres, Redis, Service, eventually};
use uuid::Uuid;

/// A timeout that is longer than anything here takes on a crowded machine, and short enough to fail in.
pub(crate) const LONG: Duration = Duration::from_secs(20);

const SCHEMA: &[&str] = &[
    "create table thing (account uuid, id text, version bigint not null default 1, note text, primary key (account, id))",
    "create function emit_thing() returns trigger language plpgsql as $$
     begin
         insert into outbox (key, ver)
         select 'thing:' || c.account || ':' || c.id, c.version + (tg_op = 'DELETE')::int from changed c;
         insert into outbox (key) select distinct 'all:' || c.account from changed c;
         return null;
     end $$",
    "create trigger thing_i after insert on thing referencing new table as changed
     for each statement execute function emit_thing()",
    "create trigger thing_u after update on thing referencing new table as changed
     for each statement execute function emit_thing()",
    "create trigger thing_d after delete on thing referencing old table as changed
     for each statement execute function emit_thing()",
];

/// What the nodes share.
pub(crate) struct Cluster {
    pub(crate) postgres: Postgres,
    pub(crate) redis: Redis,
    pub(crate) nats: Nats,
    pub(crate) database: Database,
    pub(crate) account: Uuid,
}

/// One node: its cache, and a pool of its own.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) cache: Cache,
    pub(crate) data: Pool,
    pub(crate) account: Uuid,
    loads: Arc<AtomicUsize>,
}

impl Cluster {
    pub(crate) async fn new() -> Self {
        let postgres = Postgres::launch().await.unwrap();
        let (database, redis, nats) = tokio::join!(Database::on(&postgres), Redis::launch(), Nats::launch());
        let database = database.unwrap();
        let pool = pool("setup", &database.url());
        for statement in SCHEMA {
            sqlx::query(*statement).execute(&mut pool.connect().await.unwrap()).await.unwrap();
        }
        pool.close().await;
        Self { postgres, redis: redis.unwrap(), nats: nats.unwrap(), database, account: Uuid::new_v4() }
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings { redis_url: Some(self.redis.url()), ..Settings::default() }
    }

    /// A node with everything.
    pub(crate) async fn node(&self) -> Node {
        self.node_with(self.settings(), true).await
    }

    /// A node with these settings, and with a database for its cache or without.
    pub(crate) async fn node_with(&self, settings: Settings, database: bool) -> Node {
        let own = database.then(|| {
            Pool::connect_lazy("cache", &self.database.url_of(Service::Dashboard), &Settings::pool()).unwrap()
        });
        let nats = chassis::nats::connect(&self.nats.url()).await.unwrap();
        let cache = Cache::start(settings, own, Some(nats)).unwrap();
        Node { cache, data: pool("data", &self.database.url()), account: self.account, loads: Arc::default() }
    }

    /// A node that receives nothing from others.
    pub(crate) fn node_without_nats(&self, settings: Settings) -> Node {
        let own = Pool::connect_lazy("cache", &self.database.url_of(Service::Dashboard), &Settings::pool()).unwrap();
        let cache = Cache::start(settings, Some(own), None).unwrap();
        Node { cache, data: pool("data", &self.database.url()), account: self.account, loads: Arc::default() }
    }

    /// A node that has a young proof: its L1 answers.
    pub(crate) async fn ready_node(&self) -> Node {
        let node = self.node().await;
        node.proven().await;
        node
    }
}

fn pool(name: &'static str, url: &str) -> Pool {
    Pool::connect_lazy(name, url, &PoolSettings::default()).unwrap()
}

impl Node {
    /// Waits for a young proof.
    pub(crate) async fn proven(&self) {
        eventually("a young proof", LONG, async || self.cache.proof_age().filter(|age| age.as_millis() < 300))
            .await
            .unwrap();
    }

    pub(crate) fn key(&self, id: &str) -> Key {
        Key::row("thing", self.account, id)
    }

    pub(crate) fn all(&self) -> Key {
        Key::aggregate("all", self.account)
    }

    /// How often this node has loaded.
    pub(crate) fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }

    pub(crate) async fn get(&self, id: &str) -> Result<Hit, Error> {
        self.get_at_min_version(id, None).await
    }

    pub(crate) async fn get_at_min_version(&self, id: &str, min_version: Option<i64>) -> Result<Hit, Error> {
        let (node, id) = (self.clone(), id.to_owned());
        let hit = self.cache.get(&self.key(&id), min_version, move || async move { node.load(&id).await }).await?;
        check(&hit);
        Ok(hit)
    }

    pub(crate) async fn get_all(&self) -> Result<Hit, Error> {
        let node = self.clone();
        self.cache.get(&self.all(), None, move || async move { node.load_all().await }).await
    }

    /// Waits until a read of `id` returns `version`, from whatever tier.
    pub(crate) async fn sees(&self, id: &str, version: i64) -> Hit {
        let what = format!("version {version} of {id}");
        eventually(&what, LONG, async || self.get(id).await.ok().filter(|hit| hit.version == version)).await.unwrap()
    }

    /// Waits until a read of `id` is answered from `tier`.
    pub(crate) async fn from(&self, tier: Tier, id: &str) -> Hit {
        let what = format!("{id} from {tier:?}");
        eventually(&what, LONG, async || self.get(id).await.ok().filter(|hit| hit.tier == tier)).await.unwrap()
    }

    pub(crate) async fn load(&self, id: &str) -> Result<Loaded, Error> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let account = self.account;
        let (epoch, seq, version): (i64, i64, Option<i64>) = self
            .data
            .run("load_thing", async |connection| {
                sqlx::query_as(
                    "select c.epoch, c.seq, t.version from cache_clock c
                     left join thing t on t.account = $1 and t.id = $2 where c.part = 0",
                )
                .bind(account)
                .bind(id)
                .fetch_one(connection)
                .await
            })
            .await?;
        let asof = Asof { epoch, seq };
        Ok(match version {
            Some(version) => Loaded { version, asof, body: version.to_string().into(), lifetime: Lifetime::TERMINAL },
            None => Loaded { version: 0, asof, body: Default::default(), lifetime: Lifetime::ABSENT },
        })
    }

    pub(crate) async fn load_all(&self) -> Result<Loaded, Error> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let (account, key) = (self.account, self.all());
        let (epoch, seq, version, sum): (i64, i64, i64, i64) = self
            .data
            .run("load_all", async |connection| {
                sqlx::query_as(
                    "select c.epoch, c.seq, cache_version($2),
                            (select coalesce(sum(t.version), 0)::bigint from thing t where t.account = $1)
                     from cache_clock c where c.part = 0",
                )
                .bind(account)
                .bind(key.as_str())
                .fetch_one(connection)
                .await
            })
            .await?;
        let asof = Asof { epoch, seq };
        Ok(Loaded { version, asof, body: sum.to_string().into(), lifetime: Lifetime::AGGREGATE })
    }

    /// Creates or changes a thing, and notifies nobody but the outbox; returns the new version.
    pub(crate) async fn change(&self, id: &str) -> Result<i64, Error> {
        let account = self.account;
        self.data
            .run("change_thing", async |connection| {
                sqlx::query_scalar(
                    "insert into thing (account, id) values ($1, $2)
                     on conflict (account, id) do update set version = thing.version + 1
                     returning version",
                )
                .bind(account)
                .bind(id)
                .fetch_one(connection)
                .await
            })
            .await
    }

    /// Changes a thing as a service does: the cache is notified before the reply.
    pub(crate) async fn write(&self, id: &str) -> Result<i64, Error> {
        let version = self.change(id).await?;
        self.cache.wrote_part(&self.key(id), version, &self.all()).await;
        Ok(version)
    }

    pub(crate) async fn delete(&self, id: &str) -> Result<(), Error> {
        let account = self.account;
        self.data
            .run("delete_thing", async |connection| {
                sqlx::query("delete from thing where account = $1 and id = $2")
                    .bind(account)
                    .bind(id)
                    .execute(connection)
                    .await
            })
            .await
            .map(drop)
    }
}

/// Equal version, equal content.
fn check(hit: &Hit) {
    let body = if hit.version == 0 { String::new() } else { hit.version.to_string() };
    assert_eq!(hit.body, body.as_bytes(), "version {} came with the content of another", hit.version);
}
