//! Liveness probe for one database, shared by its pools.
//!
//! A statement may run long for good reasons, so its own time says nothing. A trivial round trip does, on a connection of its
//! own: once a second, and at once when nothing was received for a part of the timeout. When it is not answered in time, the
//! database is unresponsive: all work is given up, and new work is refused until it answers. The timeout follows how long
//! answers take (see `timeout`), so that a crowded machine is slow and not down. A connection that is not up yet proves
//! neither. The probe asks for the server's role as well: a standby is no database, since its reads may be old, and from a server
//! that takes no writes every connection is made anew, in case its name leads to another one by now. Invariant: one probe is
//! under way at a time, and whoever waits for it shares its answer.

mod role;
mod timeout;

use std::{
    collections::HashMap,
    future::Future,
    pin::pin,
    sync::{
        Arc, LazyLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use sqlx::{ConnectOptions as _, PgConnection, postgres::PgConnectOptions};
use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, sleep},
};

use self::role::Role;
use self::timeout::AdaptiveTimeout;
use super::reserved::Reserved;
use crate::metrics;

/// How often it probes when nothing else happens.
const INTERVAL: Duration = Duration::from_secs(1);
/// After this a probe is given up, with its connection.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// For how long a database takes no writes before the process says that it is not ready; a failover is shorter.
const NOT_READY_AFTER: Duration = Duration::from_secs(5);

/// PostgreSQL does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PostgreSQL did not answer for {0:?}")]
pub(super) struct Unresponsive(Duration);

type Known = std::sync::Mutex<HashMap<(String, Duration), Weak<LivenessProbe>>>;

/// The probes of this process.
static KNOWN: LazyLock<Known> = LazyLock::new(Known::default);

/// The probe of one database.
#[derive(Debug)]
pub(super) struct LivenessProbe {
    options: PgConnectOptions,
    timeout: AdaptiveTimeout,
    origin: Instant,
    /// Microseconds from the origin to the last answer, of a probe or of work.
    last_answer: AtomicU64,
    unresponsive: AtomicBool,
    /// Microseconds from the origin to when the server was found to take no writes; 0 while it takes them.
    read_only_since: AtomicU64,
    /// Microseconds from the origin: connections that were made before are not used again.
    reconnect_before: AtomicU64,
    started: AtomicBool,
    /// Whether it is known how many connections the server accepts.
    connections_known: Arc<AtomicBool>,
    state: Mutex<State>,
    _reserved: Reserved,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<PgConnection>,
    running: Option<Running>,
    /// When the last result came, and whether PostgreSQL answered.
    last_result: Option<(Instant, bool)>,
}

/// A probe that is under way, perhaps for longer than anyone waited.
#[derive(Debug)]
struct Running {
    /// Whether there was a connection to probe on.
    connected: bool,
    /// The connection, the server's role, and how long the answer took.
    answer: JoinHandle<Result<(PgConnection, Role, Duration), sqlx::Error>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.answer.abort();
    }
}

impl LivenessProbe {
    /// The probe for this URL and minimal timeout: pools to the same database share one.
    pub(super) fn shared(url: &str, options: &PgConnectOptions, min_timeout: Duration) -> Arc<Self> {
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, probe| probe.strong_count() > 0);
        let entry = known.entry((url.to_owned(), min_timeout)).or_default();
        entry.upgrade().unwrap_or_else(|| {
            let probe = Arc::new(Self {
                options: options.clone().application_name("rushes/liveness"),
                timeout: AdaptiveTimeout::with_min(min_timeout),
                origin: Instant::now(),
                last_answer: AtomicU64::new(0),
                unresponsive: AtomicBool::new(false),
                read_only_since: AtomicU64::new(0),
                reconnect_before: AtomicU64::new(0),
                started: AtomicBool::new(false),
                connections_known: Arc::default(),
                state: Mutex::default(),
                _reserved: Reserved::of(1),
            });
            *entry = Arc::downgrade(&probe);
            probe
        })
    }

    /// Records that PostgreSQL answered something.
    pub(super) fn record_answer(&self) {
        self.last_answer.fetch_max(self.micros(Instant::now()), Ordering::Relaxed);
    }

    /// Has every connection that is up now made anew before its next use: the server behind it takes no writes, and the name may
    /// lead to another one by now. At most once a second, since an operator may want it so.
    pub(super) fn record_read_only(&self) {
        let now = self.micros(Instant::now()).max(1);
        let _ = self.read_only_since.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
        let second = u64::try_from(INTERVAL.as_micros()).unwrap_or(u64::MAX);
        let _ = self.reconnect_before.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| {
            (now > before.saturating_add(second) || before == 0).then_some(now)
        });
    }

    /// Whether a connection of this age may be used.
    pub(super) fn trusts(&self, age: Duration) -> bool {
        let made = Instant::now().checked_sub(age).map_or(0, |made| self.micros(made));
        made >= self.reconnect_before.load(Ordering::Relaxed)
    }

    /// For how long the server has taken no writes; `None` while it takes them.
    fn read_only_for(&self) -> Option<Duration> {
        let since = Some(self.read_only_since.load(Ordering::Relaxed)).filter(|since| *since > 0)?;
        Some(Duration::from_micros(self.micros(Instant::now()).saturating_sub(since)))
    }

    /// Runs `work` for as long as PostgreSQL answers anyone.
    pub(super) async fn during<T>(self: &Arc<Self>, work: impl Future<Output = T>) -> Result<T, Unresponsive> {
        let mut work = pin!(work);
        if !self.started.swap(true, Ordering::Relaxed) {
            tokio::spawn(keep_probing(Arc::downgrade(self)));
        }
        if self.unresponsive.load(Ordering::Relaxed) && !self.answers().await {
            return Err(Unresponsive(self.timeout.now()));
        }
        loop {
            let began = Instant::now();
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                // The probe that follows may take 0.6 of the timeout: together they are one.
                () = sleep(self.timeout.now().mul_f64(0.4)) => {}
            }
            if self.last_answer.load(Ordering::Relaxed) > self.micros(began) {
                continue;
            }
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                answers = self.answers() => if !answers { return Err(Unresponsive(self.timeout.now())) },
            }
        }
    }

    /// Probes, or waits for the answer that another waits for.
    async fn answers(&self) -> bool {
        let began = Instant::now();
        let mut state = self.state.lock().await;
        if let Some((_, answers)) = state.last_result.filter(|(at, _)| *at >= began) {
            return answers;
        }
        let answers = self.probe(&mut state).await;
        state.last_result = Some((Instant::now(), answers));
        if self.unresponsive.swap(!answers, Ordering::Relaxed) == answers {
            let timeout = self.timeout.now();
            if answers {
                tracing::info!(?timeout, "PostgreSQL answers again");
            } else {
                tracing::error!(?timeout, "PostgreSQL does not answer: calls that need it are refused");
            }
        }
        answers
    }

    async fn probe(&self, state: &mut State) -> bool {
        let State { connection, running, .. } = state;
        let current = running.get_or_insert_with(|| self.start(connection.take()));
        let unresponsive = self.unresponsive.load(Ordering::Relaxed);
        // While it is unresponsive nobody is kept waiting for the answer that will end that.
        let timeout = if unresponsive { self.timeout.min() } else { self.timeout.now() };
        let connected = current.connected;
        let Ok(answer) = tokio::time::timeout(timeout.mul_f64(0.6), &mut current.answer).await else {
            return !connected && !unresponsive;
        };
        *running = None;
        match answer {
            Ok(Ok((answered, role, took))) => {
                if connected {
                    self.timeout.record(took);
                }
                if role == Role::Primary {
                    self.read_only_since.store(0, Ordering::Relaxed);
                    *connection = Some(answered);
                } else {
                    // The next probe makes a connection anew, as work does.
                    self.record_read_only();
                }
                if role != Role::Standby {
                    self.record_answer();
                }
                role != Role::Standby
            }
            // That there are too many connections is an answer; that it begins or ends is none that helps.
            Ok(Err(sqlx::Error::Database(error))) => !error.code().is_some_and(|code| code.starts_with("57P")),
            Ok(Err(_)) | Err(_) => false,
        }
    }

    fn start(&self, connection: Option<PgConnection>) -> Running {
        let (options, connected, began) = (self.options.clone(), connection.is_some(), Instant::now());
        let connections_known = Arc::clone(&self.connections_known);
        let probe = async move {
            if let Some(mut connection) = connection
                && let Ok(role) = Role::of(&mut connection).await
            {
                let took = began.elapsed();
                if !connections_known.swap(true, Ordering::Relaxed) {
                    report_connections_max(&mut connection).await;
                }
                return Ok((connection, role, took));
            }
            // None yet, or closed, for instance by a server that was started anew, perhaps with another limit.
            connections_known.store(false, Ordering::Relaxed);
            let mut connection = options.connect().await?;
            let role = Role::of(&mut connection).await?;
            Ok((connection, role, began.elapsed()))
        };
        let late = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
        let limited = tokio::time::timeout(PROBE_LIMIT, probe);
        let answer = tokio::spawn(async move { limited.await.unwrap_or_else(|_| Err(late())) });
        Running { connected, answer }
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_micros()).unwrap_or(u64::MAX)
    }
}

/// Why this process cannot do its work by its database, where that has been so for a while: one sentence.
pub(crate) fn not_ready() -> Option<&'static str> {
    let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let read_only = known
        .values()
        .filter_map(Weak::upgrade)
        .any(|probe| probe.read_only_for().is_some_and(|time| time >= NOT_READY_AFTER));
    read_only.then_some("the database takes no writes")
}

/// How many connections the server accepts; it is no matter if it does not say.
async fn report_connections_max(connection: &mut PgConnection) {
    let setting = sqlx::query_scalar::<_, i32>("select current_setting('max_connections')::integer");
    if let Ok(max) = setting.fetch_one(connection).await {
        metrics::SERVER_CONNECTIONS_MAX.get().set(max);
    }
}

/// Probes every so often, for as long as there is a pool that wants to know.
async fn keep_probing(probe: Weak<LivenessProbe>) {
    while let Some(probe) = probe.upgrade() {
        probe.answers().await;
        drop(probe);
        sleep(INTERVAL).await;
    }
}
