//! The table of mutations: what happens when each wall is taken out.
//!
//! Invariant: every wall is either missed by some seed, or has a sentence here on why nothing can miss it.

use coherence::walls::Wall;

use crate::run::{self, Runs};

/// What became of the protocol without one wall.
#[derive(Clone, Debug)]
pub struct Mutation {
    /// The wall.
    pub wall: Wall,
    /// The seed that broke a promise without it, and which promise.
    pub killed: Option<(u64, &'static str)>,
    /// How many seeds were run.
    pub seeds: u64,
    /// Why no seed can miss it, for the walls that stand behind others.
    pub explained: Option<&'static str>,
}

/// Takes out one wall after the other, each for at most `budget` seeds.
#[must_use]
pub fn all(budget: u64) -> Vec<Mutation> {
    Wall::ALL.iter().map(|wall| one(*wall, budget)).collect()
}

/// Takes out one wall: first where it was missed before, then from seed 0 on.
#[must_use]
pub fn one(wall: Wall, budget: u64) -> Mutation {
    let explained = explanation(wall);
    let mut tried = Runs::default();
    if explained.is_none() {
        tried = run::many(missed_at(wall), 1, &[wall]);
        if tried.violations.is_empty() {
            tried = run::many(0, budget, &[wall]);
        }
    }
    let killed = tried.violations.first().map(|(seed, violation)| (*seed, violation.promise));
    Mutation { wall, killed, seeds: tried.seeds, explained }
}

/// Where rare misses were found last, so that a run need not search for them. Any seed will do; a wrong one costs time.
fn missed_at(wall: Wall) -> u64 {
    match wall {
        Wall::L1FillDeadline => 8516,
        Wall::L1FillFloor => 2714,
        Wall::ClockBarrier => 865,
        Wall::ClockFuture => 10545,
        Wall::ClockContradicted => 2009,
        Wall::ClockUpper => 1274,
        Wall::GetOneStep => 637,
        Wall::FoldGuarded => 12601,
        Wall::RelayDeposed => 14103,
        Wall::RelayProve => 2546,
        Wall::ApplyNamesSpace => 3118,
        Wall::ValidatedRest => 1911,
        Wall::WindowEpoch => 340,
        Wall::ApplyVoidsLease => 1477,
        Wall::FillLease => 1269,
        _ => 0,
    }
}

/// Why nothing can miss a wall.
fn explanation(wall: Wall) -> Option<&'static str> {
    Some(match wall {
        Wall::L1FillOrder => {
            "behind L1FillDeadline and L1FillFloor: what is newer in L1 raised a floor that outlives every flight"
        }
        Wall::JoinAge => "for speed: JoinServes refuses what is too old, this spares the wait for a flight that hangs",
        Wall::JoinFence => "for speed: JoinServes refuses what is from before the fence, this spares the wait",
        Wall::ValidatedEnd => {
            "behind L1End: without it a body may be answered once more after its end, by its own flight"
        }
        Wall::LoadedKeep => "for a database that lost commits, which is outside of the assumptions",
        Wall::FillVersion => "behind FillLease and ApplyVoidsLease: a lease does not outlive a change",
        Wall::FillDeadline => "the same as FillLeaseEnds, by the process's clock",
        Wall::FillLeaseEnds => "the same as FillDeadline, by Redis's clock",
        Wall::RelayClockBack => {
            "behind ClockBarrier and WindowEpoch: windows close when the step is read, and take no time back before that"
        }
        _ => return None,
    })
}
