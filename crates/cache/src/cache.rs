//! The cache as services see it: start it, read through it, tell it of writes, listen to changes.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chassis::postgres::Pool;
use chassis::request::{self, staleness, token};
use tokio_util::sync::DropGuard;

use crate::changes::{Change, Changes, Signal};
use crate::checks::{replica_probe, shadow_read};
use crate::hit::{Hit, Loaded};
use crate::inner::Inner;
use crate::key::Key;
use crate::miss::{Batch, JoinOrStart, Joined};
use crate::observer::{Observed, Op, Served};
use crate::own_writes::{self, Brought};
use crate::redis::{self, Link};
use crate::settings::Settings;
use crate::{clock, metrics, nats, relay, store, unresponsive};
use coherence::entry::last_known;
use coherence::read::Tier;
use coherence::time::Mono;
use coherence::token::Token;
use coherence::watermarks::Requirement;

/// A cache cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Redis URL, or a file that it names, cannot be read.
    #[error(transparent)]
    RedisUrl(#[from] chassis::settings::Error),
}

/// One process's coherent cache; clones are the same cache.
#[derive(Clone)]
pub struct Cache {
    pub(crate) inner: Arc<Inner>,
    /// Ends the background tasks when the last clone is dropped.
    _ends: Arc<DropGuard>,
}

impl Cache {
    /// Starts the cache and its background tasks. It connects to nothing before it must, and starts with every server
    /// unreachable.
    ///
    /// `pool` is its own pool (see [`Settings::pool`]); without one it never relays, and validates by loading.
    ///
    /// # Errors
    /// The Redis URL cannot be read.
    pub fn start(settings: Settings, pool: Option<Pool>, nats: Option<async_nats::Client>) -> Result<Self, Error> {
        let open = |timeout| {
            let url = settings.redis_url.as_deref();
            url.map(|url| Link::new(url, timeout)).transpose()
        };
        // The relay has a connection of its own: the server that was named on it must be that of every apply and proof. It waits
        // longer than a reader would: a change that it could not apply costs the whole name space.
        let (readers, relays) = (open(settings.redis_timeout)?, open(settings.redis_timeout * 4)?);
        let inner = Arc::new(Inner::new(settings, pool, nats, readers));
        let ends = Arc::new(inner.stop.clone().drop_guard());
        let cache = Self { inner, _ends: ends };
        cache.spawn_tasks(relays);
        Ok(cache)
    }

    fn spawn_tasks(&self, link: Option<Link>) {
        let inner = || Arc::clone(&self.inner);
        let tasks = &self.inner.tasks;
        tasks.spawn(clock::keep(inner()));
        tasks.spawn(unresponsive::watch(inner()));
        if let Some(client) = &self.inner.nats {
            tasks.spawn(nats::listen(inner(), client.clone()));
            tasks.spawn(replica_probe::serve(inner(), client.clone()));
            if self.inner.pool.is_some() {
                tasks.spawn(nats::clock::serve(inner(), client.clone()));
            }
        }
        if let Some(pool) = self.inner.pool.clone().filter(|_| self.inner.settings.relay) {
            tasks.spawn(relay::lead(inner(), pool, link));
        }
        let observed = Arc::downgrade(&self.inner);
        chassis::telemetry::on_scrape(move || match observed.upgrade() {
            Some(inner) => {
                metrics::proof_age(inner.proof_age());
                metrics::l1_size(inner.l1.size());
                inner.observer.set_gauges();
                true
            }
            None => false,
        });
    }

    /// Reads `key`: from this process, from Redis, or by `load`, and never below `min_version`, nor below what the token requires
    /// that the current call brought.
    ///
    /// `load` must read from the primary, in one statement (one snapshot): the data, its version, and `cache_clock`'s
    /// epoch and seq; see [`crate::outbox`]. It runs at most once, in a task of its own that outlives the caller, and
    /// for all who ask meanwhile.
    ///
    /// # Errors
    /// What `load` returned, its own or that of a load that was joined.
    pub async fn get<E, F, Fut>(&self, key: &Key, min_version: Option<i64>, load: F) -> Result<Hit, E>
    where
        E: Clone + Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded, E>> + Send + 'static,
    {
        let min_version = Brought::now().min_version(key, min_version);
        let miss = match self.inner.read_l1(key, min_version).await {
            Ok((hit, begun)) => {
                if self.inner.observer.picks() {
                    self.shadow_read(key, &hit, begun, load);
                }
                return Ok(hit);
            }
            Err(miss) => miss,
        };
        // A second load is joined when the first failed or was too old for this reader; after that the reader starts its own.
        for last in [false, true] {
            let handle = match self.inner.join_or_start::<E>(key, &miss, Batch::Alone) {
                JoinOrStart::Join(handle) => handle,
                JoinOrStart::Start(one, handle) => return self.inner.load_one(key, *one, handle, load).await,
            };
            match self.inner.join(key, handle, &miss).await {
                Joined::Served(answer) => {
                    let hit = self.inner.hit(key, answer);
                    if hit.tier != Tier::Loaded && self.inner.observer.picks() {
                        self.shadow_read(key, &hit, miss.reader.begun, load);
                    }
                    return Ok(hit);
                }
                Joined::Failed(error) if last => return Err(error),
                Joined::Failed(_) | Joined::Unusable => {}
            }
        }
        let (one, handle) = self.inner.start::<E>(key, &miss, Batch::Alone);
        self.inner.load_one(key, one, handle, load).await
    }

    /// What this process last knew of `key`, for when it cannot be read: for a call that accepts a stale answer, if the entry is
    /// not older than that call accepts. Never below `min_version`, what the call's token requires, or what was answered here.
    pub async fn last_known(&self, key: &Key, min_version: Option<i64>) -> Option<Hit> {
        let max_age = staleness::accepted()?;
        let inner = &*self.inner;
        let entry = inner.l1.get(key.as_str()).await?;
        let now = inner.now();
        let min_version = Brought::now().min_version(key, min_version).unwrap_or(0);
        let known = inner.shard(key.text()).watermarks.requirement(key.text(), now);
        let requirement = known.and(Requirement::version(min_version));
        let view = inner.view();
        let fresh = last_known(&entry, &view.window, &view.clock, requirement, now)?;
        let age = now.since(fresh);
        if age > max_age {
            return None;
        }
        staleness::report_age(age);
        metrics::stale_answer(key.kind());
        Some(Hit { body: entry.body.clone(), version: entry.version, tier: Tier::L1 })
    }

    /// Reads many keys at once, with one `load` for all that no tier has and nobody else is loading.
    ///
    /// `load` is given places in `wanted` and returns a value for each, in that order; the rules of [`Cache::get`]
    /// apply to it. It runs a second time only for keys whose joined loads failed or were too old.
    ///
    /// # Errors
    /// What `load` returned.
    pub async fn get_many<E, F, Fut>(&self, wanted: &[(Key, Option<i64>)], load: F) -> Result<Vec<Hit>, E>
    where
        E: Clone + Send + Sync + 'static,
        F: Fn(Vec<usize>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<Vec<Loaded>, E>> + Send + 'static,
    {
        let mut hits: Vec<Option<Hit>> = vec![None; wanted.len()];
        let (mut joined, mut started) = (Vec::new(), Vec::new());
        let (mut picked, mut observed) = (Vec::new(), Vec::new());
        let brought = Brought::now();
        for (place, (key, min_version)) in wanted.iter().enumerate() {
            let miss = match self.inner.read_l1(key, brought.min_version(key, *min_version)).await {
                Ok((hit, begun)) => {
                    if self.inner.observer.picks() {
                        picked.push(place);
                        observed.push(served(key, &hit, begun));
                    }
                    hits[place] = Some(hit);
                    continue;
                }
                Err(miss) => miss,
            };
            match self.inner.join_or_start::<E>(key, &miss, Batch::Together) {
                JoinOrStart::Join(handle) => joined.push((place, miss, handle)),
                JoinOrStart::Start(one, handle) => started.push((place, *one, handle)),
            }
        }
        if !observed.is_empty() {
            let load = load.clone();
            shadow_read::begin(&self.inner, observed, async move { load(picked).await });
        }
        // Its own load first: it may be what another batch has joined that this one waits for below.
        self.inner.load_many(wanted, started, &load, &mut hits).await?;
        let mut again = Vec::new();
        for (place, miss, handle) in joined {
            let key = &wanted[place].0;
            match self.inner.join::<E>(key, handle, &miss).await {
                Joined::Served(answer) => hits[place] = Some(self.inner.hit(key, answer)),
                Joined::Failed(_) | Joined::Unusable => {
                    let (one, handle) = self.inner.start::<E>(key, &miss, Batch::Together);
                    again.push((place, one, handle));
                }
            }
        }
        self.inner.load_many(wanted, again, &load, &mut hits).await?;
        Ok(hits.into_iter().flatten().collect())
    }

    /// Tells the cache, after the commit and before the reply, that this process wrote `key` up to `version`.
    ///
    /// From its return on no read in this process gets an older version; Redis, the relay and the other processes are
    /// notified in the background. Not to be called when the outcome of the commit is not known: the relay publishes the change then,
    /// if there is one.
    pub async fn wrote(&self, key: &Key, version: i64) {
        self.raise(key, version).await;
        self.spread(&[(key, Some(version))]);
        own_writes::add_to_reply(key, version);
    }

    /// [`Cache::wrote`] of a key that the aggregate `whole` shows, and [`Cache::touched`] of that: one message tells of both.
    pub async fn wrote_part(&self, key: &Key, version: i64, whole: &Key) {
        self.raise(key, version).await;
        self.inner.put_barrier(whole.text()).await;
        self.spread(&[(key, Some(version)), (whole, None)]);
        own_writes::add_to_reply(key, version);
        self.add_aggregate_to_reply(whole).await;
    }

    /// Tells the cache, after the commit and before the reply, that this process changed something in the aggregate
    /// `key`.
    ///
    /// Like [`Cache::wrote`], where the new version is not known: reads in this process see the change from its return
    /// on. Where the reply can carry a token this costs one statement, for the new version; if that fails, the
    /// write stays committed and its reply has no token for this key.
    pub async fn touched(&self, key: &Key) {
        self.inner.put_barrier(key.text()).await;
        self.spread(&[(key, None)]);
        self.add_aggregate_to_reply(key).await;
    }

    async fn raise(&self, key: &Key, version: i64) {
        self.inner.observer.records.note(key.as_str(), self.inner.now(), Op::Wrote { version });
        self.inner.raise(key.text(), version).await;
        self.inner.signal(Signal::Changed(Change { key: Arc::clone(key.text()), version }));
    }

    async fn add_aggregate_to_reply(&self, key: &Key) {
        if !token::is_expected() {
            return;
        }
        match self.version(key).await {
            Ok(Some(version)) => own_writes::add_to_reply(key, version),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, kind = key.kind(), "a write's reply has no token for its aggregate"),
        }
    }

    /// The version of an aggregate now, for a token: one statement, at least as new as every commit that this process
    /// has made.
    ///
    /// # Errors
    /// What PostgreSQL answered. Nothing if this process has no database.
    pub async fn version(&self, key: &Key) -> Result<Option<i64>, chassis::postgres::Error> {
        let Some(pool) = &self.inner.pool else { return Ok(None) };
        let (versions, _) = store::versions(pool, &[key.as_str().to_owned()]).await?;
        Ok(versions.first().copied())
    }

    /// A listener to all changes, of this process and of all others. One per process is enough; it is fed from one
    /// subscription.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes(self.inner.signals.subscribe())
    }

    /// The age of the proof under which L1 answers; nothing while there is none.
    #[must_use]
    pub fn proof_age(&self) -> Option<Duration> {
        self.inner.proof_age()
    }

    /// Whether L1 can answer at all: a proof is there and young enough.
    #[must_use]
    pub fn is_proving(&self) -> bool {
        self.proof_age().is_some_and(|age| age < coherence::BOUND)
    }

    /// Takes note that another process's answer of this version was passed on for `key`: nothing older is served here from now on.
    /// Of one that says no version nothing is known but that it is not newer than now.
    pub async fn passed_on(&self, key: &Key, version: Option<i64>) {
        match version {
            Some(version) => self.inner.raise(key.text(), version).await,
            None => self.inner.put_barrier(key.text()).await,
        }
    }

    /// The token that keeps another process's answer for `key` from being below `min_version`, or older than one that was given here.
    /// Nothing where no token can: it was answered here that the key does not exist.
    #[must_use]
    pub fn token(&self, key: &Key, min_version: Option<i64>) -> Option<Token> {
        let known = self.inner.shard(key.text()).watermarks.requirement(key.text(), self.inner.now());
        if known.barrier != Mono::PAST || known.absence_barrier != Mono::PAST {
            return None;
        }
        let mut token = Token::default();
        let version = known.min_version.max(min_version.unwrap_or(0));
        if version > 0 {
            token.mark(key.as_str(), version);
        }
        Some(token)
    }

    /// What the observer has found so far; see [`Settings::observe`].
    #[must_use]
    pub fn observed(&self) -> Observed {
        self.inner.observer.observed()
    }

    /// Ends the background tasks, and releases the relay's lease if this process has it. Reads go on, by loading.
    pub async fn close(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    /// Has the observer compare a hit with what the load, which was not needed, returns afterwards.
    #[cold]
    fn shadow_read<E, F, Fut>(&self, key: &Key, hit: &Hit, begun: Mono, load: F)
    where
        E: Send + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded, E>> + Send + 'static,
    {
        let truth = async move { load().await.map(|one| vec![one]) };
        shadow_read::begin(&self.inner, vec![served(key, hit, begun)], truth);
    }

    /// Notifies Redis and the others in the background; a hint wakes the relay, wherever it runs.
    fn spread(&self, changes: &[(&Key, Option<i64>)]) {
        self.inner.wake.notify_one();
        let inner = Arc::clone(&self.inner);
        let changes: Vec<_> = changes.iter().map(|(key, version)| (Arc::clone(key.text()), *version)).collect();
        request::spawn(self.inner.tasks.track_future(async move {
            if let Some(client) = inner.nats.as_ref().filter(|client| nats::is_up(client)) {
                let hint = nats::Hint { changes: changes.clone() };
                let published = chassis::nats::publish(client, nats::hints(&inner.settings.space), hint.encode());
                // Best effort: the relay drains the outbox by itself within its tick.
                let _ = tokio::time::timeout(inner.settings.tick, published).await;
            }
            if let Some(link) = &inner.redis
                && let Some(session) = link.session().await
            {
                let apply = link.call("cache.apply", &session, async |connection| {
                    let changes = changes.iter().map(|(key, version)| (&**key, *version));
                    redis::apply(connection, &inner.names, None, changes).await
                });
                // Best effort as well: the relay applies the changes before it gives Redis the next proof.
                apply.await;
            }
        }));
    }
}

fn served(key: &Key, hit: &Hit, begun: Mono) -> Served {
    Served { key: key.clone(), begun, version: hit.version, body: hit.body.clone(), tier: hit.tier }
}
