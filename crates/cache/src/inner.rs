//! The state that the parts of one process's cache share: what the rules keep, behind its locks, and the tiers.
//!
//! Invariant: a change is applied to the watermarks, then to L1, and only then does the window's proof move past it.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use chassis::postgres::Pool;
use tokio::sync::{Notify, Semaphore, broadcast};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::changes::{Change, Signal};
use crate::in_flight::Handle;
use crate::l1::L1;
use crate::metrics::{self, Counters};
use crate::observer::{Observer, Op};
use crate::redis::{Link, Names};
use crate::seal::Seal;
use crate::settings::Settings;
use coherence::clock::{Clock, Reading, Sample};
use coherence::in_flight::InFlightLoads;
use coherence::time::{Mono, PgTime};
use coherence::watermarks::Watermarks;
use coherence::window::{Cause, Notice, Received, Window};

/// How many locks the watermarks and in-flight loads are spread over.
const SHARDS: usize = 256;

/// How many signals a listener may be behind before it is notified that it missed some.
const SIGNALS: usize = 4096;

/// Connections of the pool that validations leave: one for the relay, one for the clock.
const RESERVED_CONNECTIONS: u32 = 2;

/// The window and the clock of one instant, as a reader uses them together.
#[derive(Clone, Copy, Default)]
pub(crate) struct ReadView {
    pub(crate) window: Window,
    pub(crate) clock: Clock,
}

/// The watermarks and in-flight loads of a part of the keys.
#[derive(Default)]
pub(crate) struct Shard {
    pub(crate) watermarks: Watermarks<Arc<str>, foldhash::quality::RandomState>,
    pub(crate) in_flight: InFlightLoads<Arc<str>, Handle>,
}

pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) pool: Option<Pool>,
    pub(crate) nats: Option<async_nats::Client>,
    pub(crate) redis: Option<Link>,
    pub(crate) names: Names,
    pub(crate) seal: Seal,
    pub(crate) l1: L1,
    pub(crate) counters: Counters,
    pub(crate) observer: Observer,
    /// Wakes a relay that leads in this process.
    pub(crate) wake: Notify,
    /// Asks for a reading of the clock before its time.
    pub(crate) reading: Notify,
    /// Whether this process leads the relay, and so receives every message without NATS.
    pub(crate) leads: AtomicBool,
    /// How many validations may run at once.
    pub(crate) validations: Semaphore,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) signals: broadcast::Sender<Signal>,
    origin: Instant,
    // Read without a lock, with every hit; replaced under `changing`, so that no change is lost.
    view: ArcSwap<ReadView>,
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
        let connections = pool.as_ref().map_or(0, |pool| pool.max_connections());
        let validations = connections.saturating_sub(RESERVED_CONNECTIONS).max(1);
        let seal = Seal::new(&settings.space, settings.seal.clone());
        Self {
            names: Names::new(&settings.space, seal.is_on()),
            seal,
            l1: L1::new(settings.l1_bytes),
            observer: Observer::new(settings.observe),
            settings,
            pool,
            nats,
            redis,
            counters: Counters::default(),
            wake: Notify::new(),
            reading: Notify::new(),
            leads: AtomicBool::new(false),
            validations: Semaphore::new(usize::try_from(validations).unwrap_or(1)),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            signals: broadcast::Sender::new(SIGNALS),
            origin: Instant::now(),
            view: ArcSwap::default(),
            changing: Mutex::new(()),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// The reading of this process's monotonic clock.
    pub(crate) fn now(&self) -> Mono {
        Mono(i64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(i64::MAX))
    }

    pub(crate) fn view(&self) -> arc_swap::Guard<Arc<ReadView>> {
        self.view.load()
    }

    pub(crate) fn shard(&self, key: &str) -> MutexGuard<'_, Shard> {
        self.shards[shard_of(key)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note that `key` has reached `version`: nothing older is served from now on.
    pub(crate) async fn raise(&self, key: &Arc<str>, version: i64) {
        let now = self.now();
        // Before L1: a load that finishes in between finds the watermark, and does not put back what is dropped next.
        self.shard(key).watermarks.raise(key, version, now);
        self.l1.drop_below(key, Some(version)).await;
    }

    /// Takes note that `key` was changed by this process, to a version that is not known: nothing from before now is
    /// served.
    pub(crate) async fn put_barrier(&self, key: &Arc<str>) {
        let now = self.now();
        self.shard(key).watermarks.put_barrier(key, now);
        self.observer.records.note(key, now, Op::Barrier);
        self.l1.drop_below(key, None).await;
    }

    /// Receives a relay message, its changes first.
    pub(crate) async fn receive(&self, notice: &Notice, changes: &[(Arc<str>, i64)]) {
        let received_at = self.now();
        for (key, version) in changes {
            self.raise(key, *version).await;
        }
        let now = self.now();
        let received = self.change(|view| {
            // A proof from the future: the clock was stepped forward, and our estimate would make later proofs look young.
            if notice.at != PgTime::PAST && view.clock.contradicts(notice.at, now) {
                view.clock.distrust();
                view.window.close();
                return Err(Cause::ClockStep);
            }
            let before = view.window;
            let received = view.window.receive(notice);
            // The pass before this one did not see these changes, so they were committed after its time.
            let next = received == Received::Kept && before.last() == Some(notice.seq - 1);
            let since = before.at().filter(|_| next).and_then(|at| view.clock.instant(at, now));
            Ok((received, since))
        });
        let since = received.as_ref().ok().and_then(|(_, since)| *since);
        for (key, version) in changes {
            self.observer.records.note(key, received_at, Op::Relayed { version: *version, since });
        }
        match received {
            Ok((Received::Restarted(cause), _)) => self.window_restarted(cause),
            Ok((Received::Kept | Received::Ignored, _)) => {}
            Err(cause) => {
                self.reading.notify_one();
                self.window_restarted(cause);
            }
        }
        for (key, version) in changes {
            self.signal(Signal::Changed(Change { key: Arc::clone(key), version: *version }));
        }
    }

    /// Closes the window: what is cached must be validated, and listeners may have missed changes.
    pub(crate) fn close(&self, cause: Cause) {
        if self.change(|view| view.window.close()) {
            self.window_restarted(cause);
        }
    }

    /// Takes a reading of PostgreSQL's clock.
    pub(crate) fn sampled(&self, sample: Sample) {
        let reading = self.change(|view| {
            let reading = view.clock.sampled(sample);
            if reading == Reading::Stepped {
                view.window.close();
            }
            reading
        });
        if reading == Reading::Stepped {
            tracing::warn!("PostgreSQL's clock was stepped; what is cached is validated or loaded again");
            self.window_restarted(Cause::ClockStep);
        }
    }

    /// An upper bound of the age of the window's proof.
    pub(crate) fn proof_age(&self) -> Option<Duration> {
        let view = self.view();
        let now = self.now();
        view.window.at().and_then(|at| view.clock.instant(at, now)).map(|fresh| now.since(fresh))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // An error means that nobody listens.
        let _ = self.signals.send(signal);
    }

    fn window_restarted(&self, cause: Cause) {
        tracing::debug!(cause = cause.label(), "the window of relay messages restarts");
        metrics::window_restarted(cause);
        self.observer.records.window_restarted(self.now(), cause);
        self.signal(Signal::Gap(cause));
    }

    fn change<T>(&self, by: impl FnOnce(&mut ReadView) -> T) -> T {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut view = **self.view.load();
        let result = by(&mut view);
        self.view.store(Arc::new(view));
        result
    }
}

/// The shard of a key, by its end, where ids differ. Whoever chooses ids that all fall into one shard only shares a lock.
fn shard_of(key: &str) -> usize {
    let end = &key.as_bytes()[key.len().saturating_sub(8)..];
    end.iter().fold(0, |hash: usize, byte| hash.wrapping_mul(31).wrapping_add(usize::from(*byte))) % SHARDS
}

#[cfg(test)]
mod tests;
