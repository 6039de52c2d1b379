//! Flights: the detached task that takes one or several keys from a miss to an answer.
//!
//! The steps are [`Read`]'s; this file asks Redis, PostgreSQL and the caller's load what the steps want to know, all
//! keys of a flight together. Invariant: whatever becomes of the task, its flights are taken off the table when it
//! ends.

use std::any::{Any, TypeId};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{BoxFuture, Shared};
use tokio::sync::oneshot;

use crate::boarding::Missed;
use crate::inner::Inner;
use crate::key::Key;
use crate::observer::{Op, Served, shadow};
use crate::{meters, redis, store};
use coherence::entry::{Entry, Verdict, admits, judge};
use coherence::flights::{FlightId, Reader};
use coherence::floors::Demand;
use coherence::read::{Answer, Fill, L2, Loaded, Read, Step, Tier};
use coherence::time::Mono;

/// What a flight ends with: an answer, or the load's error, of the type that the handle names.
pub(crate) type Outcome = Result<Answer<Bytes>, Arc<dyn Any + Send + Sync>>;

/// What a joiner waits on.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(crate) error: TypeId,
    pub(crate) outcome: Shared<oneshot::Receiver<Outcome>>,
}

/// One key on a flight.
pub(crate) struct Seat {
    inner: Arc<Inner>,
    key: Key,
    id: FlightId,
    demand: Demand,
    begun: Mono,
    started: Mono,
    read: Read<Bytes>,
    next: Next,
    tell: Option<oneshot::Sender<Outcome>>,
    /// What it was answered without a load, for the observer.
    served: Option<Served>,
}

/// What a seat waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    L2,
    Wait,
    Version,
    Load,
    Done,
}

/// What the caller's load is asked for, as places among the flight's keys, and what it gives.
pub(crate) type LoadAll<E> = Box<dyn FnOnce(Vec<usize>) -> BoxFuture<'static, Result<Vec<Loaded<Bytes>>, E>> + Send>;

impl Seat {
    pub(crate) fn new(
        inner: Arc<Inner>,
        key: Key,
        id: FlightId,
        missed: &Missed,
        started: Mono,
        read: Read<Bytes>,
        tell: oneshot::Sender<Outcome>,
    ) -> Self {
        let Reader { begun, demand, .. } = missed.reader;
        Self { inner, key, id, demand, begun, started, read, next: Next::L2, tell: Some(tell), served: None }
    }

    /// Another flight may have landed between this reader's look at L1 and its departure.
    async fn look_again(&mut self) {
        let Some(entry) = self.inner.l1.get(self.key.as_str()).await else { return };
        let now = self.inner.now();
        let sight = **self.inner.sight();
        if let Verdict::Serve(fresh) = judge(&entry, &sight.window, &sight.clock, self.demand, now) {
            let entry = Entry::clone(&entry);
            self.observe(&entry, Tier::L1);
            self.tell(Ok(Answer { entry, fresh, tier: Tier::L1, fill: None, keep: false }));
        }
    }

    /// Takes the next step; an answer is kept and told, and what Redis is to be filled with is returned.
    async fn take(&mut self, step: Step<Bytes>) -> Option<(Fill, Answer<Bytes>)> {
        self.next = match step {
            Step::AskL2 => Next::L2,
            Step::Wait => Next::Wait,
            Step::Validate => Next::Version,
            Step::Load => Next::Load,
            Step::Answer(answer) => return self.answer(answer).await,
        };
        None
    }

    async fn answer(&mut self, answer: Answer<Bytes>) -> Option<(Fill, Answer<Bytes>)> {
        self.next = Next::Done;
        let inner = &self.inner;
        let text = self.key.text();
        let now = inner.now();
        inner.shard(text).floors.settle(text, answer.entry.version, answer.fresh, now);
        if answer.keep {
            let (fresh, started) = (answer.fresh, self.started);
            inner
                .l1
                .offer(text, answer.entry.clone(), |old, new| {
                    let now = inner.now();
                    admits(old, new, fresh, &inner.shard(text).floors, text, started, now)
                })
                .await;
        }
        let op = Op::Answered { version: answer.entry.version, tier: answer.tier, fresh: answer.fresh };
        inner.observer.records.note(text, now, op);
        self.observe(&answer.entry, answer.tier);
        let fill = answer.fill.map(|fill| (fill, answer.clone()));
        self.tell(Ok(answer));
        fill
    }

    /// Remembers what is answered from a tier if the observer picks it.
    fn observe(&mut self, entry: &Entry<Bytes>, tier: Tier) {
        if tier != Tier::Loaded && self.inner.observer.picks() {
            let (version, body) = (entry.version, entry.body.clone());
            self.served = Some(Served { key: self.key.clone(), begun: self.begun, version, body, tier });
        }
    }

    fn tell(&mut self, outcome: Outcome) {
        self.next = Next::Done;
        // Off the table before it is told: whoever comes now finds L1, or begins anew.
        self.inner.shard(self.key.text()).flights.land(self.key.text(), self.id);
        if let Some(tell) = self.tell.take() {
            // Nobody waits any more: the answer is in the tiers.
            let _ = tell.send(outcome);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.tell.is_some() {
            self.inner.shard(self.key.text()).flights.land(self.key.text(), self.id);
        }
    }
}

/// Flies until every seat is answered, then fills Redis.
pub(crate) async fn fly<E>(inner: Arc<Inner>, mut seats: Vec<Seat>, load: LoadAll<E>)
where
    E: Clone + Send + Sync + 'static,
{
    let mut fills = Vec::new();
    for seat in &mut seats {
        seat.look_again().await;
    }
    loop {
        if waiting(&seats, Next::L2) {
            ask_l2(&inner, &mut seats, &mut fills).await;
        } else if waiting(&seats, Next::Wait) {
            tokio::time::sleep(Duration::from_millis(5) + Duration::from_millis(45).mul_f64(fastrand::f64())).await;
            for seat in seats.iter_mut().filter(|seat| seat.next == Next::Wait) {
                seat.next = Next::L2;
            }
        } else if waiting(&seats, Next::Version) {
            validate(&inner, &mut seats, &mut fills).await;
        } else {
            break;
        }
    }
    if waiting(&seats, Next::Load) {
        load_rest(&inner, &mut seats, load, &mut fills).await;
    } else {
        observe(&inner, &mut seats, load);
    }
    fill(&inner, &seats, fills).await;
}

/// The load that was not needed tells the truth of what the observer has picked.
fn observe<E: Send + 'static>(inner: &Arc<Inner>, seats: &mut [Seat], load: LoadAll<E>) {
    let (mut places, mut served) = (Vec::new(), Vec::new());
    for (place, seat) in seats.iter_mut().enumerate() {
        if let Some(one) = seat.served.take() {
            places.push(place);
            served.push(one);
        }
    }
    if !served.is_empty() {
        shadow::look(inner, served, async move { load(places).await });
    }
}

type Fills = Vec<(usize, Fill, Answer<Bytes>)>;

fn waiting(seats: &[Seat], next: Next) -> bool {
    seats.iter().any(|seat| seat.next == next)
}

fn places(seats: &[Seat], next: Next) -> Vec<usize> {
    seats.iter().enumerate().filter(|(_, seat)| seat.next == next).map(|(place, _)| place).collect()
}

async fn ask_l2(inner: &Inner, seats: &mut [Seat], fills: &mut Fills) {
    let places = places(seats, Next::L2);
    let asked = inner.now();
    let mut replies = replies(inner, seats, &places).await.into_iter();
    for place in places {
        let seat = &mut seats[place];
        let reply = replies.next().unwrap_or(L2::Unavailable);
        match &reply {
            L2::Busy => meters::lease_denied(),
            L2::Hit(hit) if hit.version < seat.demand.version => {
                inner.meters.kind(seat.key.kind()).floored.increment(1);
            }
            _ => {}
        }
        let clock = inner.sight().clock;
        let step = seat.read.on_l2(reply, &clock, seat.demand, asked, inner.now());
        fills.extend(seat.take(step).await.map(|(fill, answer)| (place, fill, answer)));
    }
}

async fn replies(inner: &Inner, seats: &[Seat], places: &[usize]) -> Vec<L2<Bytes>> {
    let Some(link) = &inner.redis else { return Vec::new() };
    let Some(session) = link.session().await else { return Vec::new() };
    let wanted: Vec<(&str, u64)> =
        places.iter().map(|place| (seats[*place].key.as_str(), fastrand::u64(1..))).collect();
    let answered =
        link.call("cache.get", &session, async |connection| redis::get(connection, &inner.names, &wanted).await);
    answered.await.unwrap_or_default()
}

async fn validate(inner: &Inner, seats: &mut [Seat], fills: &mut Fills) {
    let places = places(seats, Next::Version);
    let asked = inner.now();
    let told = match (&inner.pool, inner.validations.acquire().await) {
        (Some(pool), Ok(_permit)) => {
            let keys: Vec<String> = places.iter().map(|place| seats[*place].key.as_str().to_owned()).collect();
            store::versions(pool, &keys).await.ok()
        }
        _ => None,
    };
    for (at, place) in places.into_iter().enumerate() {
        let seat = &mut seats[place];
        let told = told.as_ref().and_then(|(versions, asof)| Some((*versions.get(at)?, *asof)));
        let step = seat.read.on_version(told, seat.demand, asked, inner.now());
        meters::validated(match (told, &step) {
            (None, _) => "error",
            (_, Step::Answer(_)) => "same",
            _ => "changed",
        });
        fills.extend(seat.take(step).await.map(|(fill, answer)| (place, fill, answer)));
    }
}

async fn load_rest<E>(inner: &Inner, seats: &mut [Seat], load: LoadAll<E>, fills: &mut Fills)
where
    E: Clone + Send + Sync + 'static,
{
    let places = places(seats, Next::Load);
    let asked = inner.now();
    let loaded = load(places.clone()).await;
    let took = inner.now().since(asked);
    for place in &places {
        meters::loaded(seats[*place].key.kind(), loaded.is_ok(), took);
    }
    match loaded {
        Ok(loaded) => {
            assert_eq!(loaded.len(), places.len(), "a load returns one value for each place that it was asked for");
            for (place, loaded) in places.into_iter().zip(loaded) {
                let seat = &mut seats[place];
                let answer = seat.read.on_loaded(loaded, seat.demand, asked, inner.now());
                let fill = seat.answer(answer).await;
                fills.extend(fill.map(|(fill, answer)| (place, fill, answer)));
            }
        }
        Err(error) => {
            for place in places {
                seats[place].tell(Err(Arc::new(error.clone())));
            }
        }
    }
}

async fn fill(inner: &Inner, seats: &[Seat], fills: Fills) {
    let Some(link) = &inner.redis else { return };
    for (place, fill, answer) in fills {
        let Some(session) = link.session().await else { return };
        let (key, entry) = (seats[place].key.as_str(), &answer.entry);
        let live = fill.lifetime.l2_for(fastrand::f64());
        let filled = link
            .call("cache.fill", &session, async |connection| {
                redis::fill(connection, &inner.names, key, fill.token, entry.version, &entry.body, live).await
            })
            .await;
        if filled == Some(false) {
            meters::fill_refused();
        }
    }
}
