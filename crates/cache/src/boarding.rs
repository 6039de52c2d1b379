//! How a reader that L1 does not serve gets onto a flight: another reader's, or one of its own.
//!
//! Invariant: looking for a flight and starting one are one step under the key's lock, so that readers who miss
//! together load once.

use std::any::TypeId;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::cache::{Cache, Hit, Loaded};
use crate::flight::{Handle, LoadAll, Outcome, Seat, fly};
use crate::inner::Shard;
use crate::key::{Class, Key};
use crate::observer::Op;
use coherence::entry::{Entry, Verdict, judge};
use coherence::flights::Reader;
use coherence::floors::Demand;
use coherence::read::{Abilities, Answer, Read, Tier};
use coherence::time::Mono;

/// A reader that L1 does not serve.
pub(crate) struct Missed {
    pub(crate) reader: Reader,
    at_hand: Option<Entry<Bytes>>,
}

/// Whether a flight takes one key, and may wait for another process's load of it, or many, which do not wait for one of
/// them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Alone,
    Together,
}

/// Whose flight it is.
pub(crate) enum Boarded {
    Joins(Handle),
    Flies(Box<Seat>, Handle),
}

/// What became of joining another reader's flight.
pub(crate) enum Joined<E> {
    Served(Answer<Bytes>),
    Failed(E),
    /// Its answer does not serve this reader, or it never ended.
    Useless,
}

impl Cache {
    /// L1's answer, or what the reader demands of anyone else's. What is demanded is what was known when the reader
    /// began, which is told beside a hit.
    pub(crate) async fn try_l1(&self, key: &Key, least: Option<i64>) -> Result<(Hit, Mono), Missed> {
        let inner = &*self.inner;
        let begun = inner.now();
        let floor = inner.shard(key.text()).floors.demand(key.text(), begun);
        let demand = floor.and(Demand { version: least.unwrap_or(0), since: Mono::PAST, ..Demand::NONE });
        let Some(entry) = inner.l1.get(key.as_str()).await else {
            return Err(Missed { reader: Reader::new(begun, demand), at_hand: None });
        };
        let sight = inner.sight();
        let at_hand = match judge(&entry, &sight.window, &sight.clock, demand, begun) {
            Verdict::Serve(_) => {
                inner.meters.hit_l1(key.kind());
                let hit = Hit { body: entry.body.clone(), version: entry.version, tier: Tier::L1 };
                return Ok((hit, begun));
            }
            Verdict::Unproven => {
                inner.observer.records.note(key.as_str(), begun, Op::Unproven { version: entry.version });
                Some(Entry::clone(&entry))
            }
            Verdict::Useless => {
                inner.observer.records.note(key.as_str(), begun, Op::Useless { version: entry.version });
                if entry.version < demand.version {
                    inner.meters.kind(key.kind()).floored.increment(1);
                }
                None
            }
        };
        Err(Missed { reader: Reader::new(begun, demand), at_hand })
    }

    /// Joins the newest flight that can serve this reader, or starts one.
    pub(crate) fn board<E: 'static>(&self, key: &Key, missed: &Missed, manner: Manner) -> Boarded {
        let mut shard = self.inner.shard(key.text());
        let found = shard.flights.joinable(key.text(), missed.reader.demand, self.inner.now());
        if let Some(handle) = found.filter(|handle| handle.error == TypeId::of::<E>()) {
            return Boarded::Joins(handle.clone());
        }
        let (seat, handle) = self.take_off::<E>(&mut shard, key, missed, manner);
        Boarded::Flies(Box::new(seat), handle)
    }

    /// Starts a flight, whoever else flies.
    pub(crate) fn depart<E: 'static>(&self, key: &Key, missed: &Missed, manner: Manner) -> (Seat, Handle) {
        self.take_off::<E>(&mut self.inner.shard(key.text()), key, missed, manner)
    }

    fn take_off<E: 'static>(&self, shard: &mut Shard, key: &Key, missed: &Missed, manner: Manner) -> (Seat, Handle) {
        let (tell, told) = oneshot::channel::<Outcome>();
        let handle = Handle { error: TypeId::of::<E>(), outcome: told.shared() };
        let now = self.inner.now();
        let id = shard.flights.depart(key.text(), handle.clone(), now);
        let validate = key.class() == Class::Aggregate && self.inner.pool.is_some();
        let read = Read::new(missed.at_hand.clone(), Abilities { validate, wait: manner == Manner::Alone });
        (Seat::new(Arc::clone(&self.inner), key.clone(), id, missed, now, read, tell), handle)
    }

    /// Waits for another reader's flight.
    pub(crate) async fn join<E>(&self, key: &Key, handle: Handle, missed: &Missed) -> Joined<E>
    where
        E: Clone + Send + Sync + 'static,
    {
        self.inner.meters.kind(key.kind()).joined.increment(1);
        match handle.outcome.await {
            Ok(Ok(answer)) if missed.reader.accepts(answer.entry.version, answer.fresh) => Joined::Served(answer),
            Ok(Err(error)) => error.downcast::<E>().map_or(Joined::Useless, |error| Joined::Failed(E::clone(&error))),
            Ok(Ok(_)) | Err(_) => Joined::Useless,
        }
    }

    /// Flies with one key.
    pub(crate) async fn fly_alone<E, F, Fut>(&self, key: &Key, seat: Seat, handle: Handle, load: F) -> Result<Hit, E>
    where
        E: Clone + Send + Sync + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Loaded, E>> + Send + 'static,
    {
        let load: LoadAll<E> = Box::new(move |_| load().map(|loaded| loaded.map(|one| vec![one])).boxed());
        let task = self.launch(vec![seat], load);
        own(handle, task).await.map(|answer| self.hit(key, answer))
    }

    /// Flies with many keys, given with their places in `wanted` and `hits`.
    pub(crate) async fn fly_together<E, F, Fut>(
        &self,
        wanted: &[(Key, Option<i64>)],
        flown: Vec<(usize, Seat, Handle)>,
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
        for (place, seat, handle) in flown {
            seats.push(seat);
            places.push(place);
            handles.push(handle);
        }
        let (load, of_seats) = (load.clone(), places.clone());
        let load: LoadAll<E> =
            Box::new(move |seats| load(seats.into_iter().map(|seat| of_seats[seat]).collect()).boxed());
        let task = self.launch(seats, load);
        // All flights of the task end with it, so the first that has no answer tells why there is none.
        let mut waiting = Some(task);
        for (place, handle) in places.into_iter().zip(handles) {
            let answer = match handle.outcome.clone().await {
                Ok(Ok(answer)) => answer,
                _ => match waiting.take() {
                    Some(task) => own::<E>(handle, task).await?,
                    None => continue,
                },
            };
            hits[place] = Some(self.hit(&wanted[place].0, answer));
        }
        Ok(())
    }

    /// Detached: the reader may leave, and the answer still reaches the tiers and whoever joined.
    fn launch<E>(&self, seats: Vec<Seat>, load: LoadAll<E>) -> JoinHandle<()>
    where
        E: Clone + Send + Sync + 'static,
    {
        chassis::task::spawn(self.tasks.track_future(fly(Arc::clone(&self.inner), seats, load)))
    }
}

/// The outcome of a flight of one's own; a panic of the load goes on in its caller.
async fn own<E: Clone + Send + Sync + 'static>(handle: Handle, task: JoinHandle<()>) -> Result<Answer<Bytes>, E> {
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
