//! Whether PostgreSQL answers at all, asked only when an answer is late.
//!
//! A statement may run long for good reasons, so its own time says nothing. When nothing was heard for half of the patience, a
//! trivial question goes out on a connection of its own; when that is not answered within the other half, all work is given
//! up at once, and new work is refused until the question is answered again. Invariant: one question is under way at a time, and
//! whoever waits for it shares its answer.

use std::{
    future::Future,
    pin::pin,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use sqlx::{ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};

/// PostgreSQL says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("PostgreSQL said nothing for {0:?}")]
pub(super) struct Silent(Duration);

/// One lane's ear.
#[derive(Debug)]
pub(super) struct Pulse {
    lane: &'static str,
    options: PgConnectOptions,
    patience: Duration,
    origin: Instant,
    /// Microseconds from the origin to the last answer.
    heard: AtomicU64,
    silent: AtomicBool,
    question: Mutex<Question>,
}

#[derive(Debug, Default)]
struct Question {
    connection: Option<PgConnection>,
    /// When the last one ended, and how.
    ended: Option<(Instant, bool)>,
}

impl Pulse {
    pub(super) fn new(lane: &'static str, options: PgConnectOptions, patience: Duration) -> Self {
        let (heard, silent) = (AtomicU64::new(0), AtomicBool::new(false));
        Self { lane, options, patience, origin: Instant::now(), heard, silent, question: Mutex::default() }
    }

    /// Takes note of an answer.
    pub(super) fn heard(&self) {
        self.heard.fetch_max(self.micros(Instant::now()), Ordering::Relaxed);
    }

    /// Runs `work` for as long as PostgreSQL answers anyone.
    pub(super) async fn during<T>(&self, work: impl Future<Output = T>) -> Result<T, Silent> {
        let mut work = pin!(work);
        if self.silent.load(Ordering::Relaxed) && !self.answers().await {
            return Err(self.refused());
        }
        loop {
            let began = Instant::now();
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                () = sleep(self.patience / 2) => {}
            }
            if self.heard.load(Ordering::Relaxed) > self.micros(began) {
                continue;
            }
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                answers = self.answers() => if !answers { return Err(self.refused()) },
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
        let answered = timeout(self.patience / 2, self.ask(&mut question.connection)).await.unwrap_or(false);
        if answered {
            self.heard();
        } else {
            // What was asked on it may still be answered, and would be taken for the answer to the next.
            question.connection = None;
        }
        question.ended = Some((Instant::now(), answered));
        if self.silent.swap(!answered, Ordering::Relaxed) == answered {
            let lane = self.lane;
            if answered {
                tracing::info!(lane, "PostgreSQL answers again");
            } else {
                tracing::error!(lane, patience = ?self.patience, "PostgreSQL does not answer: calls that need it are refused");
            }
        }
        answered
    }

    async fn ask(&self, at_hand: &mut Option<PgConnection>) -> bool {
        if let Some(connection) = at_hand
            && connection.ping().await.is_ok()
        {
            return true;
        }
        match self.options.connect().await {
            Ok(connection) => *at_hand = Some(connection),
            // That there are too many connections is an answer; that it begins or ends is none that helps.
            Err(sqlx::Error::Database(error)) => return !error.code().is_some_and(|code| code.starts_with("57P")),
            Err(_) => return false,
        }
        true
    }

    fn refused(&self) -> Silent {
        metrics::counter!("postgres_lane_silent_total", "lane" => self.lane).increment(1);
        Silent(self.patience)
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_micros()).unwrap_or(u64::MAX)
    }
}
