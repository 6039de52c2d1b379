//! A circuit breaker in front of Redis, so that a dead one costs reads no more than the first few timeouts.

use std::time::{Duration, Instant};

/// Failures in a row after which it opens.
const FAILURES: u32 = 3;
/// How long it is open at first, and at the longest.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);

/// Closed, or open until a time at which one call may try again.
#[derive(Debug)]
pub(crate) struct Breaker {
    failures: u32,
    open_until: Option<Instant>,
    pause: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 0, open_until: None, pause: FIRST }
    }
}

impl Breaker {
    /// Whether a call may be made. When the open time has passed, the first caller is the trial; others still may not.
    pub(crate) fn allows(&mut self, now: Instant) -> bool {
        match self.open_until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                self.open_until = Some(now + self.pause);
                true
            }
        }
    }

    /// A call was answered.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// A call failed.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES {
            self.open_until = Some(now + self.pause);
            self.pause = (self.pause * 2).min(LONGEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_breaker_opens_after_three_failures_and_lets_one_trial_through() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..FAILURES {
            assert!(breaker.allows(now));
            breaker.failed(now);
        }
        assert!(!breaker.allows(now + FIRST / 2));
        assert!(breaker.allows(now + FIRST), "the trial");
        assert!(!breaker.allows(now + FIRST), "only one");
        breaker.succeeded();
        assert!(breaker.allows(now + FIRST) && breaker.allows(now + FIRST));
    }

    #[test]
    fn the_breaker_is_open_for_longer_each_time_up_to_a_limit() {
        let mut now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 0..20 {
            breaker.failed(now);
            now += LONGEST;
            assert!(breaker.allows(now));
        }
    }
}
