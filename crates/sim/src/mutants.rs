//! The table of mutants: the protocol without one guard, for each guard.
//!
//! Invariant: every mutant is either killed by some seed, or equivalent to the protocol, with a sentence here that says why.

use coherence::guards::Guard;

use crate::run::{self, Runs};
use crate::simulation::GATEWAY_SEEDS;

/// The protocol without one guard, and what became of it.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// The guard.
    pub guard: Guard,
    /// The seed that broke a promise, and which promise; nothing if the mutant survives.
    pub killed: Option<(u64, &'static str)>,
    /// How many seeds were run.
    pub seeds: u64,
    /// Why no seed can kill it.
    pub equivalent: Option<&'static str>,
}

impl Mutant {
    /// Whether no seed killed it, and nothing says why.
    #[must_use]
    pub fn survives(&self) -> bool {
        self.killed.is_none() && self.equivalent.is_none()
    }
}

/// Takes out one guard after the other, each for at most `budget` seeds.
#[must_use]
pub fn all(budget: u64) -> Vec<Mutant> {
    Guard::ALL.iter().map(|guard| one(*guard, budget)).collect()
}

/// Takes out one guard: first in the seed that killed this mutant before, then from seed 0 on.
#[must_use]
pub fn one(guard: Guard, budget: u64) -> Mutant {
    let equivalent = equivalence(guard);
    let mut tried = Runs::default();
    if equivalent.is_none() {
        tried = run::many(last_killer(guard), 1, &[guard]);
        if tried.violations.is_empty() {
            tried = run::many(first_seed(guard), budget, &[guard]);
        }
    }
    let killed = tried.violations.first().map(|(seed, violation)| (*seed, violation.promise));
    Mutant { guard, killed, seeds: tried.seeds, equivalent }
}

/// The first seed that has what a guard guards.
fn first_seed(guard: Guard) -> u64 {
    match guard {
        Guard::PassedOn | Guard::AskedElsewhere | Guard::WrittenThrough => GATEWAY_SEEDS,
        _ => 0,
    }
}

/// The seed that killed a mutant last, so that a run need not search for it. Any seed will do; a wrong one costs time.
fn last_killer(guard: Guard) -> u64 {
    match guard {
        Guard::L1FillDeadline => 8516,
        Guard::L1FillWatermark => 2714,
        Guard::ClockBarrier => 865,
        Guard::ClockFuture => 10545,
        Guard::ClockContradicted => 2009,
        Guard::ClockUpper => 1274,
        Guard::GetOneStep => 637,
        Guard::CompactGuarded => 12601,
        Guard::RelaySuperseded => 14103,
        Guard::RelayProve => 2546,
        Guard::ApplyNamesSpace => 3118,
        Guard::ValidatedRest => 1911,
        Guard::WindowEpoch => 340,
        Guard::ApplyVoidsLease => 1477,
        Guard::FillLease => 1269,
        Guard::PassedOn => GATEWAY_SEEDS + 4,
        Guard::WrittenThrough => GATEWAY_SEEDS + 1,
        _ => first_seed(guard),
    }
}

/// Why a mutant cannot be killed.
fn equivalence(guard: Guard) -> Option<&'static str> {
    Some(match guard {
        Guard::L1FillOrder => {
            "behind L1FillDeadline and L1FillWatermark: what is newer in L1 raised a watermark that outlives every load"
        }
        Guard::JoinAge => "for speed: JoinAccepts refuses what is too old, this spares the wait for a load that hangs",
        Guard::JoinBarrier => "for speed: JoinAccepts refuses what is from before the barrier, this spares the wait",
        Guard::ValidatedEnd => {
            "behind L1End: without it a body may be answered once more after its end, by its own load"
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
