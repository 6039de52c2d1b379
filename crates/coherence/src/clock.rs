//! The estimate of PostgreSQL's clock, which is never too early.
//!
//! A sample is a query with a round trip around it: the clock was read after the query was sent, so "the reading plus all the time
//! since the query" is an upper bound of PostgreSQL's clock, and the age of a proof taken against it is never too small. A process without a database asks another process, whose answer is a pair of bounds; the
//! bounds compose. Invariant: for a clock that slews, [`Clock::instant`] never returns an instant later than the one at
//! which the clock showed `t`.

use std::marker::PhantomData;
use std::time::Duration;

use crate::STEP;
use crate::guards::{Enforced, Guard, Guards};
use crate::time::{Mono, PgTime};

/// How far the two clocks' rates may differ: one part in this many, which is 200 ppm.
const DRIFT: u64 = 5000;

/// One reading of PostgreSQL's clock, made between two instants of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Before the query was sent.
    pub asked: Mono,
    /// After the answer came.
    pub answered: Mono,
    /// PostgreSQL's clock showed at least this at some instant in between.
    pub lower: PgTime,
    /// PostgreSQL's clock showed at most this at that same instant. Equal to `lower` when PostgreSQL itself answered.
    pub upper: PgTime,
}

impl Sample {
    fn upper<G: Guards>(&self, now: Mono) -> PgTime {
        // Guard: the clock may have been read as soon as the query left.
        let since = now.since(if G::enforced(Guard::ClockUpper) { self.asked } else { self.answered });
        self.upper + since + drift(since)
    }

    fn lower(&self, now: Mono) -> PgTime {
        let since = now.since(self.answered);
        self.lower + since.saturating_sub(drift(since))
    }
}

/// What a new sample showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It agrees with what was predicted.
    Steady,
    /// PostgreSQL's clock was stepped, or another server answers: every window must be closed.
    Stepped,
}

/// The estimate of PostgreSQL's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock<G = Enforced> {
    sample: Option<Sample>,
    /// Proofs at or before this time may be from before a step back.
    barrier: Option<PgTime>,
    guards: PhantomData<G>,
}

impl<G: Guards> Clock<G> {
    /// Takes a new sample.
    pub fn sampled(&mut self, new: Sample) -> Reading {
        let Some(old) = self.sample else {
            self.sample = Some(new);
            return Reading::Steady;
        };
        // A clock that was set back makes old proofs look young; they are refused until it has passed where it was.
        if new.upper < old.lower(new.asked) - STEP {
            self.barrier = self.barrier.max(Some(old.upper::<G>(new.answered)));
            self.sample = Some(new);
            return Reading::Stepped;
        }
        if new.lower > old.upper::<G>(new.answered) + STEP {
            self.sample = Some(new);
            return Reading::Stepped;
        }
        // Both bounds hold: keep the tighter one, so that one slow round trip does not age every proof for five
        // seconds.
        if new.upper::<G>(new.answered) <= old.upper::<G>(new.answered) {
            self.sample = Some(new);
        }
        Reading::Steady
    }

    /// The bounds of PostgreSQL's clock at `now`, lower first; nothing before the first sample.
    #[must_use]
    pub fn bounds(&self, now: Mono) -> Option<(PgTime, PgTime)> {
        self.sample.map(|s| (s.lower(now), s.upper::<G>(now)))
    }

    /// An instant of this process at which PostgreSQL's clock had not yet passed `t`: what a proof of time `t` is worth
    /// here. It is [`STEP`] earlier than it seems, so that it is true across a step too small to be noticed.
    ///
    /// Nothing when there is no sample, or when `t` cannot be true: the proof is then worth nothing.
    #[must_use]
    pub fn instant(&self, t: PgTime, now: Mono) -> Option<Mono> {
        let upper = self.sample?.upper::<G>(now);
        // Guard: a proof from the future means that the clock was stepped forward after our sample, and would stay young
        // for the step's length.
        if t > upper + STEP && G::enforced(Guard::ClockFuture) {
            return None;
        }
        // Guard: a proof from before a step back looks younger than it is by the step's length.
        if self.barrier.is_some_and(|barrier| t <= barrier) && G::enforced(Guard::ClockBarrier) {
            return None;
        }
        // Guard: the clock may have been stepped forward by too little to notice; then it showed `t` sooner than it seems, and a
        // proof from before a write would pass for one from after it.
        let margin = if G::enforced(Guard::ClockMargin) { STEP } else { Duration::ZERO };
        let since = (upper + margin).0.saturating_sub(t.0);
        Some(now - Duration::from_micros(u64::try_from(since).unwrap_or(0)))
    }

    /// Whether a proof of time `t` lies so far in the future that the clock must have been stepped.
    #[must_use]
    pub fn contradicts(&self, t: PgTime, now: Mono) -> bool {
        self.sample.is_some_and(|s| t > s.upper::<G>(now) + STEP)
    }

    /// Forgets the sample after [`Clock::contradicts`]: nothing is believed until a new one is in.
    pub fn distrust(&mut self) {
        self.sample = None;
    }
}

fn drift(over: Duration) -> Duration {
    // In 64 bits: this is computed with every read.
    Duration::from_nanos(u64::try_from(over.as_nanos()).unwrap_or(u64::MAX) / DRIFT + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn at(seconds: f64) -> Mono {
        Mono((seconds * 1e9) as i64)
    }

    fn pg(seconds: f64) -> PgTime {
        PgTime((seconds * 1e6) as i64)
    }

    fn sample(asked: f64, answered: f64, showed: f64) -> Sample {
        Sample { asked: at(asked), answered: at(answered), lower: pg(showed), upper: pg(showed) }
    }

    fn started() -> Clock {
        let mut clock: Clock = Clock::default();
        assert_eq!(clock.sampled(sample(0.0, 0.010, 1000.005)), Reading::Steady);
        clock
    }

    #[test]
    fn nothing_is_known_before_the_first_sample() {
        assert_eq!(<Clock>::default().instant(pg(5.0), at(0.0)), None);
    }

    #[test]
    fn an_age_is_never_too_small() {
        // The clock really showed 1000.000 at 0.0; the sample only bounds it. A proof of 1001.0 was thus true at 1.0.
        let clock = started();
        let worth = clock.instant(pg(1001.0), at(1.5)).unwrap();
        assert!(worth <= at(1.0), "{worth:?}");
        assert!(worth >= at(0.89), "{worth:?}");
    }

    #[test]
    fn the_estimate_allows_for_more_drift_with_time() {
        let clock = started();
        let worth = clock.instant(pg(1000.0 + 3600.0), at(3600.0)).unwrap();
        assert!(at(3600.0).since(worth) >= Duration::from_millis(700));
    }

    #[test]
    fn a_tighter_sample_replaces_and_a_looser_one_does_not() {
        let mut clock = started();
        clock.sampled(sample(1.0, 1.5, 1001.25));
        let loose = clock.bounds(at(2.0)).unwrap().1;
        assert!(loose <= pg(1002.006), "{loose:?}");
        clock.sampled(sample(2.0, 2.001, 1002.0));
        assert!(clock.bounds(at(2.0)).unwrap().1 <= pg(1002.001));
    }

    #[test]
    fn a_step_back_refuses_proofs_from_before_it() {
        let mut clock = started();
        assert_eq!(clock.sampled(sample(5.0, 5.001, 1004.5)), Reading::Stepped);
        assert_eq!(
            clock.instant(pg(1004.9), at(5.6)),
            None,
            "taken before the step, would look 0.2 s old and is 0.7 s old"
        );
        assert!(clock.instant(pg(1005.3), at(6.0)).is_some(), "the clock has passed where it was");
    }

    #[test]
    fn a_step_forward_is_seen_in_a_proof_and_in_a_sample() {
        let mut clock = started();
        assert!(clock.contradicts(pg(1003.0), at(1.0)));
        assert_eq!(clock.instant(pg(1003.0), at(1.0)), None);
        assert!(!clock.contradicts(pg(1001.05), at(1.0)));
        assert_eq!(clock.sampled(sample(1.0, 1.001, 1003.0)), Reading::Stepped);
        assert!(clock.instant(pg(1003.0), at(1.1)).is_some());
    }

    #[test]
    fn small_steps_forward_do_not_add_up_unseen() {
        let mut clock = started();
        let seen = (1..20).any(|i| {
            let i = f64::from(i);
            clock.sampled(sample(i, i + 0.001, 1000.0 + i * 1.03)) == Reading::Stepped
        });
        assert!(seen, "each sample is compared with the one that is kept");
    }

    #[test]
    fn the_bounds_of_another_process_compose() {
        let mut clock: Clock = Clock::default();
        clock.sampled(Sample { asked: Mono(0), answered: Mono(SECOND / 100), lower: pg(999.99), upper: pg(1000.02) });
        let worth = clock.instant(pg(1001.0), at(1.02)).unwrap();
        assert!(worth <= at(1.0));
    }
}
