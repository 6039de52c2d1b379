//! The cache as services see it: start it, read through it, tell it of writes, listen to changes.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chassis::postgres::Pool;
use chassis::stale;
use tokio_util::sync::DropGuard;
use tokio_util::task::TaskTracker;

use crate::boarding::{Boarded, Joined, Manner};
use crate::changes::{Change, Changes, Signal};
use crate::inner::Inner;
use crate::key::Key;
use crate::observer::{Observed, Op, Served, shadow};
use crate::redis::{self, Link};
use crate::settings::Settings;
use crate::{clock, meters, nats, own_writes, relay, silence, store};
use coherence::entry::last_known;
use coherence::floors::Demand;
use coherence::read::{Answer, Tier};
use coherence::time::Mono;

/// What a load gives; see [`Cache::get`].
pub type Loaded = coherence::read::Loaded<Bytes>;

/// A value that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The encoded body, as the load gave it; empty for what does not exist.
    pub body: Bytes,
    /// The version that determines the body; 0 for what does not exist.
    pub version: i64,
    /// Where it came from.
    pub tier: Tier,
}

impl Hit {
    /// Whether this says that the thing does not exist.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.version == 0 && self.body.is_empty()
    }

    fn served(&self, key: &Key, begun: Mono) -> Served {
        Served { key: key.clone(), begun, version: self.version, body: self.body.clone(), tier: self.tier }
    }
}

/// A cache can not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Redis URL can not be read.
    #[error("RUSHES_REDIS_URL should be a URL such as redis://host:6379")]
    RedisUrl(#[source] ::redis::RedisError),
}

/// One process's coherent cache; clones are the same cache.
#[derive(Clone)]
pub struct Cache {
    pub(crate) inner: Arc<Inner>,
    pub(crate) tasks: TaskTracker,
    /// Ends the background tasks when the last clone goes.
    _ends: Arc<DropGuard>,
}

impl Cache {
    /// Starts the cache and its background tasks. It connects to nothing before it must, and starts with everything
    /// away.
    ///
    /// `pool` is its own pool (see [`Settings::pool`]); without one it never relays, and validates by loading.
    ///
    /// # Errors
    /// The Redis URL can not be read.
    pub fn start(settings: Settings, pool: Option<Pool>, nats: Option<async_nats::Client>) -> Result<Self, Error> {
        let open = |patience| {
            let url = settings.redis_url.as_deref();
            url.map(|url| Link::new(url, patience)).transpose().map_err(Error::RedisUrl)
        };
        // The relay has a connection of its own: its server's name must be that of every apply and proof. It waits
        // longer than a reader would: a change that it could not apply costs the whole name space.
        let (readers, relays) = (open(settings.redis_patience)?, open(settings.redis_patience * 4)?);
        let inner = Arc::new(Inner::new(settings, pool, nats, readers));
        let ends = Arc::new(inner.stop.clone().drop_guard());
        let cache = Self { inner, tasks: TaskTracker::new(), _ends: ends };
        cache.background(relays);
        Ok(cache)
    }

    fn background(&self, link: Option<Link>) {
        let inner = || Arc::clone(&self.inner);
        self.tasks.spawn(clock::keep(inner()));
        self.tasks.spawn(silence::watch(inner()));
        if let Some(client) = &self.inner.nats {
            self.tasks.spawn(nats::listen(inner(), client.clone()));
            self.tasks.spawn(nats::peek::answer(inner(), client.clone()));
            if self.inner.pool.is_some() {
                self.tasks.spawn(nats::clock::answer(inner(), client.clone()));
            }
        }
        if let Some(pool) = self.inner.pool.clone().filter(|_| self.inner.settings.relay) {
            self.tasks.spawn(relay::lead(inner(), pool, link));
        }
        let watched = Arc::downgrade(&self.inner);
        chassis::telemetry::on_scrape(move || match watched.upgrade() {
            Some(inner) => {
                meters::proof_age(inner.proof_age());
                meters::l1_size(inner.l1.size());
                inner.observer.shown();
                true
            }
            None => false,
        });
    }

    /// Reads `key`: from this process, from Redis, or by `load`, and never below `least`, nor below what the
    /// token demands that the current call brought.
    ///
    /// `load` must read from the primary, in one statement (one snapshot): the data, its version, and `cache_clock`'s
    /// epoch and seq; see [`crate::outbox`]. It runs at most once, in a task of its own that outlives the caller, and
    /// for all who ask meanwhile.
    ///
    /// # Errors
    /// What `load` returned, its own or that of a load that was joined.
    pub async fn get<E, F, Fut>(&self, key: &Key, least: Option<i64>, load: F) -> Result<Hit, E>
    where
        E: Clone + Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded, E>> + Send + 'static,
    {
        let least = own_writes::Brought::now().least(key, least);
        let missed = match self.try_l1(key, least).await {
            Ok((hit, begun)) => {
                if self.inner.observer.picks() {
                    self.look(key, &hit, begun, load);
                }
                return Ok(hit);
            }
            Err(missed) => missed,
        };
        // A second flight is joined when the first failed or was too old for this reader; after that it flies itself.
        for last in [false, true] {
            let handle = match self.board::<E>(key, &missed, Manner::Alone) {
                Boarded::Joins(handle) => handle,
                Boarded::Flies(seat, handle) => return self.fly_alone(key, *seat, handle, load).await,
            };
            match self.join(key, handle, &missed).await {
                Joined::Served(answer) => {
                    let hit = self.hit(key, answer);
                    if hit.tier != Tier::Loaded && self.inner.observer.picks() {
                        self.look(key, &hit, missed.reader.begun, load);
                    }
                    return Ok(hit);
                }
                Joined::Failed(error) if last => return Err(error),
                Joined::Failed(_) | Joined::Useless => {}
            }
        }
        let (seat, handle) = self.depart::<E>(key, &missed, Manner::Alone);
        self.fly_alone(key, seat, handle, load).await
    }

    /// What this process last knew of `key`, for when it cannot be read: for a call that takes a stale answer, if what is held
    /// is not older than that call takes. Never below `least`, what the call's token demands, or what was shown here.
    pub async fn last_known(&self, key: &Key, least: Option<i64>) -> Option<Hit> {
        let most = stale::allowed()?;
        let inner = &*self.inner;
        let entry = inner.l1.get(key.as_str()).await?;
        let now = inner.now();
        let least = own_writes::Brought::now().least(key, least).unwrap_or(0);
        let floor = inner.shard(key.text()).floors.demand(key.text(), now);
        let demand = floor.and(Demand { version: least, since: Mono::PAST, ..Demand::NONE });
        let sight = inner.sight();
        let fresh = last_known(&entry, &sight.window, &sight.clock, demand, now)?;
        let age = now.since(fresh);
        if age > most {
            return None;
        }
        stale::tell(age);
        meters::stale(key.kind());
        Some(Hit { body: entry.body.clone(), version: entry.version, tier: Tier::L1 })
    }

    /// Reads many keys at once, with one `load` for all that no tier holds and nobody else is loading.
    ///
    /// `load` is given places in `wanted` and returns a value for each, in that order; the rules of [`Cache::get`]
    /// apply to it. It runs a second time only for keys whose joined flights failed or were too old.
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
        let mut joined = Vec::new();
        let mut flown = Vec::new();
        let brought = own_writes::Brought::now();
        let (mut picked, mut served) = (Vec::new(), Vec::new());
        for (place, (key, least)) in wanted.iter().enumerate() {
            let missed = match self.try_l1(key, brought.least(key, *least)).await {
                Ok((hit, begun)) => {
                    if self.inner.observer.picks() {
                        picked.push(place);
                        served.push(hit.served(key, begun));
                    }
                    hits[place] = Some(hit);
                    continue;
                }
                Err(missed) => missed,
            };
            match self.board::<E>(key, &missed, Manner::Together) {
                Boarded::Joins(handle) => joined.push((place, missed, handle)),
                Boarded::Flies(seat, handle) => flown.push((place, *seat, handle)),
            }
        }
        if !served.is_empty() {
            let load = load.clone();
            shadow::look(&self.inner, served, async move { load(picked).await });
        }
        self.fly_together(wanted, flown, &load, &mut hits).await?;
        let mut left = Vec::new();
        for (place, missed, handle) in joined {
            let key = &wanted[place].0;
            match self.join::<E>(key, handle, &missed).await {
                Joined::Served(answer) => hits[place] = Some(self.hit(key, answer)),
                Joined::Failed(_) | Joined::Useless => {
                    let (seat, handle) = self.depart::<E>(key, &missed, Manner::Together);
                    left.push((place, seat, handle));
                }
            }
        }
        self.fly_together(wanted, left, &load, &mut hits).await?;
        Ok(hits.into_iter().flatten().collect())
    }

    /// Tells the cache, after the commit and before the reply, that this process wrote `key` up to `version`.
    ///
    /// From its return on no read in this process gets an older version; Redis, the relay and the other processes are
    /// told in the background. Not to be called when the outcome of the commit is not known: the relay speaks then, if
    /// there is anything to say.
    pub async fn wrote(&self, key: &Key, version: i64) {
        self.inner.observer.records.note(key.as_str(), self.inner.now(), Op::Wrote { version });
        self.inner.raise(key.text(), version).await;
        self.inner.signal(Signal::Changed(Change { key: Arc::clone(key.text()), version }));
        self.spread(key, Some(version));
        own_writes::tell(key, version);
    }

    /// Tells the cache, after the commit and before the reply, that this process changed something in the aggregate
    /// `key`.
    ///
    /// Like [`Cache::wrote`], where the new version is not known: reads in this process see the change from its return
    /// on. Where the reply can carry a token this costs one statement, which tells the new version; if that fails, the
    /// write stands and its reply says nothing of this key.
    pub async fn touched(&self, key: &Key) {
        self.inner.fence(key.text()).await;
        self.spread(key, None);
        if !chassis::token::is_awaited() {
            return;
        }
        match self.version(key).await {
            Ok(Some(version)) => own_writes::tell(key, version),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, kind = key.kind(), "a reply goes without its token"),
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

    /// What the observer has found so far; see [`Settings::observe`].
    #[must_use]
    pub fn observed(&self) -> Observed {
        self.inner.observer.observed()
    }

    /// Ends the background tasks, and hands the relay's lease over if this process holds it. Reads go on, by loading.
    pub async fn close(&self) {
        self.inner.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Has the observer compare a hit with what the load, which was not needed, tells afterwards.
    #[cold]
    fn look<E, F, Fut>(&self, key: &Key, hit: &Hit, begun: Mono, load: F)
    where
        E: Send + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded, E>> + Send + 'static,
    {
        let truth = async move { load().await.map(|one| vec![one]) };
        shadow::look(&self.inner, vec![hit.served(key, begun)], truth);
    }

    pub(crate) fn hit(&self, key: &Key, answer: Answer<Bytes>) -> Hit {
        self.inner.meters.kind(key.kind()).answered(answer.tier);
        Hit { body: answer.entry.body, version: answer.entry.version, tier: answer.tier }
    }

    /// Tells Redis and the others in the background; a hint wakes the relay, wherever it runs.
    fn spread(&self, key: &Key, version: Option<i64>) {
        self.inner.wake.notify_one();
        let (inner, key) = (Arc::clone(&self.inner), key.clone());
        chassis::task::spawn(self.tasks.track_future(async move {
            if let Some(client) = inner.nats.as_ref().filter(|client| nats::is_up(client)) {
                let hint = nats::Hint { changes: vec![(Arc::clone(key.text()), version)] };
                let published = client.publish(nats::hints(&inner.settings.space), hint.encode());
                // Best effort: the relay looks by itself in a moment.
                let _ = tokio::time::timeout(inner.settings.tick, published).await;
            }
            if let Some(link) = &inner.redis
                && let Some(session) = link.session().await
            {
                let change = [(key.as_str(), version)];
                let apply = link.call("cache.apply", &session, async |connection| {
                    redis::apply(connection, &inner.names, None, change).await
                });
                apply.await;
            }
        }));
    }
}
