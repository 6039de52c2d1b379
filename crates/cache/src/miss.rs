//! Single-flight: on an L1 miss, join a running load or start one.
//!
//! Invariant: looking for a load and starting one are one step under the key's lock, so that readers that miss together load
//! once.

use std::any::TypeId;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::hit::{Hit, Loaded};
use crate::in_flight::{Handle, Outcome};
use crate::inner::{Inner, Shard};
use crate::key::{Class, Key};
use crate::load::{KeyLoad, LoadAll, run};
use crate::observer::Op;
use coherence::entry::{Entry, Freshness, freshness};
use coherence::in_flight::Reader;
use coherence::read::{Abilities, Answer, Read, Tier};
use coherence::time::Mono;
use coherence::watermarks::Requirement;

/// A reader that L1 does not serve.
pub(crate) struct Miss {
    pub(crate) reader: Reader,
    /// What L1 has, if it may be the newest.
    unproven: Option<Entry<Bytes>>,
}

/// Whether a load is of one key, and may wait for another process's load of it, or of many, which do not wait for one of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Batch {
    Alone,
    Together,
}

/// The load that a reader waits for.
pub(crate) enum JoinOrStart {
    Join(Handle),
    Start(Box<KeyLoad>, Handle),
}

/// The result of joining another reader's load.
pub(crate) enum Joined<E> {
    Served(Answer<Bytes>),
    Failed(E),
    /// Its answer is not good enough for this reader, or it never ended.
    Unusable,
}

impl Inner {
    /// L1's answer with the instant at which the reader began, or the miss. The requirement is what was known at that instant.
    pub(crate) async fn read_l1(&self, key: &Key, min_version: Option<i64>) -> Result<(Hit, Mono), Miss> {
        let begun = self.now();
        let known = self.shard(key.text()).watermarks.requirement(key.text(), begun);
        let requirement = known.and(Requirement::version(min_version.unwrap_or(0)));
        let Some(entry) = self.l1.get(key.as_str()).await else {
            return Err(Miss { reader: Reader::new(begun, requirement), unproven: None });
        };
        let view = self.view();
        let unproven = match freshness(&entry, &view.window, &view.clock, requirement, begun) {
            Freshness::Proven(_) => {
                self.counters.hit_l1(key.kind());
                let hit = Hit { body: entry.body.clone(), version: entry.version, tier: Tier::L1 };
                return Ok((hit, begun));
            }
            Freshness::Unproven => {
                self.observer.records.note(key.as_str(), begun, Op::Unproven { version: entry.version });
                Some(Entry::clone(&entry))
            }
            Freshness::TooOld => {
                self.observer.records.note(key.as_str(), begun, Op::TooOld { version: entry.version });
                if entry.version < requirement.min_version {
                    self.counters.kind(key.kind()).watermark_refusals.increment(1);
                }
                None
            }
        };
        Err(Miss { reader: Reader::new(begun, requirement), unproven })
    }

    /// Joins the newest load that can serve this reader, or starts one.
    pub(crate) fn join_or_start<E: 'static>(self: &Arc<Self>, key: &Key, miss: &Miss, batch: Batch) -> JoinOrStart {
        let mut shard = self.shard(key.text());
        let found = shard.in_flight.joinable(key.text(), miss.reader.requirement, self.now());
        // A load with another type of error could not tell this reader why it failed.
        if let Some(handle) = found.filter(|handle| handle.error == TypeId::of::<E>()) {
            return JoinOrStart::Join(handle.clone());
        }
        let (load, handle) = self.start_in::<E>(&mut shard, key, miss, batch);
        JoinOrStart::Start(Box::new(load), handle)
    }

    /// Starts a load, whatever else is in flight.
    pub(crate) fn start<E: 'static>(self: &Arc<Self>, key: &Key, miss: &Miss, batch: Batch) -> (KeyLoad, Handle) {
        self.start_in::<E>(&mut self.shard(key.text()), key, miss, batch)
    }

    fn start_in<E: 'static>(
        self: &Arc<Self>,
        shard: &mut Shard,
        key: &Key,
        miss: &Miss,
        batch: Batch,
    ) -> (KeyLoad, Handle) {
        let (finish, finished) = oneshot::channel::<Outcome>();
        let handle = Handle { error: TypeId::of::<E>(), outcome: finished.shared() };
        let now = self.now();
        let id = shard.in_flight.start(key.text(), handle.clone(), now);
        let validate = key.class() == Class::Aggregate && self.pool.is_some();
        let read = Read::new(miss.unproven.clone(), Abilities { validate, wait: batch == Batch::Alone });
        (KeyLoad::new(Arc::clone(self), key.clone(), id, miss.reader, now, read, finish), handle)
    }

    /// Waits for another reader's load.
    pub(crate) async fn join<E>(&self, key: &Key, handle: Handle, miss: &Miss) -> Joined<E>
    where
        E: Clone + Send + Sync + 'static,
    {
        self.counters.kind(key.kind()).joined.increment(1);
        match handle.outcome.await {
            Ok(Ok(answer)) if miss.reader.accepts(answer.entry.version, answer.fresh) => Joined::Served(answer),
            Ok(Err(error)) => error.downcast::<E>().map_or(Joined::Unusable, |error| Joined::Failed(E::clone(&error))),
            Ok(Ok(_)) | Err(_) => Joined::Unusable,
        }
    }

    /// Runs the load of one key.
    pub(crate) async fn load_one<E, F, Fut>(
        self: &Arc<Self>,
        key: &Key,
        one: KeyLoad,
        handle: Handle,
        load: F,
    ) -> Result<Hit, E>
    where
        E: Clone + Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded, E>> + Send + 'static,
    {
        let load: LoadAll<E> = Box::new(move |_| load().map(|loaded| loaded.map(|one| vec![one])).boxed());
        let task = self.spawn_load(vec![one], load);
        own_outcome(handle, task).await.map(|answer| self.hit(key, answer))
    }

    /// Runs one load of many keys, given with their places in `wanted` and `hits`.
    pub(crate) async fn load_many<E, F, Fut>(
        self: &Arc<Self>,
        wanted: &[(Key, Option<i64>)],
        started: Vec<(usize, KeyLoad, Handle)>,
        load: &F,
        hits: &mut [Option<Hit>],
    ) -> Result<(), E>
    where
        E: Clone + Send + Sync + 'static,
        F: Fn(Vec<usize>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = Result<Vec<Loaded>, E>> + Send + 'static,
    {
        if started.is_empty() {
            return Ok(());
        }
        let mut keys = Vec::with_capacity(started.len());
        let mut places = Vec::with_capacity(started.len());
        let mut handles = Vec::with_capacity(started.len());
        for (place, key, handle) in started {
            keys.push(key);
            places.push(place);
            handles.push(handle);
        }
        // The load knows places among its own keys; the caller's load is given places in `wanted`.
        let (load, of_keys) = (load.clone(), places.clone());
        let load: LoadAll<E> = Box::new(move |keys| load(keys.into_iter().map(|key| of_keys[key]).collect()).boxed());
        let task = self.spawn_load(keys, load);
        // All keys of the task end with it, so the first that has no answer has the reason for all.
        let mut running = Some(task);
        for (place, handle) in places.into_iter().zip(handles) {
            let answer = match handle.outcome.clone().await {
                Ok(Ok(answer)) => answer,
                _ => match running.take() {
                    Some(task) => own_outcome::<E>(handle, task).await?,
                    None => continue,
                },
            };
            hits[place] = Some(self.hit(&wanted[place].0, answer));
        }
        Ok(())
    }

    /// Detached: the reader may leave, and the answer still reaches the tiers and whoever joined.
    fn spawn_load<E>(self: &Arc<Self>, keys: Vec<KeyLoad>, load: LoadAll<E>) -> JoinHandle<()>
    where
        E: Clone + Send + Sync + 'static,
    {
        chassis::request::spawn(self.tasks.track_future(run(Arc::clone(self), keys, load)))
    }

    pub(crate) fn hit(&self, key: &Key, answer: Answer<Bytes>) -> Hit {
        self.counters.kind(key.kind()).answered(answer.tier);
        Hit { body: answer.entry.body, version: answer.entry.version, tier: answer.tier }
    }
}

/// The outcome of a load of one's own; a panic of the caller's load continues in the caller.
async fn own_outcome<E: Clone + Send + Sync + 'static>(
    handle: Handle,
    task: JoinHandle<()>,
) -> Result<Answer<Bytes>, E> {
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
        // The runtime is shutting down, and this task with it.
        _ => std::future::pending().await,
    }
}
