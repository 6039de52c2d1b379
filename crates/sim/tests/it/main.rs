//! Twenty thousand histories without a broken promise, every guard missed when it is gone, and a seed that replays exactly.
#![allow(clippy::unwrap_used, missing_docs)]

use rushes_sim::mutations;
use rushes_sim::run::{self, Mode};

#[test]
fn no_seed_breaks_a_promise() {
    let runs = run::many(0, 20_000, &[]);
    assert_eq!(runs.seeds, 20_000);
    assert!(runs.violations.is_empty(), "{:#?}", runs.violations);
    assert!(runs.reads.iter().all(|tier| *tier > 100_000), "every tier is put to the test: {:?}", runs.reads);
}

#[test]
fn every_wall_is_missed_or_explained() {
    let alive: Vec<_> = mutations::all(30_000)
        .into_iter()
        .filter(|mutation| mutation.killed.is_none() && mutation.explained.is_none())
        .map(|mutation| mutation.guard)
        .collect();
    assert!(alive.is_empty(), "nothing notices when these are gone: {alive:?}");
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
