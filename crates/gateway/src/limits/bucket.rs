//! The rate of one account or key in one class.
//!
//! Invariant: a bucket is that of the whole installation, and one gateway of several takes from it as many times the cells of a call as
//! there are gateways. So a change of their number takes effect with the next call, and nobody gets a new burst by it.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock, Reference as _},
    middleware::StateInformationMiddleware,
    state::{InMemoryState, NotKeyed},
};

use super::settings::Rate;
use crate::model::Level;

type Limiter<C> = RateLimiter<NotKeyed, InMemoryState, C, StateInformationMiddleware>;

/// One bucket; it fills by itself.
#[derive(Debug)]
pub(super) struct Bucket<C: Clock = DefaultClock> {
    rate: Rate,
    limiter: Limiter<C>,
    clock: C,
    start: C::Instant,
    /// What the last call left: the milliseconds from the start in the upper half, the cells in the lower.
    last: AtomicU64,
}

impl Bucket {
    pub(super) fn new(rate: Rate) -> Self {
        Self::with_clock(rate, DefaultClock::default())
    }
}

impl<C: Clock + Clone> Bucket<C> {
    fn with_clock(rate: Rate, clock: C) -> Self {
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        let limiter = RateLimiter::direct_with_clock(quota, clock.clone()).with_middleware();
        let (start, last) = (clock.now(), AtomicU64::new(rate.burst.get().into()));
        Self { rate, limiter, clock, start, last }
    }

    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    /// What is left now, without taking anything.
    pub(super) fn left(&self, gateways: NonZeroU32) -> Level {
        let last = self.last.load(Ordering::Relaxed);
        let (at, left) = (last >> 32, last & u64::from(u32::MAX));
        let filled = self.elapsed().saturating_sub(at) * u64::from(self.rate.per_second.get()) / 1_000;
        let left = u32::try_from(left + filled).unwrap_or(u32::MAX).min(self.rate.burst.get());
        self.level(left, gateways.min(self.rate.burst))
    }

    /// The milliseconds since the start.
    fn elapsed(&self) -> u64 {
        self.clock.now().duration_since(self.start).as_u64() / 1_000_000
    }

    /// Remembers what a call left. Of two at once either may be remembered last: the other took one cell more.
    fn remember(&self, left: u32) {
        self.last.store(self.elapsed() << 32 | u64::from(left), Ordering::Relaxed);
    }

    /// Takes a call that counts as `calls` at one of `gateways`. A refusal has the time after which the same call is taken.
    pub(super) fn take(&self, calls: NonZeroU32, gateways: NonZeroU32) -> Result<Level, (Level, Duration)> {
        // More cells than there are would never be had: then the gateways together take somewhat more than the rate.
        let cells = gateways.saturating_mul(calls).min(self.rate.burst);
        let gateways = gateways.min(self.rate.burst);
        match self.limiter.check_n(cells) {
            Ok(Ok(state)) => {
                self.remember(state.remaining_burst_capacity());
                Ok(self.level(state.remaining_burst_capacity(), gateways))
            }
            Ok(Err(until)) => {
                self.remember(0);
                Err((self.level(0, gateways), until.wait_time_from(self.clock.now())))
            }
            Err(_) => Err((self.level(0, gateways), Duration::from_secs(1))),
        }
    }

    fn level(&self, left: u32, cells: NonZeroU32) -> Level {
        let Rate { per_second, burst } = self.rate;
        Level {
            quota: burst.get() / cells,
            window: self.rate.window(),
            remaining: left / cells,
            reset: burst.get().saturating_sub(left).div_ceil(per_second.get()),
        }
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    const ONE: NonZeroU32 = NonZeroU32::MIN;
    const FOUR: NonZeroU32 = NonZeroU32::new(4).unwrap();

    fn taken<C: Clock + Clone>(bucket: &Bucket<C>, gateways: NonZeroU32) -> usize {
        std::iter::from_fn(|| bucket.take(ONE, gateways).ok()).count()
    }

    #[test]
    fn a_burst_is_taken_and_then_the_rate() {
        let clock = FakeRelativeClock::default();
        let bucket = Bucket::with_clock(Rate::new(10, 40), clock.clone());
        let first = Level { quota: 40, window: 4, remaining: 39, reset: 1 };
        assert_eq!(bucket.take(ONE, ONE), Ok(first));
        assert_eq!(taken(&bucket, ONE), 39);
        let (level, wait) = bucket.take(ONE, ONE).unwrap_err();
        assert_eq!((level.remaining, level.reset, wait), (0, 4, Duration::from_millis(100)));
        clock.advance(wait);
        assert_eq!(taken(&bucket, ONE), 1);
        clock.advance(Duration::from_secs(60));
        assert_eq!(taken(&bucket, ONE), 40, "no more than a burst is saved");
    }

    #[test]
    fn what_is_left_is_read_without_taking_it() {
        let clock = FakeRelativeClock::default();
        let bucket = Bucket::with_clock(Rate::new(10, 40), clock.clone());
        let left = || bucket.left(ONE).remaining;
        assert_eq!((left(), left()), (40, 40), "nothing was taken yet");
        for _ in 0..30 {
            bucket.take(ONE, ONE).unwrap();
        }
        assert_eq!((left(), bucket.left(FOUR).remaining), (10, 2));
        clock.advance(Duration::from_millis(500));
        assert_eq!(left(), 15);
        assert_eq!(taken(&bucket, ONE), 15, "as many as were said to be left");
        assert_eq!(left(), 0);
        clock.advance(Duration::from_secs(3_600));
        assert_eq!(left(), 40, "no more than a burst is saved");
    }

    #[test]
    fn gateways_together_take_the_whole_and_a_change_of_their_number_gives_no_new_burst() {
        let clock = FakeRelativeClock::default();
        let of_four: Vec<_> = (0..4).map(|_| Bucket::with_clock(Rate::new(10, 40), clock.clone())).collect();
        assert_eq!(of_four.iter().map(|bucket| taken(bucket, FOUR)).sum::<usize>(), 40);
        assert_eq!(taken(&of_four[0], ONE), 0, "it is alone now, and its bucket as empty as before");
        clock.advance(Duration::from_secs(1));
        assert_eq!(taken(&of_four[0], ONE), 10);
        let seconds: usize = (0..10)
            .map(|_| {
                clock.advance(Duration::from_secs(1));
                of_four[1..].iter().map(|bucket| taken(bucket, FOUR)).sum::<usize>()
            })
            .sum();
        // Of four gateways one has died and the others have not noticed: three quarters of the rate are taken, and what was saved in
        // the second before.
        assert!((75..=83).contains(&seconds), "{seconds}");
    }

    #[test]
    fn what_counts_as_several_takes_several_and_no_more_than_there_ever_are() {
        let clock = FakeRelativeClock::default();
        let bucket = Bucket::with_clock(Rate::new(10, 40), clock.clone());
        assert_eq!(bucket.take(FOUR, ONE), Ok(Level { quota: 40, window: 4, remaining: 36, reset: 1 }));
        assert_eq!(bucket.take(FOUR, FOUR), Ok(Level { quota: 10, window: 4, remaining: 5, reset: 2 }));
        assert_eq!(std::iter::from_fn(|| bucket.take(FOUR, ONE).ok()).count(), 5);
        assert_eq!(bucket.take(FOUR, ONE).unwrap_err().1, Duration::from_millis(400));
        clock.advance(Duration::from_secs(4));
        assert!(bucket.take(NonZeroU32::new(100).unwrap(), ONE).is_ok());
        assert_eq!(taken(&bucket, ONE), 0, "it took all");
    }

    #[test]
    fn more_gateways_than_a_burst_has_cells_take_one_call_each_in_its_time() {
        let bucket = Bucket::with_clock(Rate::new(1, 2), FakeRelativeClock::default());
        assert_eq!(taken(&bucket, FOUR), 1);
    }
}
