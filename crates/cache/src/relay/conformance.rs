//! The relay's statements on a real PostgreSQL, compared with the model of them that the simulator runs: the same random operations go
//! to both, and every answer must be the same.

use std::sync::Arc;
use std::time::Duration;

use chassis::postgres::{Pool, PoolSettings};
use coherence::relay::Compaction;
use coherence::time::PgTime;
use fastrand::Rng;
use sim::postgres::{Kind, Postgres};
use sim::time::SECOND;
use sqlx::{Connection as _, PgConnection};
use testkit::Database;

use super::store;

/// Two rows and three aggregates.
const KEYS: [(&str, Kind); 5] = [
    ("row:a", Kind::Row),
    ("row:b", Kind::Row),
    ("all:a", Kind::Aggregate),
    ("all:b", Kind::Aggregate),
    ("all:c", Kind::Aggregate),
];
const OWNERS: usize = 3;
const STEPS: usize = 1500;
/// The maximum of rows that one pass takes.
const MAX_ROWS: usize = store::MAX_ROWS as usize;

/// A change whose transaction is open.
struct Late {
    connection: PgConnection,
    key: usize,
    id: i64,
}

struct Pair {
    pool: Pool,
    url: String,
    model: Postgres,
    /// The real id of each of the model's outbox rows, by their ids less one.
    ids: Vec<i64>,
    /// The next version of each row's key.
    versions: [i64; KEYS.len()],
    /// True time in the model; nothing of it passes by itself.
    at: i64,
    epoch: i64,
    terms: Vec<(i64, usize)>,
    late: Vec<Late>,
    /// What was last drained: the model's ids.
    drained: Vec<i64>,
}

impl Pair {
    async fn new(database: &Database) -> Self {
        let url = database.url();
        // Answers are compared and not times: on a loaded machine a statement may take long.
        let timeout = Duration::from_mins(1);
        let settings = PoolSettings {
            acquire: timeout,
            statement: timeout,
            unresponsive_after: timeout,
            ..PoolSettings::default()
        };
        let pool = Pool::connect_lazy("test", &url, &settings).unwrap();
        for statement in
            ["truncate outbox restart identity", "update cache_clock set l2_ns = 1", "delete from cache_key"]
        {
            sqlx::query(statement).execute(&mut pool.connect().await.unwrap()).await.unwrap();
        }
        let model = Postgres::new(&KEYS.map(|(_, kind)| (kind, true)), 0, MAX_ROWS);
        let (ids, terms, late, drained) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { pool, url, model, ids, versions: [1; KEYS.len()], at: 0, epoch: 0, terms, late, drained }
    }

    /// A key's next version as its row in the outbox has it.
    fn next(&mut self, key: usize) -> Option<i64> {
        self.versions[key] += 1;
        Some(self.versions[key]).filter(|_| KEYS[key].1 == Kind::Row)
    }

    fn committed(&mut self, key: usize, id: i64) {
        self.model.change(key, false, self.at);
        self.ids.push(id);
    }

    async fn change(&mut self, key: usize, count: usize) {
        let real: Vec<i64> = match KEYS[key].1 {
            Kind::Row => {
                let first = self.versions[key] + 1;
                self.versions[key] += i64::try_from(count).unwrap();
                sqlx::query_scalar(
                    "insert into outbox (key, ver) select $1, v from generate_series($2, $3) v returning id",
                )
                .bind(KEYS[key].0)
                .bind(first)
                .bind(self.versions[key])
            }
            Kind::Aggregate => {
                sqlx::query_scalar("insert into outbox (key) select $1 from generate_series($2, $3) returning id")
                    .bind(KEYS[key].0)
                    .bind(1_i64)
                    .bind(i64::try_from(count).unwrap())
            }
        }
        .fetch_all(&mut self.pool.connect().await.unwrap())
        .await
        .unwrap();
        real.into_iter().for_each(|id| self.committed(key, id));
    }

    /// Begins a change that others overtake.
    async fn begin_late(&mut self, key: usize) {
        // A row's changes queue on the row, so that they never overtake one another.
        if KEYS[key].1 == Kind::Row {
            return;
        }
        let version = self.next(key);
        let mut connection = PgConnection::connect(&self.url).await.unwrap();
        sqlx::query("begin").execute(&mut connection).await.unwrap();
        let id = sqlx::query_scalar("insert into outbox (key, ver) values ($1, $2) returning id")
            .bind(KEYS[key].0)
            .bind(version)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        self.late.push(Late { connection, key, id });
    }

    async fn end_late(&mut self, commits: bool) {
        let Some(Late { mut connection, key, id }) = self.late.pop() else { return };
        sqlx::query(if commits { "commit" } else { "rollback" }).execute(&mut connection).await.unwrap();
        if commits {
            self.committed(key, id);
        }
        connection.close().await.unwrap();
    }

    async fn take(&mut self, owner: usize, expired: bool) {
        let lease = if expired { "now() - interval '1 s'" } else { "now() + interval '1 h'" };
        let set = format!("update cache_clock set lease_until = {lease} where lease_until is not null");
        sqlx::query(sqlx::AssertSqlSafe(set)).execute(&mut self.pool.connect().await.unwrap()).await.unwrap();
        if expired {
            self.at += 10 * SECOND;
        }
        self.epoch += 1;
        let real = store::take(&self.pool, self.epoch, &format!("o{owner}")).await.unwrap();
        assert_eq!(real, self.model.take(self.epoch, owner, self.at), "take by {owner}, expired: {expired}");
        if real {
            self.terms.push((self.epoch, owner));
        }
    }

    async fn renew(&mut self, (epoch, owner): (i64, usize)) {
        let real = store::renew(&self.pool, epoch, &format!("o{owner}")).await.unwrap();
        assert_eq!(real, self.model.renew(epoch, owner, self.at), "renew of {epoch} by {owner}");
    }

    async fn drain(&mut self) {
        let (real, rows) = store::drain(&self.pool).await.unwrap();
        let (model, expected) = self.model.drain(PgTime(real.at.0));
        assert_eq!(real, model);
        let sorted = |mut ids: Vec<i64>| {
            ids.sort_unstable();
            ids
        };
        let ids = expected.ids.iter().map(|id| self.ids[usize::try_from(*id - 1).unwrap()]).collect();
        assert_eq!(sorted(rows.ids), sorted(ids));
        let mut changes: Vec<(Arc<str>, i64)> =
            expected.changes.iter().map(|(key, version)| (KEYS[*key].0.into(), *version)).collect();
        changes.sort();
        let mut real = rows.changes;
        real.sort();
        assert_eq!(real, changes);
        self.drained = expected.ids;
    }

    /// Compacts what was last drained, be it long ago or compacted before.
    async fn compact(&mut self, (epoch, owner): (i64, usize), compaction: &Compaction) {
        let ids: Vec<_> = self.drained.iter().map(|id| self.ids[usize::try_from(*id - 1).unwrap()]).collect();
        let real = store::compact(&self.pool, epoch, &format!("o{owner}"), compaction, &ids).await.unwrap();
        // The name of a new space is drawn.
        let space = sqlx::query_scalar("select l2_ns from cache_clock")
            .fetch_one(&mut self.pool.connect().await.unwrap())
            .await
            .unwrap();
        assert_eq!(
            real,
            self.model.compact(epoch, owner, compaction, space, &self.drained, self.at),
            "compaction of {epoch}"
        );
    }

    async fn versions(&self) {
        for (key, (name, kind)) in KEYS.iter().enumerate() {
            if *kind == Kind::Aggregate {
                let real: i64 = sqlx::query_scalar("select cache_version($1)")
                    .bind(name)
                    .fetch_one(&mut self.pool.connect().await.unwrap())
                    .await
                    .unwrap();
                assert_eq!(real, self.model.version(key), "{name}");
            }
        }
    }
}

#[tokio::test]
async fn the_simulators_postgresql_answers_as_the_real_one_does() {
    let database = Database::fresh().await.unwrap();
    let mut pair = Pair::new(&database).await;
    let mut rng = Rng::with_seed(7);
    let (mut compacted, mut refused, mut partial) = (0, 0, 0);
    for step in 0..STEPS {
        let key = rng.usize(0..KEYS.len());
        let term = pair.terms.get(pair.terms.len().saturating_sub(rng.usize(1..3))).copied().unwrap_or((0, 0));
        match rng.u8(0..20) {
            0..5 => pair.change(key, rng.usize(1..4)).await,
            // More than one pass takes, unless an open transaction may yet come in between.
            5 if step % 4 == 0 && pair.late.is_empty() => pair.change(key, rng.usize(900..2500)).await,
            5 | 6 if pair.model.drain(PgTime(0)).1.ids.len() < MAX_ROWS / 2 => pair.begin_late(key).await,
            7 | 8 => pair.end_late(rng.u8(0..4) > 0).await,
            9 | 10 => pair.take(rng.usize(0..OWNERS), rng.bool()).await,
            11 => pair.renew(term).await,
            12..15 => {
                pair.drain().await;
                partial += usize::from(pair.drained.len() == MAX_ROWS);
            }
            15..19 => {
                let reopen = (rng.u8(0..4) == 0).then(|| format!("run{}", rng.u8(..)));
                let compaction = Compaction { seq: rng.i64(0..1000), dirty: rng.bool(), reopen };
                let before = pair.model.asof();
                pair.compact(term, &compaction).await;
                let done = pair.model.asof() != before;
                compacted += usize::from(done);
                refused += usize::from(!done);
            }
            _ => pair.versions().await,
        }
    }
    while !pair.late.is_empty() {
        pair.end_late(true).await;
    }
    pair.versions().await;
    assert!(
        compacted > 50 && refused > 20 && partial > 5,
        "{compacted} compactions, {refused} refused, {partial} partial drains"
    );
}
