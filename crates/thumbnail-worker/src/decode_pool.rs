//! Decode pool: pictures and videos are decoded here, off the asynchronous runtime, within bounds of memory and threads.
//!
//! Invariant: what is being decoded at one time holds at most the admitted bytes, on at most the admitted threads, and what
//! waits is counted and bounded; beyond that a caller is refused at once with a time to come back. Room is given in the order
//! of asking and stays taken until the work really ends; work whose caller has gone, or that runs too long, is told to stop. A panic
//! ends one piece of work only.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tracing::Span;

use crate::error;
use crate::metrics;
use crate::stop::Stop;

/// How much the pool takes at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Pieces of work that run at one time.
    pub threads: usize,
    /// Bytes that all running work may hold, by its own weight.
    pub bytes: u64,
    /// Pieces of work that may wait.
    pub waiting: usize,
}

/// Why work was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// One piece of work alone is more than the pool may ever hold.
    #[error("decoding needs {weight} bytes of memory, at most {limit} are given")]
    TooHeavy {
        /// Bytes that it needs.
        weight: u64,
        /// Bytes that there are.
        limit: u64,
    },
    /// As much waits as may wait.
    #[error("too many pictures are being decoded, try again in {retry_after:?}")]
    Overloaded {
        /// The time after which a place is likely to be free.
        retry_after: Duration,
    },
    /// The work panicked; its message is for the operator.
    #[error("decoding panicked: {0}")]
    Panicked(String),
}

impl Error {
    /// The failure of a request whose `field` names what was to be decoded.
    pub(crate) fn about_field(self, field: &'static str) -> error::Error {
        match self {
            // Its limits allow the file, but this process was given less memory than that.
            Self::TooHeavy { .. } => error::Error::invalid(field, "IMAGE_LIMIT_EXCEEDED", self.to_string()),
            Self::Overloaded { retry_after } => error::Error::Overloaded { retry_after },
            Self::Panicked(message) => error::Error::Panicked(message),
        }
    }
}

/// Memory is counted in units of this size, so that any budget fits a semaphore.
const UNIT: u64 = 64 << 10;

/// The longest that one piece of work may run before it is told to stop.
const MAX_RUN: Duration = Duration::from_secs(20);

/// Tells work to stop when its caller goes.
struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// The pool; clones share it.
#[derive(Clone, Debug)]
pub struct DecodePool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    memory: Arc<Semaphore>,
    threads: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Moving mean of how long one piece of work runs, in microseconds.
    mean_run: AtomicU64,
}

impl DecodePool {
    /// An empty pool. It has at least one thread and one unit of memory.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let units = usize::try_from(settings.bytes / UNIT).unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            shared: Arc::new(Shared {
                settings,
                memory: Arc::new(Semaphore::new(units)),
                threads: Arc::new(Semaphore::new(settings.threads.max(1))),
                waiting: AtomicUsize::new(0),
                mean_run: AtomicU64::new(50_000),
            }),
        }
    }

    /// Runs `work`, which holds at most `weight` bytes, on a thread that may block, once there is room. It is told to stop when its
    /// caller goes, and when it has run for as long as any may.
    ///
    /// # Errors
    /// [`Error`] at once when it can never run or too much waits; afterwards when it panicked.
    pub async fn run<T: Send + 'static>(
        &self,
        weight: u64,
        work: impl FnOnce(&Stop) -> T + Send + 'static,
    ) -> Result<T, Error> {
        let shared = &self.shared;
        if weight > shared.settings.bytes {
            return Err(Error::TooHeavy { weight, limit: shared.settings.bytes });
        }
        let place = Place::take(shared)?;
        let units = u32::try_from(weight.div_ceil(UNIT).max(1)).unwrap_or(u32::MAX).min(self.units());
        let closed = |_| Error::Panicked("the pool is closed".to_owned());
        let memory = Arc::clone(&shared.memory).acquire_many_owned(units).await.map_err(closed)?;
        let thread = Arc::clone(&shared.threads).acquire_owned().await.map_err(closed)?;
        drop(place);
        let span = Span::current();
        let stop = StopOnDrop(Stop::default());
        let told = stop.0.clone();
        let mut done = tokio::task::spawn_blocking(move || {
            let started = Instant::now();
            let result = span.in_scope(|| catch_unwind(AssertUnwindSafe(|| work(&told))));
            // The permits end with the work and not with the caller: memory that is still in use is not given out again.
            drop((memory, thread));
            (result, started.elapsed())
        });
        let done = match tokio::time::timeout(MAX_RUN, &mut done).await {
            Ok(done) => done,
            Err(_) => {
                stop.0.set();
                done.await
            }
        };
        let (result, took) = done.map_err(|error| Error::Panicked(error.to_string()))?;
        shared.update_mean(took);
        metrics::decode_ran(took);
        result.map_err(|panic| {
            metrics::decode_panicked();
            let message = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            Error::Panicked(message.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default())
        })
    }

    fn units(&self) -> u32 {
        u32::try_from((self.shared.settings.bytes / UNIT).max(1)).unwrap_or(u32::MAX)
    }
}

impl Shared {
    fn update_mean(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mean = self.mean_run.load(Ordering::Relaxed);
        self.mean_run.store(mean - mean / 8 + took / 8, Ordering::Relaxed);
    }

    /// How long it takes until what waits now has run.
    fn backlog(&self) -> Duration {
        let waiting = self.waiting.load(Ordering::Relaxed) as u64;
        let threads = self.settings.threads.max(1) as u64;
        Duration::from_micros(self.mean_run.load(Ordering::Relaxed).saturating_mul(waiting) / threads)
    }
}

/// A place in the queue, given back however the waiting ends.
struct Place<'a>(&'a Shared);

impl<'a> Place<'a> {
    fn take(shared: &'a Shared) -> Result<Self, Error> {
        let before = shared.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Self(shared);
        metrics::decode_waiting(before + 1);
        if before >= shared.settings.waiting {
            let retry_after = shared.backlog().clamp(Duration::from_millis(50), Duration::from_secs(10));
            metrics::decode_refused();
            return Err(Error::Overloaded { retry_after });
        }
        Ok(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let before = self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        metrics::decode_waiting(before.saturating_sub(1));
    }
}
