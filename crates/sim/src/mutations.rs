//! The table of mutations: what happens when each guard is taken out.
//!
//! Invariant: every guard is either missed by some seed, or has a sentence here on why nothing can miss it.

use coherence::guards::Guard;

use crate::run::{self, Runs};

/// What became of the protocol without one guard.
#[derive(Clone, Debug)]
pub struct Mutation {
    /// The guard.
    pub guard: Guard,
    /// The seed that broke a promise without it, and which promise.
    pub killed: Option<(u64, &'static str)>,
    /// How many seeds were run.
    pub seeds: u64,
    /// Why no seed can miss it, for the guards that stand behind others.
    pub explained: Option<&'static str>,
}

/// Takes out one guard after the other, each for at most `budget` seeds.
#[must_use]
pub fn all(budget: u64) -> Vec<Mutation> {
    Guard::ALL.iter().map(|guard| one(*guard, budget)).collect()
}

/// Takes out one guard: first where it was missed before, then from seed 0 on.
#[must_use]
pub fn one(guard: Guard, budget: u64) -> Mutation {
    let explained = explanation(guard);
    let mut tried = Runs::default();
    if explained.is_none() {
        tried = run::many(missed_at(guard), 1, &[guard]);
        if tried.violations.is_empty() {
            tried = run::many(0, budget, &[guard]);
        }
    }
    let killed = tried.violations.first().map(|(seed, violation)| (*seed, violation.promise));
    Mutation { guard, killed, seeds: tried.seeds, explained }
}

/// Where rare misses were found last, so that a run need not search for them. Any seed will do; a wrong one costs time.
fn missed_at(guard: Guard) -> u64 {
    match guard {
        Guard::L1FillDeadline => 8516,
        Guard::L1FillFloor => 2714,
        Guard::ClockBarrier => 865,
        Guard::ClockFuture => 10545,
        Guard::ClockContradicted => 2009,
        Guard::ClockUpper => 1274,
        Guard::GetOneStep => 637,
        Guard::FoldGuarded => 12601,
        Guard::RelayDeposed => 14103,
        Guard::RelayProve => 2546,
        Guard::ApplyNamesSpace => 3118,
        Guard::ValidatedRest => 1911,
        Guard::WindowEpoch => 340,
        Guard::ApplyVoidsLease => 1477,
        Guard::FillLease => 1269,
        _ => 0,
    }
}

/// Why nothing can miss a guard.
fn explanation(guard: Guard) -> Option<&'static str> {
    Some(match guard {
        Guard::L1FillOrder => {
            "behind L1FillDeadline and L1FillFloor: what is newer in L1 raised a floor that outlives every flight"
        }
        Guard::JoinAge => "for speed: JoinServes refuses what is too old, this spares the wait for a flight that hangs",
        Guard::JoinFence => "for speed: JoinServes refuses what is from before the fence, this spares the wait",
        Guard::ValidatedEnd => {
            "behind L1End: without it a body may be answered once more after its end, by its own flight"
        }
        Guard::LoadedKeep => "for a database that lost commits, which is outside of the assumptions",
        Guard::FillVersion => "behind FillLease and ApplyVoidsLease: a lease does not outlive a change",
        Guard::FillDeadline => "the same as FillLeaseEnds, by the process's clock",
        Guard::FillLeaseEnds => "the same as FillDeadline, by Redis's clock",
        Guard::RelayClockBack => {
            "behind ClockBarrier and WindowEpoch: windows close when the step is read, and take no time back before that"
        }
        _ => return None,
    })
}
