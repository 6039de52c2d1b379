//! The simulator's model of PostgreSQL is held to the statements: the same random operations, the same answers.
//!
//! Time is the model's. A lease that the database was given is made to last until the model's time has passed it, so that
//! a slow machine changes nothing.

use chassis::postgres::LaneSettings;
use sim::postgres::{Kind, MS, Postgres as Model, SECOND, Time};
use sqlx::PgTransaction;
use testkit::Database;
use uuid::Uuid;

use super::*;
use crate::{Key, outbox};

/// Keys of each kind.
const ROWS: usize = 3;
const AGGREGATES: usize = 3;
const OWNERS: [&str; 3] = ["one", "two", "three"];
/// A pass takes no more here, so that many take a part.
const LIMIT: usize = 5;
/// Transactions that are open at once.
const OPEN: usize = 3;

/// A transaction that has written and is not committed.
struct Open {
    transaction: PgTransaction<'static>,
    wrote: Vec<(i64, usize, bool)>,
}

/// What a leader drained and may fold: once, twice, late or never.
struct Drain {
    epoch: i64,
    owner: usize,
    ids: Vec<i64>,
    seq: i64,
}

/// Both databases, and those who use them.
struct Pair {
    model: Model,
    lane: Lane,
    keys: Vec<Key>,
    now: Time,
    open: Vec<Open>,
    /// Rows that an open transaction has written: nobody else may.
    locked: Vec<usize>,
    /// The last version of each row, and whether it is gone.
    rows: Vec<(i64, bool)>,
    drains: Vec<Drain>,
    /// The leaders' epochs, the latest last.
    reigns: Vec<(i64, usize)>,
    seen: Seen,
}

/// How often what is meant to be tried was tried.
#[derive(Debug, Default)]
struct Seen {
    late: usize,
    partial: usize,
    folded: usize,
    refused: usize,
    taken: usize,
    denied: usize,
}

impl Pair {
    async fn new(lane: Lane, seen: Seen) -> Self {
        for statement in [
            "truncate outbox restart identity",
            "truncate cache_key",
            "update cache_clock
             set epoch = 0, seq = 0, l2_ns = 1, l2_run = null, l2_dirty = true, owner = null, lease_until = null",
        ] {
            sqlx::query(statement).execute(lane.pool()).await.unwrap();
        }
        let kinds = [vec![(Kind::Row, true); ROWS], vec![(Kind::Aggregate, true); AGGREGATES]].concat();
        let account = Uuid::new_v4();
        let key = |at| match at {
            0..ROWS => Key::row("thing", account, at),
            _ => Key::aggregate(["all", "some", "few"][at - ROWS], account),
        };
        Self {
            model: Model::new(&kinds, 0, LIMIT),
            lane,
            keys: (0..ROWS + AGGREGATES).map(key).collect(),
            now: SECOND,
            open: Vec::new(),
            locked: Vec::new(),
            rows: vec![(1, false); ROWS],
            drains: Vec::new(),
            reigns: Vec::new(),
            seen,
        }
    }

    fn place(&self, key: &str) -> usize {
        self.keys.iter().position(|known| known.as_str() == key).unwrap()
    }

    /// Writes one to four changes in a transaction of its own, which stays open.
    async fn begin(&mut self, rng: &mut fastrand::Rng) {
        let mut transaction = self.lane.pool().begin().await.unwrap();
        let mut wrote = Vec::new();
        for _ in 0..rng.usize(1..5) {
            let key = rng.usize(0..self.keys.len());
            let ends = rng.u8(0..12) == 0;
            if key < ROWS {
                let (version, gone) = self.rows[key];
                if gone || self.locked.contains(&key) {
                    continue;
                }
                self.locked.push(key);
                outbox::append(&mut transaction, &self.keys[key], version + 1).await.unwrap();
            } else {
                outbox::bump(&mut transaction, &self.keys[key]).await.unwrap();
            }
            wrote.push((self.model.reserve(), key, ends));
        }
        self.open.push(Open { transaction, wrote });
    }

    /// Commits one of the open transactions, or takes it back.
    async fn end(&mut self, rng: &mut fastrand::Rng) {
        if self.open.is_empty() {
            return;
        }
        let at = rng.usize(0..self.open.len());
        self.seen.late += usize::from(at + 1 < self.open.len());
        let Open { transaction, wrote } = self.open.swap_remove(at);
        let commits = rng.u8(0..6) > 0;
        if commits {
            transaction.commit().await.unwrap();
        } else {
            transaction.rollback().await.unwrap();
        }
        for (id, key, ends) in wrote {
            if key < ROWS {
                self.locked.retain(|locked| *locked != key);
            }
            if commits {
                let told = self.model.commit(id, key, ends, self.now);
                if let Some(version) = told {
                    self.rows[key] = (version, ends);
                }
                assert_eq!(told.is_some(), key < ROWS);
            }
        }
    }

    async fn take(&mut self, rng: &mut fastrand::Rng, at: &str) {
        let (epoch, owner) = (rng.i64(1..), rng.usize(0..OWNERS.len()));
        let real = take(&self.lane, epoch, OWNERS[owner]).await.unwrap();
        assert_eq!(real, self.model.take(epoch, owner, self.now), "{at}: the lease");
        if real {
            self.reigns.push((epoch, owner));
            self.seen.taken += 1;
        } else {
            self.seen.denied += 1;
        }
        self.given().await;
    }

    /// The present leader prolongs its lease, or one that was.
    async fn renew(&mut self, rng: &mut fastrand::Rng, at: &str) {
        let Some((epoch, owner)) = self.leader(rng) else { return };
        let real = renew(&self.lane, epoch, OWNERS[owner]).await.unwrap();
        assert_eq!(real, self.model.renew(epoch, owner, self.now), "{at}: renewed");
        self.given().await;
    }

    fn leader(&self, rng: &mut fastrand::Rng) -> Option<(i64, usize)> {
        let back = if rng.bool() { 0 } else { rng.usize(0..3) };
        self.reigns.len().checked_sub(back + 1).map(|at| self.reigns[at])
    }

    /// What lasts until after now lasts until the model's time has passed it.
    async fn given(&self) {
        self.lease("now() + interval '1 hour'").await;
    }

    async fn lease(&self, until: &'static str) {
        let set = format!(
            "update cache_clock set lease_until = {until} where lease_until > timestamptz '2001-01-01' and part = 0"
        );
        sqlx::query(sqlx::AssertSqlSafe(set)).execute(self.lane.pool()).await.unwrap();
    }

    /// More time than a lease lasts goes by.
    async fn pass(&mut self) {
        self.now += 3 * SECOND;
        self.lease("timestamptz '2000-01-01'").await;
    }

    async fn drain(&mut self, rng: &mut fastrand::Rng, at: &str) {
        let before = self.clock().await;
        let (real, outbox) = drain(&self.lane, LIMIT as i64).await.unwrap();
        let after = self.clock().await;
        assert!((before..=after).contains(&real.at.0), "{at}: T is from before the snapshot, by PostgreSQL's clock");
        let (model, expected) = self.model.drain(self.model.now(self.now));
        assert_eq!(real.clock, model.clock, "{at}");
        assert_eq!((real.data, real.complete), (model.data, model.complete), "{at}");
        assert_eq!(outbox.ids, expected.ids, "{at}");
        let changes: Vec<_> = outbox.changes.iter().map(|(key, version)| (self.place(key), *version)).collect();
        assert_eq!(changes, expected.changes, "{at}");
        self.seen.partial += usize::from(!real.complete);
        if let Some((epoch, owner)) = self.leader(rng) {
            self.drains.push(Drain { epoch, owner, ids: outbox.ids, seq: real.clock.seq + 1 });
        }
    }

    /// A leader folds what it drained: at once, after it slept, or again since it does not know whether it did.
    async fn fold(&mut self, rng: &mut fastrand::Rng, at: &str) {
        let Some(last) = self.drains.len().checked_sub(1) else { return };
        let place = if rng.u8(0..3) > 0 { last } else { rng.usize(0..=last) };
        let Drain { epoch, owner, ref ids, seq } = self.drains[place];
        let reopen = (rng.u8(0..4) == 0).then(|| format!("run {}", rng.u8(0..3)));
        let what = Fold { seq, dirty: rng.bool(), reopen };
        let real = fold(&self.lane, epoch, OWNERS[owner], &what, ids).await.unwrap();
        let space: i64 = sqlx::query_scalar("select l2_ns from cache_clock where part = 0")
            .fetch_one(self.lane.pool())
            .await
            .unwrap();
        assert_eq!(real, self.model.fold(epoch, owner, &what, space, ids, self.now), "{at}: folded");
        if real {
            self.seen.folded += 1;
        } else {
            self.seen.refused += 1;
        }
        self.given().await;
    }

    /// PostgreSQL's own clock, in microseconds.
    async fn clock(&self) -> i64 {
        let read = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";
        sqlx::query_scalar(read).fetch_one(self.lane.pool()).await.unwrap()
    }

    /// What a reader sees.
    async fn read(&self, at: &str) {
        for key in ROWS..self.keys.len() {
            let (epoch, seq, version): (i64, i64, i64) =
                sqlx::query_as("select c.epoch, c.seq, cache_version($1) from cache_clock c where c.part = 0")
                    .bind(self.keys[key].as_str())
                    .fetch_one(self.lane.pool())
                    .await
                    .unwrap();
            let asof = self.model.asof();
            assert_eq!((epoch, seq, version), (asof.epoch, asof.seq, self.model.version(key)), "{at}: key {key}");
            assert_eq!(version, self.model.keys[key].now().version, "{at}: a version is the number of changes");
        }
    }
}

#[tokio::test]
async fn the_simulated_postgresql_answers_as_the_statements_do() {
    let postgres = testkit::Postgres::launch().await.unwrap();
    let database = Database::on(&postgres).await.unwrap();
    let lane = Lane::connect_lazy("relay", &database.url(), &LaneSettings::default()).unwrap();
    let mut rng = fastrand::Rng::with_seed(1);
    let mut seen = Seen::default();
    for round in 0..40 {
        let mut pair = Pair::new(lane.clone(), seen).await;
        for step in 0..60 {
            let at = format!("round {round}, step {step}");
            match rng.u8(0..16) {
                0..4 if pair.open.len() < OPEN => pair.begin(&mut rng).await,
                0..7 => pair.end(&mut rng).await,
                7 | 8 => pair.take(&mut rng, &at).await,
                9 => pair.pass().await,
                10 => pair.renew(&mut rng, &at).await,
                11 | 12 => pair.drain(&mut rng, &at).await,
                13 | 14 => pair.fold(&mut rng, &at).await,
                _ => pair.read(&at).await,
            }
            pair.now += MS;
        }
        seen = std::mem::take(&mut pair.seen);
    }
    println!("{seen:?}");
    let Seen { late, partial, folded, refused, taken, denied } = seen;
    assert!([late, partial, folded, refused, taken, denied].iter().all(|times| *times > 20), "{seen:?}");
    lane.close().await;
}
