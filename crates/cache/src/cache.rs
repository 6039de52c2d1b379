//! The cache as services see it: start it, read through it, tell it of writes, listen to changes.

use std::any::TypeId;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chassis::postgres::Lane;
use futures::FutureExt as _;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::changes::{Changes, Change, Signal};
use crate::core::entry::{Entry, Verdict, judge};
use crate::core::flights::serves;
use crate::core::floors::Demand;
use crate::core::read::{Abilities, Answer, Read, Tier};
use crate::core::time::Mono;
use crate::flight::{Handle, LoadAll, Outcome, Seat, fly};
use crate::inner::Inner;
use crate::key::{Class, Key};
use crate::redis::{self, Link};
use crate::settings::Settings;
use crate::{clock, meters, nats, relay, store};

/// What a load gives; see [`Cache::get`].
pub type Loaded = crate::core::read::Loaded<Bytes>;

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
    inner: Arc<Inner>,
    tasks: TaskTracker,
}

/// What became of joining another reader's flight.
enum Joined<E> {
    Served(Answer<Bytes>),
    Failed(E),
    /// Its answer does not serve this reader, or it never ended.
    Useless,
}

impl Cache {
    /// Starts the cache and its background tasks. It connects to nothing before it must, and starts with everything away.
    ///
    /// `lane` is its own lane (see [`Settings::lane`]); without one it never relays, and validates by loading.
    ///
    /// # Errors
    /// The Redis URL can not be read.
    pub fn start(settings: Settings, lane: Option<Lane>, nats: Option<async_nats::Client>) -> Result<Self, Error> {
        let open = || {
            let url = settings.redis_url.as_deref();
            url.map(|url| Link::new(url, settings.redis_patience)).transpose().map_err(Error::RedisUrl)
        };
        // The relay has a connection of its own: its server's name must be that of every apply and proof.
        let (readers, relays) = (open()?, open()?);
        let cache = Self { inner: Arc::new(Inner::new(settings, lane, nats, readers)), tasks: TaskTracker::new() };
        cache.background(relays);
        Ok(cache)
    }

    fn background(&self, link: Option<Link>) {
        let inner = || Arc::clone(&self.inner);
        self.tasks.spawn(clock::keep(inner()));
        if let Some(client) = &self.inner.nats {
            self.tasks.spawn(nats::listen(inner(), client.clone()));
            if self.inner.lane.is_some() {
                self.tasks.spawn(nats::clock::answer(inner(), client.clone()));
            }
        }
        if let Some(lane) = self.inner.lane.clone().filter(|_| self.inner.settings.relay) {
            self.tasks.spawn(relay::lead(inner(), lane, link));
        }
        let watched = Arc::downgrade(&self.inner);
        chassis::telemetry::on_scrape(move || match watched.upgrade() {
            Some(inner) => {
                meters::proof_age(inner.proof_age());
                meters::l1_size(inner.l1.size());
                true
            }
            None => false,
        });
    }

    /// Reads `key`: from this process, from Redis, or by `load`, and never below `least`, the version of a caller's token.
    ///
    /// `load` must read from the primary, in one statement (one snapshot): the data, its version, and `cache_clock`'s epoch and seq;
    /// see [`crate::outbox`]. It runs at most once, in a task of its own that outlives the caller, and for all who ask meanwhile.
    ///
    /// # Errors
    /// What `load` returned, its own or that of a load that was joined.
    pub async fn get<E, F, Fut>(&self, key: &Key, least: Option<i64>, load: F) -> Result<Hit, E>
    where
        E: Clone + Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded, E>> + Send + 'static,
    {
        let (begun, demand, at_hand) = match self.from_l1(key, least).await {
            Ok(hit) => return Ok(hit),
            Err(missed) => missed,
        };
        let mut joins = 0;
        // A second flight is joined when the first failed or was too old for this reader; after that it flies itself.
        while joins < 2 {
            let Some(handle) = self.joinable::<E>(key, demand) else { break };
            joins += 1;
            self.inner.meters.kind(key.kind()).joined.increment(1);
            match self.join(handle, demand, begun).await {
                Joined::Served(answer) => return Ok(self.hit(key, answer)),
                Joined::Failed(error) if joins == 2 => return Err(error),
                Joined::Failed(_) | Joined::Useless => {}
            }
        }
        let (seat, handle) = self.depart::<E>(key, demand, begun, at_hand, true);
        let load: LoadAll<E> = Box::new(move |_| load().map(|loaded| loaded.map(|one| vec![one])).boxed());
        let task = self.launch(vec![seat], load);
        self.own::<E>(handle, task).await.map(|answer| self.hit(key, answer))
    }

    /// Reads many keys at once, with one `load` for all that no tier holds and nobody else is loading.
    ///
    /// `load` is given places in `wanted` and returns a value for each, in that order; the rules of [`Cache::get`] apply to it. It runs
    /// a second time only for keys whose joined flights failed or were too old.
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
        let mut missed = Vec::new();
        for (place, (key, least)) in wanted.iter().enumerate() {
            match self.from_l1(key, *least).await {
                Ok(hit) => hits[place] = Some(hit),
                Err((begun, demand, at_hand)) => missed.push((place, begun, demand, at_hand)),
            }
        }
        let mut joined = Vec::new();
        let mut flown = Vec::new();
        for (place, begun, demand, at_hand) in missed {
            match self.joinable::<E>(&wanted[place].0, demand) {
                Some(handle) => joined.push((place, begun, demand, handle)),
                None => flown.push((place, begun, demand, at_hand)),
            }
        }
        self.fly_many(wanted, flown, &load, &mut hits).await?;
        let mut left = Vec::new();
        for (place, begun, demand, handle) in joined {
            let key = &wanted[place].0;
            self.inner.meters.kind(key.kind()).joined.increment(1);
            match self.join::<E>(handle, demand, begun).await {
                Joined::Served(answer) => hits[place] = Some(self.hit(key, answer)),
                Joined::Failed(_) | Joined::Useless => left.push((place, begun, demand, None)),
            }
        }
        self.fly_many(wanted, left, &load, &mut hits).await?;
        Ok(hits.into_iter().flatten().collect())
    }

    /// Tells the cache, after the commit and before the reply, that this process wrote `key` up to `version`.
    ///
    /// From its return on no read in this process gets an older version; Redis, the relay and the other processes are told in the
    /// background. Not to be called when the outcome of the commit is not known: the relay speaks then, if there is anything to say.
    pub async fn wrote(&self, key: &Key, version: i64) {
        self.inner.raise(key.text(), version).await;
        self.inner.signal(Signal::Changed(Change { key: Arc::clone(key.text()), version }));
        self.spread(key, Some(version));
    }

    /// Tells the cache, after the commit and before the reply, that this process changed something in the aggregate `key`.
    ///
    /// Like [`Cache::wrote`], where the new version is not known: reads in this process see the change from its return on.
    pub async fn touched(&self, key: &Key) {
        self.inner.fence(key.text()).await;
        self.spread(key, None);
    }

    /// The version of an aggregate now, for a token: one statement, at least as new as every commit that this process has made.
    ///
    /// # Errors
    /// What PostgreSQL answered. Nothing if this process has no database.
    pub async fn version(&self, key: &Key) -> Result<Option<i64>, chassis::postgres::Error> {
        let Some(lane) = &self.inner.lane else { return Ok(None) };
        let (versions, _) = store::versions(lane, &[key.as_str().to_owned()]).await?;
        Ok(versions.first().copied())
    }

    /// A listener to all changes, of this process and of all others. One per process is enough; it is fed from one subscription.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes(self.inner.signals.subscribe())
    }

    /// The age of the proof under which L1 answers; nothing while there is none.
    #[must_use]
    pub fn proof_age(&self) -> Option<Duration> {
        self.inner.proof_age()
    }

    /// Ends the background tasks, and hands the relay's lease over if this process holds it. Reads go on, by loading.
    pub async fn close(&self) {
        self.inner.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    async fn from_l1(&self, key: &Key, least: Option<i64>) -> Result<Hit, (Mono, Demand, Option<Entry<Bytes>>)> {
        let inner = &*self.inner;
        let now = inner.now();
        let floor = inner.shard(key.text()).floors.demand(key.text(), now);
        let demand = floor.and(Demand { version: least.unwrap_or(0), since: Mono::PAST });
        let Some(entry) = inner.l1.get(key.as_str()).await else {
            return Err((now, demand, None));
        };
        let sight = inner.sight();
        match judge(&entry, &sight.window, &sight.clock, demand, now) {
            Verdict::Serve(_) => {
                inner.meters.kind(key.kind()).answered(Tier::L1);
                Ok(Hit { body: entry.body.clone(), version: entry.version, tier: Tier::L1 })
            }
            Verdict::Unproven => Err((now, demand, Some(Entry::clone(&entry)))),
            Verdict::Useless => {
                if entry.version < demand.version {
                    inner.meters.kind(key.kind()).floored.increment(1);
                }
                Err((now, demand, None))
            }
        }
    }

    fn joinable<E: 'static>(&self, key: &Key, demand: Demand) -> Option<Handle> {
        let now = self.inner.now();
        let shard = self.inner.shard(key.text());
        shard.flights.joinable(key.text(), demand, now).filter(|handle| handle.error == TypeId::of::<E>()).cloned()
    }

    async fn join<E: Clone + 'static>(&self, handle: Handle, demand: Demand, begun: Mono) -> Joined<E>
    where
        E: Send + Sync,
    {
        match handle.outcome.await {
            Ok(Ok(answer)) if serves(answer.entry.version, answer.fresh, demand, begun) => Joined::Served(answer),
            Ok(Err(error)) => error.downcast::<E>().map_or(Joined::Useless, |error| Joined::Failed(E::clone(&error))),
            Ok(Ok(_)) | Err(_) => Joined::Useless,
        }
    }

    fn depart<E: 'static>(
        &self,
        key: &Key,
        demand: Demand,
        begun: Mono,
        at_hand: Option<Entry<Bytes>>,
        wait: bool,
    ) -> (Seat, Handle) {
        let (tell, told) = oneshot::channel::<Outcome>();
        let handle = Handle { error: TypeId::of::<E>(), outcome: told.shared() };
        let id = self.inner.shard(key.text()).flights.depart(key.text(), handle.clone(), begun);
        let validate = key.class() == Class::Aggregate && self.inner.lane.is_some();
        let read = Read::new(at_hand, Abilities { validate, wait });
        (Seat::new(Arc::clone(&self.inner), key.clone(), id, demand, begun, read, tell), handle)
    }

    fn launch<E>(&self, seats: Vec<Seat>, load: LoadAll<E>) -> JoinHandle<()>
    where
        E: Clone + Send + Sync + 'static,
    {
        chassis::task::spawn(self.tasks.track_future(fly(Arc::clone(&self.inner), seats, load)))
    }

    /// The outcome of a flight of one's own; a panic of the load goes on in its caller.
    async fn own<E: Clone + Send + Sync + 'static>(&self, handle: Handle, task: JoinHandle<()>) -> Result<Answer<Bytes>, E> {
        match handle.outcome.await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => {
                if let Ok(error) = error.downcast::<E>() {
                    return Err(E::clone(&error));
                }
            }
            Err(_) => {}
        }
        match task.await {
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is being shut down, and this task with it.
            _ => std::future::pending().await,
        }
    }

    async fn fly_many<E, F, Fut>(
        &self,
        wanted: &[(Key, Option<i64>)],
        flown: Vec<(usize, Mono, Demand, Option<Entry<Bytes>>)>,
        load: &F,
        hits: &mut [Option<Hit>],
    ) -> Result<(), E>
    where
        E: Clone + Send + Sync + 'static,
        F: Fn(Vec<usize>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<Vec<Loaded>, E>> + Send + 'static,
    {
        if flown.is_empty() {
            return Ok(());
        }
        let mut seats = Vec::with_capacity(flown.len());
        let mut places = Vec::with_capacity(flown.len());
        let mut handles = Vec::with_capacity(flown.len());
        for (place, begun, demand, at_hand) in flown {
            let (seat, handle) = self.depart::<E>(&wanted[place].0, demand, begun, at_hand, false);
            seats.push(seat);
            handles.push(handle);
            places.push(place);
        }
        let (load, asked) = (load.clone(), places.clone());
        let load: LoadAll<E> =
            Box::new(move |seats| load(seats.into_iter().map(|seat| asked[seat]).collect()).boxed());
        let task = self.launch(seats, load);
        let outcomes = futures::future::join_all(handles.iter().map(|handle| handle.outcome.clone())).await;
        // A lost outcome is a load that panicked: let the one who asked for it see that.
        if let Some(lost) = outcomes.iter().position(Result::is_err) {
            return self.own::<E>(handles.swap_remove(lost), task).await.map(drop);
        }
        for ((place, handle), outcome) in places.into_iter().zip(handles).zip(outcomes) {
            let answer = match outcome {
                Ok(Ok(answer)) => answer,
                _ => return self.own::<E>(handle, task).await.map(drop),
            };
            hits[place] = Some(self.hit(&wanted[place].0, answer));
        }
        Ok(())
    }

    fn hit(&self, key: &Key, answer: Answer<Bytes>) -> Hit {
        self.inner.meters.kind(key.kind()).answered(answer.tier);
        Hit { body: answer.entry.body, version: answer.entry.version, tier: answer.tier }
    }

    /// Tells Redis and the others in the background; a hint wakes the relay, wherever it runs.
    fn spread(&self, key: &Key, version: Option<i64>) {
        self.inner.wake.notify_one();
        let (inner, key) = (Arc::clone(&self.inner), key.clone());
        chassis::task::spawn(self.tasks.track_future(async move {
            if let Some(client) = &inner.nats {
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
                    redis::apply(connection, &inner.names, change).await
                });
                apply.await;
            }
        }));
    }
}
