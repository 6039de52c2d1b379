//! The two time lines: the process's monotonic clock, and PostgreSQL's clock.
//!
//! They are different types so that one is never compared with the other; only [`super::clock::Clock`] translates, and
//! always to the cautious side.

use std::ops::{Add, Sub};
use std::time::Duration;

/// An instant of the process's monotonic clock, in nanoseconds since an origin of the shell's choosing. It may be
/// negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub i64);

impl Mono {
    /// An instant before all others: "known since for ever", which no proof reaches.
    pub const PAST: Self = Self(i64::MIN);

    /// The time from `earlier` to this instant; zero if `earlier` is the later one.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Add<Duration> for Mono {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(nanos(by)))
    }
}

impl Sub<Duration> for Mono {
    type Output = Self;
    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(by)))
    }
}

/// A reading of PostgreSQL's clock, in microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PgTime(pub i64);

impl PgTime {
    /// Before every proof.
    pub const PAST: Self = Self(i64::MIN);
}

impl Add<Duration> for PgTime {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }
}

impl Sub<Duration> for PgTime {
    type Output = Self;
    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }
}

fn nanos(of: Duration) -> i64 {
    i64::try_from(of.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_before_the_origin_keep_their_distance() {
        let early = Mono(0) - Duration::from_secs(5);
        assert!(early < Mono(0) - Duration::from_secs(1));
        assert_eq!(Mono(0).since(early), Duration::from_secs(5));
        assert_eq!(early.since(Mono(0)), Duration::ZERO);
    }

    #[test]
    fn nothing_overflows() {
        assert_eq!(Mono::PAST - Duration::MAX, Mono::PAST);
        assert_eq!(PgTime::PAST - Duration::MAX, PgTime::PAST);
        assert_eq!(Mono(0) + Duration::MAX, Mono(i64::MAX));
    }
}
