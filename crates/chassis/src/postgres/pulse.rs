//! Whether PostgreSQL answers at all.
//!
//! A statement may run long for good reasons, so its own time says nothing. A trivial question does, on a connection of its own:
//! once a second, and at once when nothing was heard for a part of the limit. When it is not answered in time, all work is
//! given up, and new work is refused until it is. The limit follows how long answers take (see `limit`), so that a crowded
//! machine is slow and not down. A connection that is not up yet changes nothing of what is believed. Invariant: one question
//! is under way at a time, and whoever waits for it shares its answer.

mod limit;

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

use sqlx::{ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use self::limit::Limit;

/// How often it is asked when nothing else happens.
const BEAT: Duration = Duration::from_secs(1);
/// After this a question is given up, with its connection.
const GIVEN_UP: Duration = Duration::from_secs(2);

/// PostgreSQL says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PostgreSQL said nothing for {0:?}")]
pub(super) struct Silent(Duration);

/// This process's ear to one database.
#[derive(Debug)]
pub(super) struct Pulse {
    options: PgConnectOptions,
    limit: Limit,
    origin: Instant,
    /// Microseconds from the origin to the last answer.
    heard: AtomicU64,
    silent: AtomicBool,
    begun: AtomicBool,
    asking: Mutex<Asking>,
}

#[derive(Debug, Default)]
struct Asking {
    connection: Option<PgConnection>,
    question: Option<Question>,
    /// When it was last told, and how.
    told: Option<(Instant, bool)>,
}

/// A question that is under way, perhaps for longer than anyone waited.
#[derive(Debug)]
struct Question {
    /// Whether there was a connection to ask it on.
    connected: bool,
    /// The connection, and how long the answer took.
    answer: JoinHandle<Result<(PgConnection, Duration), sqlx::Error>>,
}

impl Drop for Question {
    fn drop(&mut self) {
        self.answer.abort();
    }
}

impl Pulse {
    /// The one for this URL and least limit: pools to the same database listen together.
    pub(super) fn of(url: &str, options: &PgConnectOptions, least: Duration) -> Arc<Self> {
        type Known = std::sync::Mutex<HashMap<(String, Duration), Weak<Pulse>>>;
        static KNOWN: LazyLock<Known> = LazyLock::new(Known::default);
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, pulse| pulse.strong_count() > 0);
        let place = known.entry((url.to_owned(), least)).or_default();
        place.upgrade().unwrap_or_else(|| {
            let pulse = Arc::new(Self {
                options: options.clone().application_name("rushes/pulse"),
                limit: Limit::at_least(least),
                origin: Instant::now(),
                heard: AtomicU64::new(0),
                silent: AtomicBool::new(false),
                begun: AtomicBool::new(false),
                asking: Mutex::default(),
            });
            *place = Arc::downgrade(&pulse);
            pulse
        })
    }

    /// Takes note of an answer.
    pub(super) fn heard(&self) {
        self.heard.fetch_max(self.micros(Instant::now()), Ordering::Relaxed);
    }

    /// Runs `work` for as long as PostgreSQL answers anyone.
    pub(super) async fn during<T>(self: &Arc<Self>, work: impl Future<Output = T>) -> Result<T, Silent> {
        let mut work = pin!(work);
        if !self.begun.swap(true, Ordering::Relaxed) {
            tokio::spawn(beat(Arc::downgrade(self)));
        }
        if self.silent.load(Ordering::Relaxed) && !self.answers().await {
            return Err(Silent(self.limit.now()));
        }
        loop {
            let began = Instant::now();
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = sleep(self.limit.now().mul_f64(0.4)) => {}
            }
            if self.heard.load(Ordering::Relaxed) > self.micros(began) {
                continue;
            }
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                answers = self.answers() => if !answers { return Err(Silent(self.limit.now())) },
            }
        }
    }

    /// Asks, or waits for the answer that another waits for.
    async fn answers(&self) -> bool {
        let began = Instant::now();
        let mut asking = self.asking.lock().await;
        if let Some((_, answers)) = asking.told.filter(|(at, _)| *at >= began) {
            return answers;
        }
        let answers = self.ask(&mut asking).await;
        asking.told = Some((Instant::now(), answers));
        if self.silent.swap(!answers, Ordering::Relaxed) == answers {
            let limit = self.limit.now();
            if answers {
                tracing::info!(?limit, "PostgreSQL answers again");
            } else {
                tracing::error!(?limit, "PostgreSQL does not answer: calls that need it are refused");
            }
        }
        answers
    }

    async fn ask(&self, asking: &mut Asking) -> bool {
        let Asking { connection, question, .. } = asking;
        let question_at_hand = question.get_or_insert_with(|| self.question(connection.take()));
        let silent = self.silent.load(Ordering::Relaxed);
        // While it is silent nobody is kept waiting for the answer that will end that.
        let patience = if silent { self.limit.least() } else { self.limit.now() };
        let connected = question_at_hand.connected;
        let Ok(answer) = timeout(patience.mul_f64(0.6), &mut question_at_hand.answer).await else {
            return !connected && !silent;
        };
        *question = None;
        match answer {
            Ok(Ok((answered, took))) => {
                if connected {
                    self.limit.took(took);
                }
                *connection = Some(answered);
                self.heard();
                true
            }
            // That there are too many connections is an answer; that it begins or ends is none that helps.
            Ok(Err(sqlx::Error::Database(error))) => !error.code().is_some_and(|code| code.starts_with("57P")),
            Ok(Err(_)) | Err(_) => false,
        }
    }

    fn question(&self, at_hand: Option<PgConnection>) -> Question {
        let (options, connected, asked) = (self.options.clone(), at_hand.is_some(), Instant::now());
        let ask = async move {
            if let Some(mut connection) = at_hand
                && connection.ping().await.is_ok()
            {
                return Ok((connection, asked.elapsed()));
            }
            // None yet, or closed, for instance by a server that was started anew.
            options.connect().await.map(|connection| (connection, asked.elapsed()))
        };
        let late = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
        let answer = tokio::spawn(async move { timeout(GIVEN_UP, ask).await.unwrap_or_else(|_| Err(late())) });
        Question { connected, answer }
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_micros()).unwrap_or(u64::MAX)
    }
}

/// Asks every so often, for as long as there is a pool that wants to know.
async fn beat(pulse: Weak<Pulse>) {
    while let Some(pulse) = pulse.upgrade() {
        pulse.answers().await;
        drop(pulse);
        sleep(BEAT).await;
    }
}
