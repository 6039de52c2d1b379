//! How long an entry may stay: the second guard behind the proof, by the state of what is cached.
//!
//! Invariant: an entry never lives longer in L1 than it would have lived in L2, and neither reading nor validating it lengthens its
//! life.

use std::time::Duration;

use crate::guards::{Guard, Guards};
use crate::time::Mono;

/// How much longer or shorter than its lifetime an entry may stay in Redis.
const JITTER: f64 = 0.1;

/// The longest stay in each tier, which the load chooses for each entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// In this process.
    pub l1: Duration,
    /// In Redis, before a jitter of a tenth either way.
    pub l2: Duration,
}

impl Lifetime {
    /// Something that still changes: 30 s in the process (cut to what Redis has left), 10 s in Redis.
    pub const IN_PROGRESS: Self = Self { l1: Duration::from_secs(30), l2: Duration::from_secs(10) };
    /// Something that has come to its end: 30 s in the process, an hour in Redis.
    pub const TERMINAL: Self = Self { l1: Duration::from_secs(30), l2: Duration::from_secs(3600) };
    /// An aggregate: 30 s in the process, ten minutes in Redis.
    pub const AGGREGATE: Self = Self { l1: Duration::from_secs(30), l2: Duration::from_secs(600) };
    /// Something that is answered and not kept.
    pub const NONE: Self = Self { l1: Duration::ZERO, l2: Duration::ZERO };
    /// Something that does not exist: 5 s in both.
    pub const ABSENT: Self = Self { l1: Duration::from_secs(5), l2: Duration::from_secs(5) };

    /// The lifetime of a body of which this is left.
    ///
    /// Guard: a body that is validated again and again would be given to Redis for a whole life each time, and never end.
    #[must_use]
    pub fn remaining<G: Guards>(left: Duration) -> Self {
        // Divided by what the jitter may add, so that not even the jitter lengthens it.
        Self {
            l1: left,
            l2: if G::enforced(Guard::ValidatedRest) { left.div_f64(1.0 + JITTER) } else { Self::IN_PROGRESS.l2 },
        }
    }

    /// Until when L1 may keep what was loaded at `loaded`.
    #[must_use]
    pub fn l1_until(&self, loaded: Mono) -> Mono {
        loaded + self.l1.min(self.l2)
    }

    /// How long Redis may keep it; `chance` in 0..1 spreads entries that were written together over a fifth of the
    /// time.
    #[must_use]
    pub fn l2_for(&self, chance: f64) -> Duration {
        self.l2.mul_f64(1.0 - JITTER + 2.0 * JITTER * chance.clamp(0.0, 1.0))
    }
}

/// Until when L1 may keep what Redis answered at `now` with `left` to live there.
///
/// Guard: a value read at the end of its 10 s in Redis would live for 30 s more in the process, and be 40 s old.
#[must_use]
pub fn l1_from_l2<G: Guards>(now: Mono, left: Duration) -> Mono {
    now + if G::enforced(Guard::L1OutlivesL2) { left.min(Lifetime::TERMINAL.l1) } else { Lifetime::TERMINAL.l1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guards::Enforced;

    #[test]
    fn l1_never_outlives_l2() {
        let now = Mono(0);
        assert_eq!(Lifetime::IN_PROGRESS.l1_until(now), now + Duration::from_secs(10));
        assert_eq!(Lifetime::TERMINAL.l1_until(now), now + Duration::from_secs(30));
        assert_eq!(l1_from_l2::<Enforced>(now, Duration::from_millis(400)), now + Duration::from_millis(400));
        assert_eq!(l1_from_l2::<Enforced>(now, Duration::from_secs(3000)), now + Duration::from_secs(30));
    }

    #[test]
    fn jitter_is_a_tenth_either_way() {
        let l = Lifetime::IN_PROGRESS;
        assert_eq!(l.l2_for(0.0), Duration::from_secs(9));
        assert_eq!(l.l2_for(0.5), Duration::from_secs(10));
        assert!(Lifetime::remaining::<Enforced>(Duration::from_secs(3)).l2_for(1.0) <= Duration::from_secs(3));
        assert_eq!(l.l2_for(1.0), Duration::from_secs(11));
    }
}
