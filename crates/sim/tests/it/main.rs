//! Twenty thousand histories without a broken promise, every mutant killed or equivalent, and a seed that replays exactly.
#![allow(clippy::unwrap_used, missing_docs)]

use rushes_sim::mutants;
use rushes_sim::run::{self, GATEWAY_SEEDS, Mode};

#[test]
fn no_seed_breaks_a_promise() {
    let runs = run::many(0, 20_000, &[]);
    assert_eq!(runs.seeds, 20_000);
    assert!(runs.violations.is_empty(), "{:#?}", runs.violations);
    assert!(runs.reads.iter().all(|tier| *tier > 100_000), "every tier answers: {:?}", runs.reads);
}

/// A process that loads and reads through the others, and keeps what they answered.
#[test]
fn no_seed_with_a_gateway_breaks_a_promise() {
    let runs = run::many(GATEWAY_SEEDS, 4_000, &[]);
    assert!(runs.violations.is_empty(), "{:#?}", runs.violations);
}

#[test]
fn every_mutant_is_killed_or_equivalent() {
    let mutants = mutants::all(30_000);
    let survivors: Vec<_> = mutants.iter().filter(|mutant| mutant.survives()).map(|mutant| mutant.guard).collect();
    assert!(survivors.is_empty(), "no seed breaks a promise without these: {survivors:?}");
    let killed = mutants.iter().filter(|mutant| mutant.killed.is_some()).count();
    assert_eq!((killed, mutants.len()), (44, 53), "the figures of docs/coherence.md");
}

#[test]
fn a_seed_is_a_history() {
    let run = |seed| run::one(seed, Mode { traced: true, ..Mode::default() });
    for seed in 0..22 {
        let (once, again) = (run(seed), run(seed));
        assert_eq!(once.reads, again.reads);
        assert!(once.trace == again.trace && once.trace.len() > 100, "seed {seed}");
    }
}
