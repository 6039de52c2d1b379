//! How late an answer may be before it counts as none: TCP's rule for its retransmissions (RFC 6298), the smoothed time that answers
//! took and four times their smoothed deviation, within bounds.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// However slow it is, after this it is down.
const MOST: Duration = Duration::from_secs(1);

/// The limit, as the last answers make it.
#[derive(Debug)]
pub(super) struct Limit {
    least: Duration,
    smoothed: Mutex<Smoothed>,
}

/// In seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Smoothed {
    time: f64,
    deviation: f64,
}

impl Limit {
    pub(super) fn at_least(least: Duration) -> Self {
        Self { least, smoothed: Mutex::default() }
    }

    pub(super) fn least(&self) -> Duration {
        self.least
    }

    /// Takes note of how long an answer took, be it too long.
    pub(super) fn took(&self, time: Duration) {
        let mut smoothed = self.smoothed.lock().unwrap_or_else(PoisonError::into_inner);
        let time = time.min(MOST).as_secs_f64();
        smoothed.deviation += ((time - smoothed.time).abs() - smoothed.deviation) / 4.0;
        smoothed.time += (time - smoothed.time) / 8.0;
    }

    pub(super) fn now(&self) -> Duration {
        let smoothed = *self.smoothed.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = Duration::from_secs_f64(smoothed.time + 4.0 * smoothed.deviation);
        limit.max(self.least).min(MOST.max(self.least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Duration = Duration::from_millis(80);

    fn after(answers: impl IntoIterator<Item = u64>) -> Duration {
        let limit = Limit::at_least(LEAST);
        answers.into_iter().for_each(|ms| limit.took(Duration::from_millis(ms)));
        limit.now()
    }

    #[test]
    fn quick_answers_keep_it_at_its_least() {
        assert_eq!(after([]), LEAST);
        assert_eq!(after([1; 100]), LEAST);
    }

    #[test]
    fn slow_answers_raise_it_and_quick_ones_lower_it_again() {
        assert!(after([1, 1, 1, 200]) > Duration::from_millis(200), "{:?}", after([1, 1, 1, 200]));
        assert!(after([50, 10, 60, 20, 90, 5, 70]) > Duration::from_millis(120));
        assert_eq!(after([1, 1, 200, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]), LEAST);
        assert_eq!(after([60_000; 50]), MOST);
    }
}
