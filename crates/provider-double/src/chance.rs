//! Everything that is left to chance, drawn from the seed or asked for by a `[word]` in the prompt.
//!
//! Invariant: what is drawn depends on the seed, the settings and the number of draws before, and on nothing else. So each
//! function draws the same number of times whatever comes out: a prompt's word must not shift what the next order draws.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;

use crate::order::{Fate, Reception, State};
use crate::settings::{Faults, Settings};

/// The dice of one double.
#[derive(Debug)]
pub(crate) struct Chance {
    rng: Mutex<Rng>,
    faults: Faults,
    waits: (u64, u64),
    renders: (u64, u64),
}

impl Chance {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            rng: Mutex::new(Rng::with_seed(settings.seed)),
            faults: settings.faults,
            waits: settings.waits,
            renders: settings.renders,
        }
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut Rng, &Faults) -> T) -> T {
        draw(&mut self.rng.lock().unwrap_or_else(PoisonError::into_inner), &self.faults)
    }

    /// Whether this poll, cancel or download goes wrong.
    pub(crate) fn is_unavailable(&self) -> bool {
        self.draw(|rng, faults| rng.f64() < faults.unavailable)
    }

    /// Whether what goes wrong is a cut rather than an error.
    pub(crate) fn is_cut(&self) -> bool {
        self.draw(|rng, _| rng.bool())
    }

    /// How a request for an order with this prompt is received.
    pub(crate) fn reception(&self, prompt: &str) -> Reception {
        let asked_for = |word: &str| prompt.contains(&format!("[{word}]"));
        self.draw(|rng, faults| {
            let mut left = rng.f64();
            let late = Duration::from_millis(rng.u64(100..2_000));
            for (word, share, reception) in [
                ("cut-before", faults.cut_before, Reception::CutBefore),
                ("cut-after", faults.cut_after, Reception::CutAfter),
                ("error-after", faults.error_after, Reception::ErrorAfter),
                ("late", faults.late, Reception::Late(late)),
                ("throttled", faults.throttled, Reception::Throttled),
            ] {
                if asked_for(word) || (0.0..share).contains(&left) {
                    return reception;
                }
                left -= share;
            }
            Reception::Fine
        })
    }

    /// What becomes of an order with this prompt.
    pub(crate) fn fate(&self, prompt: &str) -> Fate {
        let asked_for = |word: &str| prompt.contains(&format!("[{word}]"));
        let (waits, renders) = (self.waits, self.renders);
        self.draw(|rng, faults| {
            let mut is = |word: &str, share: f64| rng.f64() < share || asked_for(word);
            let (failed, endless) = (is("failed", faults.failed), is("endless", faults.endless));
            let fate = Fate {
                wait: Duration::ZERO,
                render: Duration::ZERO,
                end: match (endless, failed, asked_for("unsafe")) {
                    (true, ..) => None,
                    (_, true, _) => Some(State::Failed),
                    (.., true) => Some(State::Unsafe),
                    _ => Some(State::Made),
                },
                forgotten: is("forgotten", faults.forgotten),
                // One that never ends has to end by a cancel.
                stubborn: is("stubborn", faults.stubborn) && !endless,
                unknown_word: is("unknown-word", faults.unknown_word),
                hook_lost: is("hook-lost", faults.hook_lost),
                hook_twice: is("hook-twice", faults.hook_twice),
                hook_forged: is("hook-forged", faults.hook_forged),
                hook_reordered: is("hook-reordered", faults.hook_reordered),
                hook_late: Duration::ZERO,
            };
            let hook_late = if is("hook-late", faults.hook_late) { rng.u64(200..3_000) } else { 0 };
            Fate {
                wait: Duration::from_millis(rng.u64(waits.0..=waits.1)),
                render: Duration::from_millis(if asked_for("slow") { 3_000 } else { rng.u64(renders.0..=renders.1) }),
                hook_late: Duration::from_millis(hook_late),
                ..fate
            }
        })
    }
}
