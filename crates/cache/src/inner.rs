//! What the parts of one process's cache share: the core's state behind its locks, and the tiers.
//!
//! Invariant: a change is applied to the floors, then to L1, and only then does the window's proof move past it.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use chassis::postgres::Pool;
use tokio::sync::{Notify, Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

use crate::changes::{Change, Signal};
use crate::flight::Handle;
use crate::l1::{L1, mono};
use crate::meters::{self, Meters};
use crate::observer::{Observer, Op};
use crate::redis::{Link, Names};
use crate::settings::Settings;
use coherence::clock::{Clock, Reading, Sample};
use coherence::flights::Flights;
use coherence::floors::Floors;
use coherence::time::{Mono, PgTime};
use coherence::window::{Cause, Notice, Received, Window};

/// How many locks the floors and flights are spread over.
const SHARDS: usize = 256;

/// How many signals a listener may be behind before it is told that it missed some.
const SIGNALS: usize = 4096;

/// The window and the clock, as a reader sees them together.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sight {
    pub(crate) window: Window,
    pub(crate) clock: Clock,
}

/// The floors and flights of a part of the keys.
#[derive(Default)]
pub(crate) struct Shard {
    pub(crate) floors: Floors<Arc<str>, foldhash::quality::RandomState>,
    pub(crate) flights: Flights<Arc<str>, Handle>,
}

pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) pool: Option<Pool>,
    pub(crate) nats: Option<async_nats::Client>,
    pub(crate) redis: Option<Link>,
    pub(crate) names: Names,
    pub(crate) l1: L1,
    pub(crate) meters: Meters,
    pub(crate) observer: Observer,
    /// Wakes a relay that leads in this process.
    pub(crate) wake: Notify,
    /// Asks for a reading of the clock before its time.
    pub(crate) reading: Notify,
    /// Whether this process leads the relay, and so hears every message without NATS.
    pub(crate) leads: AtomicBool,
    /// How many validations may run at once: two connections of the pool are left to the relay and the clock.
    pub(crate) validations: Semaphore,
    pub(crate) stop: CancellationToken,
    pub(crate) signals: broadcast::Sender<Signal>,
    origin: Instant,
    sight: ArcSwap<Sight>,
    changing: Mutex<()>,
    shards: Vec<Mutex<Shard>>,
}

impl Inner {
    pub(crate) fn new(
        settings: Settings,
        pool: Option<Pool>,
        nats: Option<async_nats::Client>,
        redis: Option<Link>,
    ) -> Self {
        let origin = Instant::now();
        let connections = pool.as_ref().map_or(0, |pool| pool.sqlx().options().get_max_connections());
        let validations = Semaphore::new(usize::try_from(connections.saturating_sub(2).max(1)).unwrap_or(1));
        Self {
            names: Names::new(&settings.space),
            l1: L1::new(settings.l1_bytes),
            observer: Observer::new(settings.observe),
            settings,
            pool,
            nats,
            redis,
            meters: Meters::default(),
            wake: Notify::new(),
            reading: Notify::new(),
            leads: AtomicBool::new(false),
            validations,
            stop: CancellationToken::new(),
            signals: broadcast::Sender::new(SIGNALS),
            origin,
            sight: ArcSwap::default(),
            changing: Mutex::new(()),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    pub(crate) fn now(&self) -> Mono {
        mono(self.origin, Instant::now())
    }

    pub(crate) fn sight(&self) -> arc_swap::Guard<Arc<Sight>> {
        self.sight.load()
    }

    pub(crate) fn shard(&self, key: &str) -> MutexGuard<'_, Shard> {
        self.shards[place(key)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note that `key` has reached `version`: nothing older is served from now on.
    pub(crate) async fn raise(&self, key: &Arc<str>, version: i64) {
        let now = self.now();
        self.shard(key).floors.raise(key, version, now);
        self.l1.drop_below(key, Some(version)).await;
    }

    /// Takes note that `key` was changed by this process, to a version that is not known: nothing from before now is
    /// served.
    pub(crate) async fn fence(&self, key: &Arc<str>) {
        let now = self.now();
        self.shard(key).floors.fence(key, now);
        self.observer.records.note(key, now, Op::Fenced);
        self.l1.drop_below(key, None).await;
    }

    /// Takes a relay message in, changes first.
    pub(crate) async fn receive(&self, notice: &Notice, changes: &[(Arc<str>, i64)]) {
        let heard = self.now();
        for (key, version) in changes {
            self.raise(key, *version).await;
        }
        let now = self.now();
        let received = self.change(|sight| {
            if notice.at != PgTime::PAST && sight.clock.contradicts(notice.at, now) {
                sight.clock.distrust();
                sight.window.close();
                return Err(Cause::ClockStep);
            }
            let before = sight.window;
            let received = sight.window.receive(notice);
            // The pass before this one did not see these changes, so they were committed after its time.
            let next = received == Received::Kept && before.last() == Some(notice.seq - 1);
            let since = before.at().filter(|_| next).and_then(|at| sight.clock.instant(at, now));
            Ok((received, since))
        });
        let since = received.as_ref().ok().and_then(|(_, since)| *since);
        for (key, version) in changes {
            self.observer.records.note(key, heard, Op::Told { version: *version, since });
        }
        match received {
            Ok((Received::Restarted(cause), _)) => self.restarted(cause),
            Ok((Received::Kept | Received::Ignored, _)) => {}
            Err(cause) => {
                self.reading.notify_one();
                self.restarted(cause);
            }
        }
        for (key, version) in changes {
            self.signal(Signal::Changed(Change { key: Arc::clone(key), version: *version }));
        }
    }

    /// Closes the window: what is held must be validated, and listeners may have missed changes.
    pub(crate) fn close(&self, cause: Cause) {
        if self.change(|sight| sight.window.close()) {
            self.restarted(cause);
        }
    }

    /// Takes a reading of PostgreSQL's clock in.
    pub(crate) fn sampled(&self, sample: Sample) {
        let reading = self.change(|sight| {
            let reading = sight.clock.sampled(sample);
            if reading == Reading::Stepped {
                sight.window.close();
            }
            reading
        });
        if reading == Reading::Stepped {
            tracing::warn!("PostgreSQL's clock was stepped; the cache starts over");
            self.restarted(Cause::ClockStep);
        }
    }

    /// How old the window's proof is, at most.
    pub(crate) fn proof_age(&self) -> Option<Duration> {
        let sight = self.sight();
        let now = self.now();
        sight.window.at().and_then(|at| sight.clock.instant(at, now)).map(|fresh| now.since(fresh))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // No listener is no error.
        let _ = self.signals.send(signal);
    }

    fn restarted(&self, cause: Cause) {
        tracing::debug!(cause = cause.label(), "the cache's window begins anew");
        meters::restarted(cause);
        self.observer.records.restarted(self.now(), cause);
        self.signal(Signal::Gap(cause));
    }

    fn change<T>(&self, by: impl FnOnce(&mut Sight) -> T) -> T {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sight = **self.sight.load();
        let result = by(&mut sight);
        self.sight.store(Arc::new(sight));
        result
    }
}

/// Which shard a key belongs to, by its end, where ids differ. Whoever chooses ids that fall into one only shares a lock.
fn place(key: &str) -> usize {
    let end = &key.as_bytes()[key.len().saturating_sub(8)..];
    end.iter().fold(0, |hash: usize, byte| hash.wrapping_mul(31).wrapping_add(usize::from(*byte))) % SHARDS
}

#[cfg(test)]
mod tests;
