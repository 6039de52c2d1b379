//! Retry budgets: how many of the calls to one peer may be repetitions. When much fails at once, repetitions would add to what the
//! peer cannot answer as it is.
//!
//! Invariant: over any [`WINDOW`], repetitions are at most a tenth of the calls, and [`MIN_PER_SECOND`] a second beside, so that a single
//! failure among few calls is repeated all the same.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::metrics;

/// The time over which calls and repetitions are counted.
const WINDOW: Duration = Duration::from_secs(10);
/// Repetitions a second that may be made however few calls there are.
const MIN_PER_SECOND: usize = 2;
/// One repetition for so many calls.
const CALLS_PER_RETRY: usize = 10;

/// The budget of one peer.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    peer: &'static str,
    counted: Mutex<VecDeque<Second>>,
}

/// What was counted within one second.
#[derive(Debug)]
struct Second {
    began: Instant,
    calls: usize,
    retries: usize,
}

impl RetryBudget {
    pub(crate) fn new(peer: &'static str) -> Self {
        Self { peer, counted: Mutex::default() }
    }

    /// Counts a call that repeats none.
    pub(crate) fn record_call(&self) {
        self.record_call_at(Instant::now());
    }

    /// Whether a call may be repeated now; then the repetition is counted, else its refusal.
    #[must_use]
    pub(crate) fn try_retry(&self) -> bool {
        self.try_retry_at(Instant::now())
    }

    fn record_call_at(&self, now: Instant) {
        self.with(now, |second, _| second.calls += 1);
    }

    fn try_retry_at(&self, now: Instant) -> bool {
        let seconds = usize::try_from(WINDOW.as_secs()).unwrap_or(usize::MAX);
        let allowed = self.with(now, |second, (calls, retries)| {
            let allowed = retries < MIN_PER_SECOND * seconds + calls / CALLS_PER_RETRY;
            second.retries += usize::from(allowed);
            allowed
        });
        if !allowed {
            metrics::RETRIES_REFUSED.with([self.peer]).increment(1);
        }
        allowed
    }

    /// The present second, and the calls and repetitions of the whole window.
    fn with<T>(&self, now: Instant, count: impl FnOnce(&mut Second, (usize, usize)) -> T) -> T {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        while counted.front().is_some_and(|oldest| now.duration_since(oldest.began) >= WINDOW) {
            counted.pop_front();
        }
        let sums = counted.iter().fold((0, 0), |sums, second| (sums.0 + second.calls, sums.1 + second.retries));
        let is_present = |newest: &Second| now.duration_since(newest.began) < Duration::from_secs(1);
        if !counted.back().is_some_and(is_present) {
            counted.push_back(Second { began: now, calls: 0, retries: 0 });
        }
        let at = counted.len() - 1;
        count(&mut counted[at], sums)
    }
}

/// One budget for each peer; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct RetryBudgets(Arc<Mutex<HashMap<&'static str, Arc<RetryBudget>>>>);

impl RetryBudgets {
    /// The budget of a peer, whose name is one of a closed set.
    pub(crate) fn of(&self, peer: &'static str) -> Arc<RetryBudget> {
        let mut budgets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(budgets.entry(peer).or_insert_with(|| Arc::new(RetryBudget::new(peer))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(budget: &RetryBudget, now: Instant) -> usize {
        (0..1_000).take_while(|_| budget.try_retry_at(now)).count()
    }

    #[test]
    fn few_calls_are_repeated_and_of_many_a_tenth() {
        let now = Instant::now();
        assert_eq!(allowed(&RetryBudget::new("few"), now), 20, "two a second");
        let budget = RetryBudget::new("many");
        (0..500).for_each(|_| budget.record_call_at(now));
        assert_eq!(allowed(&budget, now), 20 + 50);
        assert!(!budget.try_retry_at(now));
    }

    #[test]
    fn what_was_counted_longer_ago_than_the_window_counts_no_more() {
        let (budget, now) = (RetryBudget::new("peer"), Instant::now());
        (0..500).for_each(|_| budget.record_call_at(now));
        allowed(&budget, now);
        assert!(!budget.try_retry_at(now + WINDOW - Duration::from_millis(1)));
        assert_eq!(allowed(&budget, now + WINDOW), 20, "neither the calls nor the repetitions of then");
    }

    #[test]
    fn peers_have_budgets_of_their_own() {
        let (budgets, now) = (RetryBudgets::default(), Instant::now());
        allowed(&budgets.of("one"), now);
        assert!(!budgets.of("one").try_retry_at(now) && budgets.of("two").try_retry_at(now));
    }
}
