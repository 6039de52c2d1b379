//! Whether PostgreSQL answers at all, asked only when an answer is late.
//!
//! A statement may run long for good reasons, so its own time says nothing. When nothing was heard for a part of the patience, a
//! trivial question goes out on a connection of its own; when that is not answered within the rest, all work is given up at
//! once, and new work is refused until a question is answered. Connecting takes longer on a busy machine than answering, so that a
//! connection which is not up yet changes nothing of what is believed. Invariant: one question is under way at a time, and
//! whoever waits for it shares its answer.

use std::{
    collections::HashMap,
    future::Future,
    pin::pin,
    sync::{
        Arc, PoisonError, Weak,
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

/// How long one attempt to connect may take.
const CONNECT: Duration = Duration::from_secs(1);

/// PostgreSQL says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PostgreSQL said nothing for {0:?}")]
pub(super) struct Silent(Duration);

/// This process's ear to one database.
#[derive(Debug)]
pub(super) struct Pulse {
    options: PgConnectOptions,
    patience: Duration,
    origin: Instant,
    /// Microseconds from the origin to the last answer.
    heard: AtomicU64,
    silent: AtomicBool,
    begun: AtomicBool,
    question: Mutex<Question>,
}

#[derive(Debug, Default)]
struct Question {
    connection: Option<PgConnection>,
    connecting: Option<JoinHandle<Result<PgConnection, sqlx::Error>>>,
    /// When the last one ended, and how.
    ended: Option<(Instant, bool)>,
}

impl Pulse {
    /// The one for this URL and patience: lanes to the same database listen together.
    pub(super) fn of(url: &str, options: &PgConnectOptions, patience: Duration) -> Arc<Self> {
        type Known = std::sync::Mutex<HashMap<(String, Duration), Weak<Pulse>>>;
        static KNOWN: std::sync::LazyLock<Known> = std::sync::LazyLock::new(Known::default);
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, pulse| pulse.strong_count() > 0);
        let place = known.entry((url.to_owned(), patience)).or_default();
        place.upgrade().unwrap_or_else(|| {
            let pulse = Arc::new(Self {
                options: options.clone().application_name("rushes/pulse"),
                patience,
                origin: Instant::now(),
                heard: AtomicU64::new(0),
                silent: AtomicBool::new(false),
                begun: AtomicBool::new(false),
                question: Mutex::default(),
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
            // So that there is a connection by the time that it is needed.
            let this = Arc::clone(self);
            tokio::spawn(async move { this.answers().await });
        }
        if self.silent.load(Ordering::Relaxed) && !self.answers().await {
            return Err(Silent(self.patience));
        }
        loop {
            let began = Instant::now();
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = sleep(self.patience.mul_f64(0.4)) => {}
            }
            if self.heard.load(Ordering::Relaxed) > self.micros(began) {
                continue;
            }
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                answers = self.answers() => if !answers { return Err(Silent(self.patience)) },
            }
        }
    }

    /// Asks, or waits for the answer that another waits for.
    async fn answers(&self) -> bool {
        let began = Instant::now();
        let mut question = self.question.lock().await;
        if let Some((_, answered)) = question.ended.filter(|(ended, _)| *ended >= began) {
            return answered;
        }
        let answered = self.ask(&mut question).await;
        question.ended = Some((Instant::now(), answered));
        if self.silent.swap(!answered, Ordering::Relaxed) == answered {
            if answered {
                tracing::info!("PostgreSQL answers again");
            } else {
                tracing::error!(patience = ?self.patience, "PostgreSQL does not answer: calls that need it are refused");
            }
        }
        answered
    }

    async fn ask(&self, question: &mut Question) -> bool {
        let patience = self.patience.mul_f64(0.6);
        let asked = Instant::now();
        // Put back only when it was answered: else the next question would be taken for answered by this one's answer.
        if let Some(mut connection) = question.connection.take() {
            match timeout(patience, connection.ping()).await {
                Ok(Ok(())) => {
                    question.connection = Some(connection);
                    self.heard();
                    return true;
                }
                Err(_) => return false,
                // Closed, for instance by a server that was started anew.
                Ok(Err(_)) => {}
            }
        }
        let options = self.options.clone();
        let connecting = question.connecting.get_or_insert_with(|| {
            tokio::spawn(async move {
                let late = || sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
                timeout(CONNECT, options.connect()).await.unwrap_or_else(|_| Err(late()))
            })
        });
        let Ok(connected) = timeout(patience.saturating_sub(asked.elapsed()), &mut *connecting).await else {
            return !self.silent.load(Ordering::Relaxed);
        };
        question.connecting = None;
        match connected {
            Ok(Ok(connection)) => {
                question.connection = Some(connection);
                self.heard();
                true
            }
            // That there are too many connections is an answer; that it begins or ends is none that helps.
            Ok(Err(sqlx::Error::Database(error))) => !error.code().is_some_and(|code| code.starts_with("57P")),
            Ok(Err(_)) | Err(_) => false,
        }
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_micros()).unwrap_or(u64::MAX)
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if let Some(connecting) = &self.connecting {
            connecting.abort();
        }
    }
}
