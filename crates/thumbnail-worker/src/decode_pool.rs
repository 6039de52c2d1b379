//! Decode pool: pictures and videos are decoded here, in processes of their own, within bounds of memory, time and number.
//!
//! Invariant: what is being decoded at one time holds at most the admitted bytes, in at most the admitted processes, and what waits is
//! counted and bounded; beyond that a caller is refused at once with a time to come back. What is paid for has processes of its own and
//! waits behind nothing but work that runs, which ends in time: at its limit the process is killed, and so it is when its caller goes.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::children::{Child, Children, End};
use crate::error;
use crate::metrics;
use crate::protocol::{Done, Limits, Order, STORED_PICTURE, Said};
use crate::{pictures, videos};

pub use crate::children::Input;
pub use crate::protocol::Reason;

/// How much the pool takes at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The program that decoders are started from: this one, wherever it lies.
    pub program: PathBuf,
    /// Files that are decoded at one time; what is paid for has one process more.
    pub processes: usize,
    /// Bytes that all running work may hold, by its own weight.
    pub bytes: u64,
    /// Pieces of work that may wait.
    pub waiting: usize,
    /// How long one piece of work may run before it is killed.
    pub timeout: Duration,
    /// Limits of pictures.
    pub pictures: pictures::Limits,
    /// Bounds of the search for a poster.
    pub videos: videos::Limits,
}

/// Why work was not done, for no reason in its file.
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
    /// It took longer than any may, and was killed.
    #[error("decoding was stopped after {0:?}, as long as any may take")]
    TooSlow(Duration),
    /// It wanted more memory than its size explains, and was not given it.
    #[error("decoding needs more memory than such a file explains")]
    OutOfMemory,
    /// The decoder panicked or crashed; the message is for the operator.
    #[error("decoding panicked: {0}")]
    Panicked(String),
}

impl Error {
    /// The failure of a request whose `field` names what was to be decoded.
    pub(crate) fn about_field(self, field: &'static str) -> error::Error {
        match self {
            // Its limits allow the file, but this process was given less memory or time than that.
            Self::TooHeavy { .. } | Self::TooSlow(_) | Self::OutOfMemory => {
                error::Error::invalid(field, "IMAGE_LIMIT_EXCEEDED", self.to_string())
            }
            Self::Overloaded { retry_after } => error::Error::Overloaded { retry_after },
            Self::Panicked(message) => error::Error::Panicked(message),
        }
    }
}

/// Memory is counted in units of this size, so that any budget fits a semaphore.
const UNIT: u64 = 64 << 10;
/// What a decoder may hold beside the weight of its work: its code, its stacks, a finished picture.
const SPARE: u64 = 8 << 20;

/// The pool; clones share it.
#[derive(Clone, Debug)]
pub struct DecodePool {
    shared: Arc<Shared>,
    is_paid: bool,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    children: Children,
    memory: Arc<Semaphore>,
    everyday: Queue,
    paid: Queue,
    /// Moving mean of how long one piece of work runs, in microseconds.
    mean_run: AtomicU64,
}

/// What waits for the same processes.
#[derive(Debug)]
struct Queue {
    processes: Arc<Semaphore>,
    count: usize,
    /// Memory that this queue may hold of all there is.
    memory: Arc<Semaphore>,
    bytes: u64,
    waiting: AtomicUsize,
}

/// Room for one piece of work, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    _permits: [OwnedSemaphorePermit; 2],
}

impl DecodePool {
    /// An empty pool. It has at least one process and one unit of memory.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let processes = settings.processes.max(1);
        let shared = Shared {
            children: Children::new(settings.program.clone(), settings.light_memory() + settings.bytes),
            memory: Arc::new(Semaphore::new(units(settings.bytes) as usize)),
            // A quarter is left to what is paid for, whatever else comes.
            everyday: Queue::new(processes, settings.bytes / 4 * 3),
            paid: Queue::new(1, settings.bytes),
            settings,
            mean_run: AtomicU64::new(50_000),
        };
        Self { shared: Arc::new(shared), is_paid: false }
    }

    /// The same pool for what is paid for.
    #[must_use]
    pub fn paid(&self) -> Self {
        Self { is_paid: true, ..self.clone() }
    }

    /// The limits that files are held against.
    pub(crate) fn limits(&self) -> Limits {
        Limits::new(&self.shared.settings.pictures, &self.shared.settings.videos)
    }

    /// The heaviest work that is taken, in bytes.
    pub(crate) fn max_weight(&self) -> u64 {
        self.queue().bytes
    }

    /// What a decoder of this pool could still do at its start and should not, by its own trial.
    ///
    /// # Errors
    /// When none can be started.
    pub async fn missing_confinement(&self) -> io::Result<Vec<&'static str>> {
        let child = self.shared.children.take().await?;
        let missing = child.confinement().missing();
        self.shared.children.give_back(child);
        Ok(missing)
    }

    /// Starts a decoder ahead of its first work; says when none can be started.
    pub(crate) async fn warm(&self) {
        match self.shared.children.take().await {
            Ok(child) => self.shared.children.give_back(child),
            Err(error) => tracing::error!(%error, "no decoder can be started"),
        }
    }

    /// Has a decoder do what `order` says with `input`, once there is room.
    ///
    /// # Errors
    /// [`Error`] at once when it can never run or too much waits; afterwards when it took too long or too much, or its decoder failed.
    pub(crate) async fn run(&self, mut order: Order, input: &Input) -> Result<Result<Done, Reason>, Error> {
        let _process = self.enter().await?;
        order.length = input.length();
        order.is_file = matches!(input, Input::File(..));
        // What asks for the time ends with a sentence about the file; what does not is killed.
        let limit = self.shared.settings.timeout;
        order.stop_after_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX) / 10 * 9;
        let children = &self.shared.children;
        let unstarted = |error: io::Error| Error::Panicked(error.to_string());
        let child = children.take().await.map_err(unstarted)?;
        let is_new = child.busy.is_zero();
        match self.have_done(child, &order, input).await {
            // What it did before may have left too little room: it is not the file's fault before a new one says so.
            Err(Error::OutOfMemory) if !is_new => {
                self.have_done(children.start().await.map_err(unstarted)?, &order, input).await
            }
            ended => ended,
        }
    }

    /// Has this decoder do it, once there is room.
    async fn have_done(&self, mut child: Child, order: &Order, input: &Input) -> Result<Result<Done, Reason>, Error> {
        let shared = &self.shared;
        let limit = shared.settings.timeout;
        let mut started = Instant::now();
        let first = async {
            child.allow(shared.settings.light_memory())?;
            child.send(order, input).await?;
            child.next().await
        };
        let mut said = timeout(limit, first).await;
        let mut room = None;
        if let Ok(Ok(Said::Weighs(weight))) = said {
            let Some(given) = self.room(weight).await? else {
                let limit = self.max_weight();
                let refused = async {
                    child.begin(false).await?;
                    child.next().await
                };
                if let Ok(Ok(_)) = timeout(START_AGAIN, refused).await {
                    shared.children.give_back(child);
                }
                return Err(Error::TooHeavy { weight, limit });
            };
            room = Some(given);
            started = Instant::now();
            let work = async {
                child.allow(shared.settings.light_memory() + weight)?;
                child.begin(true).await?;
                child.next().await
            };
            said = timeout(limit, work).await;
        }
        let took = started.elapsed();
        shared.update_mean(took);
        metrics::decode_ran(took);
        let ended = shared.ended(child, said, took).await;
        // The room ends with the work: memory that is still in use is not given out again.
        drop(room);
        ended
    }

    /// Room for a program that is not of ours and holds at most `weight` bytes.
    ///
    /// # Errors
    /// [`Error`] when too much waits, or it is too heavy.
    pub(crate) async fn admit(&self, weight: u64) -> Result<(Room, OwnedSemaphorePermit), Error> {
        let process = self.enter().await?;
        let limit = self.max_weight();
        let room = self.room(weight).await?.ok_or(Error::TooHeavy { weight, limit })?;
        Ok((room, process))
    }

    /// Waits for a process, in the order of asking.
    async fn enter(&self) -> Result<OwnedSemaphorePermit, Error> {
        let queue = self.queue();
        let _place = Place::take(&self.shared, queue)?;
        Arc::clone(&queue.processes).acquire_owned().await.map_err(closed)
    }

    /// Waits for memory, in the order of asking; nothing where there is never so much.
    async fn room(&self, weight: u64) -> Result<Option<Room>, Error> {
        let queue = self.queue();
        if weight > queue.bytes {
            return Ok(None);
        }
        let units = units(weight);
        // The queue's own share comes first: what waits for it holds nothing that others wait for.
        let own = Arc::clone(&queue.memory).acquire_many_owned(units).await.map_err(closed)?;
        let all = Arc::clone(&self.shared.memory).acquire_many_owned(units).await.map_err(closed)?;
        Ok(Some(Room { _permits: [own, all] }))
    }

    fn queue(&self) -> &Queue {
        if self.is_paid { &self.shared.paid } else { &self.shared.everyday }
    }
}

/// How long a decoder may take to let go of work that was not admitted.
const START_AGAIN: Duration = Duration::from_secs(1);

fn closed<E>(_: E) -> Error {
    Error::Panicked("the pool is closed".to_owned())
}

fn units(bytes: u64) -> u32 {
    u32::try_from((bytes / UNIT).max(1)).unwrap_or(u32::MAX).min(Semaphore::MAX_PERMITS as u32)
}

impl Settings {
    /// What a decoder may hold before its work is weighed, in bytes: a whole picture, or the index of a video.
    #[must_use]
    pub fn light_memory(&self) -> u64 {
        self.pictures.bytes.max(STORED_PICTURE).max(crate::media::MAX_MEMORY) + SPARE
    }
}

impl Queue {
    fn new(processes: usize, bytes: u64) -> Self {
        Self {
            processes: Arc::new(Semaphore::new(processes)),
            count: processes,
            memory: Arc::new(Semaphore::new(units(bytes) as usize)),
            bytes,
            waiting: AtomicUsize::new(0),
        }
    }
}

impl Shared {
    /// The end of one piece of work, and of its decoder where that is not to be used again.
    async fn ended(
        &self,
        mut child: Child,
        said: Result<io::Result<Said>, tokio::time::error::Elapsed>,
        took: Duration,
    ) -> Result<Result<Done, Reason>, Error> {
        child.busy += took;
        match said {
            Ok(Ok(Said::Done(done))) => {
                self.children.give_back(child);
                Ok(Ok(done))
            }
            Ok(Ok(Said::Failed(failure))) => {
                self.children.give_back(child);
                Ok(Err(failure.into()))
            }
            Ok(Ok(Said::Panicked(message))) => {
                metrics::decode_panicked();
                Err(Error::Panicked(message))
            }
            Ok(Ok(Said::Hello(_) | Said::Weighs(_))) => Err(Error::Panicked("it says what it may not".to_owned())),
            Ok(Err(_)) => match child.end().await {
                End::Memory => {
                    metrics::decoder_ended("memory");
                    Err(Error::OutOfMemory)
                }
                End::Crash(how) => {
                    metrics::decoder_ended("crash");
                    Err(Error::Panicked(format!("the decoder ended: {how}")))
                }
            },
            Err(_) => {
                metrics::decoder_ended("time");
                child.kill().await;
                Err(Error::TooSlow(self.settings.timeout))
            }
        }
    }

    fn update_mean(&self, took: Duration) {
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let mean = self.mean_run.load(Ordering::Relaxed);
        self.mean_run.store(mean - mean / 8 + took / 8, Ordering::Relaxed);
    }

    /// How long it takes until what waits in a queue now has run.
    fn backlog(&self, queue: &Queue) -> Duration {
        let waiting = queue.waiting.load(Ordering::Relaxed) as u64;
        let mean = self.mean_run.load(Ordering::Relaxed);
        Duration::from_micros(mean.saturating_mul(waiting) / queue.count as u64)
    }
}

/// A place in a queue, given back however the waiting ends.
struct Place<'a>(&'a Queue);

impl<'a> Place<'a> {
    fn take(shared: &Shared, queue: &'a Queue) -> Result<Self, Error> {
        let before = queue.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Self(queue);
        metrics::decode_waiting(before + 1);
        if before >= shared.settings.waiting {
            let retry_after = shared.backlog(queue).clamp(Duration::from_millis(50), Duration::from_secs(10));
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
