//! The rate of one account or key in one class.
//!
//! Invariant: a bucket is that of the whole installation, and one gateway of several takes from it as many cells for each call as there
//! are gateways. So a change of their number takes effect with the next call, and nobody gets a new burst by it.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
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
        Self { rate, limiter, clock }
    }

    /// Takes a call at one of `gateways`. A refusal has the time after which the same call is taken.
    pub(super) fn take(&self, gateways: NonZeroU32) -> Result<Level, (Level, Duration)> {
        // More cells than there are would never be had: then the gateways together take somewhat more than the rate.
        let cells = gateways.min(self.rate.burst);
        match self.limiter.check_n(cells) {
            Ok(Ok(state)) => Ok(self.level(state.remaining_burst_capacity(), cells)),
            Ok(Err(until)) => Err((self.level(0, cells), until.wait_time_from(self.clock.now()))),
            Err(_) => Err((self.level(0, cells), Duration::from_secs(1))),
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
        std::iter::from_fn(|| bucket.take(gateways).ok()).count()
    }

    #[test]
    fn a_burst_is_taken_and_then_the_rate() {
        let clock = FakeRelativeClock::default();
        let bucket = Bucket::with_clock(Rate::new(10, 40), clock.clone());
        let first = Level { quota: 40, window: 4, remaining: 39, reset: 1 };
        assert_eq!(bucket.take(ONE), Ok(first));
        assert_eq!(taken(&bucket, ONE), 39);
        let (level, wait) = bucket.take(ONE).unwrap_err();
        assert_eq!((level.remaining, level.reset, wait), (0, 4, Duration::from_millis(100)));
        clock.advance(wait);
        assert_eq!(taken(&bucket, ONE), 1);
        clock.advance(Duration::from_secs(60));
        assert_eq!(taken(&bucket, ONE), 40, "no more than a burst is saved");
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
    fn more_gateways_than_a_burst_has_cells_take_one_call_each_in_its_time() {
        let bucket = Bucket::with_clock(Rate::new(1, 2), FakeRelativeClock::default());
        assert_eq!(taken(&bucket, FOUR), 1);
    }
}
