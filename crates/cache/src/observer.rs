//! The online observer: a sampled check, in production, that the cache keeps its promise.
//!
//! A share of the hits is compared with the truth afterwards (`shadow`), and for a share of the changes every process and
//! Redis are asked later what they would serve (`peek`). What is found is counted with the number of samples; a violation
//! also writes down what was last done with the key (`records`). Invariant: it only counts what is proven. It never makes a
//! read wait or fail, and asks PostgreSQL for at most two things at a time.

pub(crate) mod peek;
mod records;
pub(crate) mod shadow;
mod tally;
mod verdict;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

pub(crate) use records::{Op, Records};
pub(crate) use tally::{Check, Kind, Outcome};
pub use tally::{Checked, Observed};
pub(crate) use verdict::Served;

use tally::Tally;

/// How many truths are asked for at a time; what is picked meanwhile is passed over.
const ASKING: usize = 2;

/// How many hits and changes are followed at a time.
const FOLLOWED: usize = 256;

/// One process's observer.
pub(crate) struct Observer {
    /// Of 2^32 hits or changes, this many are picked.
    picked: u64,
    pub(crate) records: Records,
    asking: Arc<Semaphore>,
    followed: Arc<Semaphore>,
    tally: Tally,
    last: Mutex<Option<String>>,
}

impl Observer {
    /// One that picks this share, which is taken for 0 below and for 1 above.
    pub(crate) fn new(share: f64) -> Self {
        let picked = (share.clamp(0.0, 1.0) * (1_u64 << 32) as f64) as u64;
        Self {
            picked,
            records: Records::new(picked > 0),
            asking: Arc::new(Semaphore::new(ASKING)),
            followed: Arc::new(Semaphore::new(FOLLOWED)),
            tally: Tally::new(picked > 0),
            last: Mutex::default(),
        }
    }

    /// Whether this hit or change is one to look at. All that the observer costs a hit that is not.
    #[inline]
    pub(crate) fn picks(&self) -> bool {
        self.picked != 0 && u64::from(fastrand::u32(..)) < self.picked
    }

    pub(crate) fn is_on(&self) -> bool {
        self.picked != 0
    }

    /// What was found so far.
    pub(crate) fn observed(&self) -> Observed {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Observed { last, ..self.tally.observed() }
    }

    pub(crate) fn count(&self, check: Check, outcome: Outcome) {
        self.tally.count(check, outcome);
    }

    /// Sets the gauges, before a scrape.
    pub(crate) fn shown(&self) {
        if self.is_on() {
            self.tally.shown();
        }
    }

    /// Counts a violation and writes it down with what was last done with the key here.
    fn violated(&self, check: Check, kind: Kind, of: &Violation<'_>) {
        self.tally.violated(check, kind);
        let Violation { key, answer, answered, truth, late } = *of;
        let operations = self.records.tale(key);
        let late = late.map(|late| late.as_secs_f64());
        tracing::error!(
            check = check.label(),
            kind = kind.label(),
            key,
            answer,
            answered,
            truth,
            late,
            operations,
            "the cache broke its promise"
        );
        let line = format!(
            "{}: {} of {key}: {answered} answered {answer}, the truth is {truth}; {operations}",
            check.label(),
            kind.label()
        );
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
    }
}

/// What is told of a violation.
#[derive(Clone, Copy)]
struct Violation<'a> {
    key: &'a str,
    /// The version answered, and by whom.
    answer: i64,
    answered: &'a str,
    /// The version that it should have reached or been.
    truth: i64,
    /// How old the answer is proven to have been, at least.
    late: Option<Duration>,
}
