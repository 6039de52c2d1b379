//! The online observer: a sampled check, in production, that the cache keeps its promises.
//!
//! This module picks what is checked, counts the results, and records what was last done with each key; the checks are in `checks`.
//! Invariant: it only counts what is proven. It never makes a read wait or fail, and asks PostgreSQL for at most two things at a
//! time.

mod comparison;
mod counters;
mod records;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

pub(crate) use comparison::{Age, CommitTime, Comparison, Servable, Served, age, compare, is_absent};
pub(crate) use counters::{Check, Kind, Outcome};
pub use counters::{Checked, Observed};
pub(crate) use records::{Op, Records};

use counters::Counters;

/// How many truths are loaded at a time; what is picked meanwhile is skipped.
const LOADING: usize = 2;

/// How many hits and changes are followed at a time.
const FOLLOWED: usize = 256;

/// One process's observer.
pub(crate) struct Observer {
    /// Of 2^32 hits or changes, this many are picked.
    picked: u64,
    pub(crate) records: Records,
    pub(crate) loading: Arc<Semaphore>,
    pub(crate) followed: Arc<Semaphore>,
    counters: Counters,
    last: Mutex<Option<String>>,
}

impl Observer {
    /// An observer that picks this share, which counts as 0 below that and as 1 above that.
    pub(crate) fn new(share: f64) -> Self {
        let picked = (share.clamp(0.0, 1.0) * (1_u64 << 32) as f64) as u64;
        Self {
            picked,
            records: Records::new(picked > 0),
            loading: Arc::new(Semaphore::new(LOADING)),
            followed: Arc::new(Semaphore::new(FOLLOWED)),
            counters: Counters::new(picked > 0),
            last: Mutex::default(),
        }
    }

    /// Whether this hit or change is one to check. For a hit that is not, this is all that the observer costs.
    #[inline]
    pub(crate) fn picks(&self) -> bool {
        self.picked != 0 && u64::from(fastrand::u32(..)) < self.picked
    }

    /// What was found so far.
    pub(crate) fn observed(&self) -> Observed {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Observed { last, ..self.counters.observed() }
    }

    pub(crate) fn count(&self, check: Check, outcome: Outcome) {
        self.counters.count(check, outcome);
    }

    /// Sets the gauges, before a scrape.
    pub(crate) fn set_gauges(&self) {
        if self.picked != 0 {
            self.counters.set_gauges();
        }
    }

    /// Counts a violation, and logs it with what was last done with the key in this process.
    pub(crate) fn violated(&self, check: Check, kind: Kind, violation: &Violation<'_>) {
        self.counters.violated(check, kind);
        let Violation { key, answer, answered_by, truth, late } = *violation;
        let operations = self.records.trace(key);
        let late = late.map(|late| late.as_secs_f64());
        tracing::error!(
            check = check.label(),
            kind = kind.label(),
            key,
            answer,
            answered_by,
            truth,
            late,
            operations,
            "the cache broke its promise"
        );
        let line = format!(
            "{}: {} of {key}: {answered_by} answered {answer}, the truth is {truth}; {operations}",
            check.label(),
            kind.label()
        );
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
    }
}

/// An answer that broke a promise.
#[derive(Clone, Copy)]
pub(crate) struct Violation<'a> {
    pub(crate) key: &'a str,
    /// The version answered, and by whom.
    pub(crate) answer: i64,
    pub(crate) answered_by: &'a str,
    /// The version that it should have reached or been.
    pub(crate) truth: i64,
    /// How old the answer is proven to have been, at least.
    pub(crate) late: Option<Duration>,
}
