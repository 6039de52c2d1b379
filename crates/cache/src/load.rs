//! In-flight loads: the detached task that takes one or several keys from a miss to an answer.
//!
//! The steps are [`Read`]'s; this file does the I/O between them with Redis, PostgreSQL and the caller's load, for all keys of a
//! load together. Invariant: whatever becomes of the task, its keys are no longer in flight when it ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::sync::oneshot;

use crate::checks::shadow_read;
use crate::hit::Loaded;
use crate::in_flight::Outcome;
use crate::inner::Inner;
use crate::key::Key;
use crate::observer::{Op, Served};
use crate::{metrics, redis, store};
use coherence::entry::{Entry, Freshness, admits, freshness};
use coherence::in_flight::{LoadId, Reader};
use coherence::read::{Answer, Fill, L2, L2Hit, Read, Step, Tier};
use coherence::time::Mono;
use coherence::watermarks::Requirement;

/// How long another process's load is waited for: as long as a load takes, spread so that the waiting processes do not ask Redis
/// together.
const WAIT: Duration = Duration::from_millis(5);
const WAIT_SPREAD: Duration = Duration::from_millis(45);

/// One key of a load.
pub(crate) struct KeyLoad {
    inner: Arc<Inner>,
    key: Key,
    id: LoadId,
    requirement: Requirement,
    begun: Mono,
    started: Mono,
    read: Read<Bytes>,
    next: Next,
    finish: Option<oneshot::Sender<Outcome>>,
    /// What was served without a load, if the observer has picked it.
    served: Option<Served>,
}

/// What a key of a load needs next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    L2,
    Wait,
    Version,
    Load,
    Finished,
}

/// The caller's load: given places among the load's keys, it returns a value for each.
pub(crate) type LoadAll<E> = Box<dyn FnOnce(Vec<usize>) -> BoxFuture<'static, Result<Vec<Loaded>, E>> + Send>;

impl KeyLoad {
    pub(crate) fn new(
        inner: Arc<Inner>,
        key: Key,
        id: LoadId,
        reader: Reader,
        started: Mono,
        read: Read<Bytes>,
        finish: oneshot::Sender<Outcome>,
    ) -> Self {
        let Reader { begun, requirement, .. } = reader;
        Self { inner, key, id, requirement, begun, started, read, next: Next::L2, finish: Some(finish), served: None }
    }

    /// Reads L1 again: another load may have finished between this reader's miss and the start of its own.
    async fn read_l1_again(&mut self) {
        let Some(entry) = self.inner.l1.get(self.key.as_str()).await else { return };
        let now = self.inner.now();
        let view = **self.inner.view();
        if let Freshness::Proven(fresh) = freshness(&entry, &view.window, &view.clock, self.requirement, now) {
            let entry = Entry::clone(&entry);
            self.observe(&entry, Tier::L1);
            self.finish(Ok(Answer { entry, fresh, tier: Tier::L1, fill: None, keep: false }));
        }
    }

    /// Takes a step; an answer goes to L1 and the readers, and what Redis is to be filled with is returned.
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
        self.next = Next::Finished;
        let inner = &self.inner;
        let text = self.key.text();
        let now = inner.now();
        // Before anyone has the answer: a reader that begins after it was given must not get less.
        inner.shard(text).watermarks.answered(text, answer.entry.version, answer.fresh, now);
        if answer.keep {
            let (fresh, started) = (answer.fresh, self.started);
            inner
                .l1
                .offer(text, answer.entry.clone(), |old, new| {
                    // The clock is read in here: the offer may have waited for another one of the same key.
                    let now = inner.now();
                    admits(old, new, fresh, &inner.shard(text).watermarks, text, started, now)
                })
                .await;
        }
        let op = Op::Answered { version: answer.entry.version, tier: answer.tier, fresh: answer.fresh };
        inner.observer.records.note(text, now, op);
        self.observe(&answer.entry, answer.tier);
        let fill = answer.fill.map(|fill| (fill, answer.clone()));
        self.finish(Ok(answer));
        fill
    }

    /// Keeps what is served from a tier if the observer picks it.
    fn observe(&mut self, entry: &Entry<Bytes>, tier: Tier) {
        if tier != Tier::Loaded && self.inner.observer.picks() {
            let (version, body) = (entry.version, entry.body.clone());
            self.served = Some(Served { key: self.key.clone(), begun: self.begun, version, body, tier });
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        self.next = Next::Finished;
        // Out of the table before the outcome is sent: whoever comes now reads L1, or starts a load of its own.
        self.inner.shard(self.key.text()).in_flight.finish(self.key.text(), self.id);
        if let Some(finish) = self.finish.take() {
            // An error means that no reader waits any more: the answer is in the tiers all the same.
            let _ = finish.send(outcome);
        }
    }
}

impl Drop for KeyLoad {
    // A load that panics or is cancelled takes its keys out of the table as well: readers would wait for nothing.
    fn drop(&mut self) {
        if self.finish.is_some() {
            self.inner.shard(self.key.text()).in_flight.finish(self.key.text(), self.id);
        }
    }
}

/// Runs until every key is answered, then fills Redis.
pub(crate) async fn run<E>(inner: Arc<Inner>, mut keys: Vec<KeyLoad>, load: LoadAll<E>)
where
    E: Clone + Send + Sync + 'static,
{
    let mut fills = Vec::new();
    for key in &mut keys {
        key.read_l1_again().await;
    }
    loop {
        if any(&keys, Next::L2) {
            ask_l2(&inner, &mut keys, &mut fills).await;
        } else if any(&keys, Next::Wait) {
            tokio::time::sleep(WAIT + WAIT_SPREAD.mul_f64(fastrand::f64())).await;
            for key in keys.iter_mut().filter(|key| key.next == Next::Wait) {
                key.next = Next::L2;
            }
        } else if any(&keys, Next::Version) {
            validate(&inner, &mut keys, &mut fills).await;
        } else {
            break;
        }
    }
    // Once, and last: whatever the other steps could not answer is in one call of the caller's load.
    if any(&keys, Next::Load) {
        load_rest(&inner, &mut keys, load, &mut fills).await;
    } else {
        observe(&inner, &mut keys, load);
    }
    // After the readers were answered: none of them waits for Redis.
    fill(&inner, &keys, fills).await;
}

/// Compares what the observer has picked with the truth: the load that was not needed.
fn observe<E: Send + 'static>(inner: &Arc<Inner>, keys: &mut [KeyLoad], load: LoadAll<E>) {
    let (mut places, mut served) = (Vec::new(), Vec::new());
    for (place, key) in keys.iter_mut().enumerate() {
        if let Some(one) = key.served.take() {
            places.push(place);
            served.push(one);
        }
    }
    if !served.is_empty() {
        shadow_read::begin(inner, served, async move { load(places).await });
    }
}

type Fills = Vec<(usize, Fill, Answer<Bytes>)>;

fn any(keys: &[KeyLoad], next: Next) -> bool {
    keys.iter().any(|key| key.next == next)
}

fn places(keys: &[KeyLoad], next: Next) -> Vec<usize> {
    keys.iter().enumerate().filter(|(_, key)| key.next == next).map(|(place, _)| place).collect()
}

async fn ask_l2(inner: &Inner, keys: &mut [KeyLoad], fills: &mut Fills) {
    let places = places(keys, Next::L2);
    let asked = inner.now();
    let mut replies = replies(inner, keys, &places).await.into_iter();
    for place in places {
        let key = &mut keys[place];
        let reply = replies.next().unwrap_or(L2::Unavailable);
        match &reply {
            L2::Busy => metrics::lease_denied(),
            L2::Hit(hit) if hit.version < key.requirement.min_version => {
                inner.counters.kind(key.key.kind()).watermark_refusals.increment(1);
            }
            _ => {}
        }
        let clock = inner.view().clock;
        let step = key.read.on_l2(reply, &clock, key.requirement, asked, inner.now());
        fills.extend(key.take(step).await.map(|(fill, answer)| (place, fill, answer)));
    }
}

async fn replies(inner: &Inner, keys: &[KeyLoad], places: &[usize]) -> Vec<L2<Bytes>> {
    let Some(link) = &inner.redis else { return Vec::new() };
    let Some(session) = link.session().await else { return Vec::new() };
    // Every key comes with a fresh token, which is its lease if Redis grants one.
    let wanted: Vec<(&str, u64)> = places.iter().map(|place| (keys[*place].key.as_str(), fastrand::u64(1..))).collect();
    let answered =
        link.call("cache.get", &session, async |connection| redis::get(connection, &inner.names, &wanted).await);
    let answers = answered.await.unwrap_or_default().into_iter().zip(&wanted);
    answers.map(|(answer, (key, _))| opened(inner, key, answer)).collect()
}

/// An answer of Redis with its seal checked. A value that none of our processes made is as good as no Redis: PostgreSQL is asked.
fn opened(inner: &Inner, key: &str, answer: L2<Bytes>) -> L2<Bytes> {
    let L2::Hit(hit) = answer else { return answer };
    match inner.seal.open(key, hit.version, hit.body) {
        Some(body) => L2::Hit(L2Hit { body, ..hit }),
        None => {
            metrics::seal_broken();
            L2::Unavailable
        }
    }
}

async fn validate(inner: &Inner, keys: &mut [KeyLoad], fills: &mut Fills) {
    let places = places(keys, Next::Version);
    let asked = inner.now();
    // The permit leaves connections of the pool to the relay and the clock: without them every proof ages, and yet more
    // readers would validate.
    let current = match (&inner.pool, inner.validations.acquire().await) {
        (Some(pool), Ok(_permit)) => {
            let names: Vec<String> = places.iter().map(|place| keys[*place].key.as_str().to_owned()).collect();
            store::versions(pool, &names).await.ok()
        }
        _ => None,
    };
    for (at, place) in places.into_iter().enumerate() {
        let key = &mut keys[place];
        let current = current.as_ref().and_then(|(versions, asof)| Some((*versions.get(at)?, *asof)));
        let step = key.read.on_version(current, key.requirement, asked, inner.now());
        metrics::validated(match (current, &step) {
            (None, _) => "error",
            (_, Step::Answer(_)) => "same",
            _ => "changed",
        });
        fills.extend(key.take(step).await.map(|(fill, answer)| (place, fill, answer)));
    }
}

async fn load_rest<E>(inner: &Inner, keys: &mut [KeyLoad], load: LoadAll<E>, fills: &mut Fills)
where
    E: Clone + Send + Sync + 'static,
{
    let places = places(keys, Next::Load);
    let asked = inner.now();
    let loaded = load(places.clone()).await;
    let took = inner.now().since(asked);
    for place in &places {
        metrics::loaded(keys[*place].key.kind(), loaded.is_ok(), took);
    }
    match loaded {
        Ok(loaded) => {
            assert_eq!(loaded.len(), places.len(), "a load returns one value for each place that it was asked for");
            for (place, loaded) in places.into_iter().zip(loaded) {
                let key = &mut keys[place];
                let answer = key.read.on_loaded(loaded, key.requirement, asked, inner.now());
                let fill = key.answer(answer).await;
                fills.extend(fill.map(|(fill, answer)| (place, fill, answer)));
            }
        }
        Err(error) => {
            for place in places {
                keys[place].finish(Err(Arc::new(error.clone())));
            }
        }
    }
}

async fn fill(inner: &Inner, keys: &[KeyLoad], fills: Fills) {
    let Some(link) = &inner.redis else { return };
    for (place, fill, answer) in fills {
        // Whatever Redis does not take is loaded again by whoever misses it next.
        let Some(session) = link.session().await else { return };
        let (key, entry) = (keys[place].key.as_str(), &answer.entry);
        let sealed = inner.seal.close(key, entry.version, &entry.body);
        let lifetime = fill.lifetime.l2_for(fastrand::f64());
        let filled = link
            .call("cache.fill", &session, async |connection| {
                redis::fill(connection, &inner.names, key, fill.token, entry.version, &sealed, lifetime).await
            })
            .await;
        if filled == Some(false) {
            metrics::fill_refused();
        }
    }
}
