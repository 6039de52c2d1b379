//! How late an answer may be before it counts as none: TCP's rule for its retransmissions (RFC 6298), the smoothed time that answers
//! took and four times their smoothed deviation, within bounds.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// However slow PostgreSQL is, after this it is down.
const MAX: Duration = Duration::from_secs(1);

/// The timeout, as the last answers make it.
#[derive(Debug)]
pub(super) struct AdaptiveTimeout {
    min: Duration,
    smoothed: Mutex<Smoothed>,
}

/// In seconds.
#[derive(Clone, Copy, Debug, Default)]
struct Smoothed {
    time: f64,
    deviation: f64,
}

impl AdaptiveTimeout {
    pub(super) fn with_min(min: Duration) -> Self {
        Self { min, smoothed: Mutex::default() }
    }

    pub(super) fn min(&self) -> Duration {
        self.min
    }

    /// Records how long an answer took, be it too long.
    pub(super) fn record(&self, time: Duration) {
        let mut smoothed = self.smoothed.lock().unwrap_or_else(PoisonError::into_inner);
        let time = time.min(MAX).as_secs_f64();
        // The deviation first, from the time as it was before this answer (RFC 6298, 2.3).
        smoothed.deviation += ((time - smoothed.time).abs() - smoothed.deviation) / 4.0;
        smoothed.time += (time - smoothed.time) / 8.0;
    }

    pub(super) fn now(&self) -> Duration {
        let smoothed = *self.smoothed.lock().unwrap_or_else(PoisonError::into_inner);
        let timeout = Duration::from_secs_f64(smoothed.time + 4.0 * smoothed.deviation);
        timeout.max(self.min).min(MAX.max(self.min))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(80);

    fn after(answers: impl IntoIterator<Item = u64>) -> Duration {
        let timeout = AdaptiveTimeout::with_min(MIN);
        answers.into_iter().for_each(|ms| timeout.record(Duration::from_millis(ms)));
        timeout.now()
    }

    #[test]
    fn quick_answers_keep_it_at_its_minimum() {
        assert_eq!(after([]), MIN);
        assert_eq!(after([1; 100]), MIN);
    }

    #[test]
    fn slow_answers_raise_it_and_quick_ones_lower_it_again() {
        assert!(after([1, 1, 1, 200]) > Duration::from_millis(200), "{:?}", after([1, 1, 1, 200]));
        assert!(after([50, 10, 60, 20, 90, 5, 70]) > Duration::from_millis(120));
        assert_eq!(after([1, 1, 200, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]), MIN);
        assert_eq!(after([60_000; 50]), MAX);
    }
}
