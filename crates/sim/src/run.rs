//! Running seeds: one, many on all cores, and many with a guard taken out.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use coherence::guards::Guard;

use crate::checker::Violation;
use crate::removable;
pub use crate::simulation::GATEWAY_SEEDS;
use crate::simulation::Simulation;

/// The result of one seed.
#[derive(Clone, Debug, Default)]
pub struct Seed {
    /// Reads checked by tier: L1, L2, validated, loaded.
    pub reads: [u64; 4],
    /// Readers that joined another's load.
    pub joined: u64,
    /// Versions asked of PostgreSQL in place of a load.
    pub validations: u64,
    /// The promise that was broken, if one was.
    pub violation: Option<Violation>,
    /// All events, if they were asked for.
    pub trace: Vec<String>,
}

/// The result of many seeds.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    /// How many seeds were run.
    pub seeds: u64,
    /// Reads checked by tier: L1, L2, validated, loaded.
    pub reads: [u64; 4],
    /// Readers that joined another's load.
    pub joined: u64,
    /// Versions asked of PostgreSQL in place of a load.
    pub validations: u64,
    /// The seeds that broke a promise, the lowest first.
    pub violations: Vec<(u64, Violation)>,
}

impl Runs {
    fn add(&mut self, number: u64, seed: Seed) {
        self.seeds += 1;
        self.reads.iter_mut().zip(seed.reads).for_each(|(sum, more)| *sum += more);
        self.joined += seed.joined;
        self.validations += seed.validations;
        self.violations.extend(seed.violation.map(|violation| (number, violation)));
    }

    fn merge(mut self, other: Self) -> Self {
        self.seeds += other.seeds;
        self.reads.iter_mut().zip(other.reads).for_each(|(sum, more)| *sum += more);
        self.joined += other.joined;
        self.validations += other.validations;
        self.violations.extend(other.violations);
        self.violations.sort_by_key(|(seed, _)| *seed);
        self
    }
}

/// How a seed is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mode<'a> {
    /// The guards that are taken out.
    pub removed: &'a [Guard],
    /// Checks also what is not claimed: the time in which a process cannot know that PostgreSQL's clock was stepped.
    pub strict: bool,
    /// Keeps a line for every event.
    pub traced: bool,
}

/// Runs one seed.
#[must_use]
pub fn one(seed: u64, mode: Mode<'_>) -> Seed {
    removable::remove(mode.removed);
    let mut simulation = Simulation::new(seed, mode.traced, mode.strict);
    simulation.run();
    removable::remove(&[]);
    Seed {
        reads: simulation.checker.reads,
        joined: simulation.checker.joined,
        validations: simulation.checker.validations,
        violation: simulation.checker.violation.take(),
        trace: simulation.trace.take().unwrap_or_default(),
    }
}

/// Runs the seeds from `first` on, on all cores; with guards taken out, until one of them breaks a promise that it does not
/// break while all are enforced.
#[must_use]
pub fn many(first: u64, count: u64, removed: &[Guard]) -> Runs {
    let mutated = !removed.is_empty();
    let mode = Mode { removed, strict: mutated, traced: false };
    let next = AtomicU64::new(0);
    let found = AtomicBool::new(false);
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..cores)
            .map(|_| {
                scope.spawn(|| {
                    let mut runs = Runs::default();
                    while !(mutated && found.load(Ordering::Relaxed)) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            break;
                        }
                        let mut seed = one(first + number, mode);
                        if mutated && seed.violation.is_some() {
                            if one(first + number, Mode { removed: &[], ..mode }).violation.is_some() {
                                seed.violation = None;
                            } else {
                                found.store(true, Ordering::Relaxed);
                            }
                        }
                        runs.add(first + number, seed);
                    }
                    runs
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_default()).fold(Runs::default(), Runs::merge)
    })
}
