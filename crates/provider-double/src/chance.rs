//! Everything that is left to chance, drawn from the seed or asked for by a `[word]` in the prompt.
//!
//! Invariant: what is drawn about an order depends on the seed, the faults' probabilities and the order's number, and on nothing
//! else: each has dice of its own, thrown equally often whatever comes out. So neither a prompt's word nor the number of polls
//! shifts what the next order draws.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;

use crate::faults::Faults;
use crate::kinds::{Kind, PollFault, Reception, Row, Times};
use crate::order::{Fate, HookFate, State};
use crate::settings::Settings;
use crate::words::{Asked, asked};

/// The dice of one double.
#[derive(Debug)]
pub(crate) struct Chance {
    dice: Mutex<Dice>,
    seed: u64,
    waits: (u64, u64),
    renders: (u64, u64),
    strict: bool,
}

#[derive(Debug)]
struct Dice {
    /// For what belongs to no order's number.
    rng: Rng,
    /// How many orders were drawn.
    orders: u64,
    faults: Faults,
}

/// What was drawn about a request for an order.
pub(crate) struct Draw {
    /// How it is received, where not as it should be.
    pub(crate) reception: Option<Reception>,
    /// How late the answer comes, if it comes late.
    pub(crate) late: Duration,
    pub(crate) fate: Fate,
}

impl Chance {
    pub(crate) fn new(settings: &Settings) -> Self {
        let dice = Dice { rng: Rng::with_seed(settings.seed), orders: 0, faults: settings.faults };
        Self {
            dice: Mutex::new(dice),
            seed: settings.seed,
            waits: settings.waits,
            renders: settings.renders,
            strict: settings.strict,
        }
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut Dice) -> T) -> T {
        draw(&mut self.dice.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn faults(&self) -> Faults {
        self.draw(|dice| dice.faults)
    }

    /// Orders from now on are drawn with these.
    pub(crate) fn set_faults(&self, faults: Faults) {
        self.draw(|dice| dice.faults = faults);
    }

    /// Whether a call is answered with a 5xx before anything looks at it.
    pub(crate) fn is_out(&self) -> bool {
        self.draw(|dice| dice.rng.f64() < dice.faults.outage)
    }

    /// Whether this poll, cancel or download goes wrong.
    pub(crate) fn is_unavailable(&self) -> bool {
        self.draw(|dice| dice.rng.f64() < dice.faults.unavailable)
    }

    /// Whether what goes wrong is a cut, or a page of HTML, rather than an error.
    pub(crate) fn is_cut(&self) -> bool {
        self.draw(|dice| dice.rng.bool())
    }

    /// What becomes of the next request for an order, with this prompt.
    pub(crate) fn order(&self, prompt: &str) -> Draw {
        let (mut rng, faults) = self.draw(|dice| {
            dice.orders += 1;
            (Rng::with_seed(self.seed ^ dice.orders.wrapping_mul(0x9E37_79B9_7F4A_7C15)), dice.faults)
        });
        let reception = choose(&mut rng, prompt, &Reception::table(&faults)).map(|(kind, _)| kind);
        let late = Duration::from_millis(rng.u64(100..2_000));
        let wait = Duration::from_millis(rng.u64(self.waits.0..=self.waits.1));
        let render = Duration::from_millis(rng.u64(self.renders.0..=self.renders.1));
        let hook_late = Duration::from_millis(rng.u64(200..3_000));
        // A fault that passes holds for so many requests; one of a later poll is at that one.
        let (few, later, lasting) = (rng.u32(1..=3), rng.u32(2..=5), rng.f64() < faults.lasting);
        let passing = if lasting { Times::Ever } else { Times::First(few) };
        let safety = choose(&mut rng, prompt, &Kind::table(&faults));
        let output = choose(&mut rng, prompt, &Kind::table(&faults)).map(|(kind, _)| kind);
        let poll = choose(&mut rng, prompt, &PollFault::table(&faults)).map(|(kind, asked)| {
            let drawn = if kind == PollFault::NotFoundLater { Times::First(later) } else { passing };
            let alone = if kind == PollFault::NotFoundLater { Times::First(2) } else { Times::First(3) };
            (kind, times(asked, kind.nature(), alone, drawn))
        });
        let file = choose(&mut rng, prompt, &Kind::table(&faults)).map(|(kind, asked)| {
            let kind: crate::kinds::FileFault = kind;
            (kind, times(asked, kind.nature(), Times::First(1), passing))
        });
        let mut is = |word: &str, share: f64| {
            let drawn = rng.f64() < share;
            drawn || asked(prompt, word).is_some()
        };
        let (failed, endless) = (is("failed", faults.failed), is("endless", faults.endless));
        let end = match (endless, failed, safety) {
            (true, ..) => None,
            (_, true, _) => Some(State::Failed),
            (.., Some((safety, _))) => Some(State::Unsafe(safety)),
            _ => Some(State::Made),
        };
        let hook_is_late = is("hook-late", faults.hook_late);
        let hook = HookFate {
            lost: is("hook-lost", faults.hook_lost),
            twice: is("hook-twice", faults.hook_twice),
            late: if hook_is_late { hook_late } else { Duration::ZERO },
            forged: is("hook-forged", faults.hook_forged),
            reordered: is("hook-reordered", faults.hook_reordered),
            other_id: is("hook-other-id", faults.hook_other_id),
            no_id: is("hook-no-id", faults.hook_no_id),
            long: is("hook-long", faults.hook_long),
        };
        let fate = Fate {
            wait,
            render: if asked(prompt, "slow").is_some() { Duration::from_secs(3) } else { render },
            end,
            charged: is("charge-failed", faults.charge_failed),
            strict: is("strict", faults.strict) || self.strict,
            forgotten: is("forgotten", faults.forgotten),
            stubborn: is("stubborn", faults.stubborn),
            unknown_word: is("unknown-word", faults.unknown_word),
            poll,
            output,
            file,
            hook,
            // Never drawn: what is handed out is the same.
            flagged: asked(prompt, "flagged").is_some(),
        };
        Draw { reception, late, fate }
    }
}

/// The kind that the prompt asks for, or else the one that is drawn: one throw in either case.
fn choose<T: Copy>(rng: &mut Rng, prompt: &str, table: &[Row<T>]) -> Option<(T, Option<Asked>)> {
    let mut left = rng.f64();
    let wanted = table.iter().find_map(|(word, _, kind)| Some((*kind, Some(asked(prompt, word)?))));
    let drawn = table.iter().find_map(|(_, share, kind)| {
        let found = (0.0..*share).contains(&left).then_some((*kind, None));
        left -= share;
        found
    });
    wanted.or(drawn)
}

/// For how many requests a fault holds: as the prompt says; else by its nature; else `alone` for a bare word, or as drawn.
fn times(asked: Option<Asked>, nature: Option<Times>, alone: Times, drawn: Times) -> Times {
    match (asked, nature) {
        (Some(Asked::For(times)), _) => times,
        (_, Some(nature)) => nature,
        (Some(Asked::Plainly), None) => alone,
        (None, None) => drawn,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(share: f64) -> Settings {
        let faults = Faults {
            cut_after: share,
            failed: share,
            file_403: share,
            poll_404: share,
            output_list: share,
            hook_late: share,
            ..Faults::default()
        };
        Settings { waits: (0, 1_000), renders: (0, 1_000), faults, ..Settings::new("bill") }
    }

    fn drawn(chance: &Chance, prompt: &str) -> String {
        let draw = chance.order(prompt);
        format!("{:?} {:?} {:?}", draw.reception, draw.late, draw.fate)
    }

    #[test]
    fn neither_words_nor_polls_nor_probabilities_shift_what_the_next_order_draws() {
        let (one, other) = (Chance::new(&settings(0.3)), Chance::new(&settings(0.3)));
        for word in ["", "[cut-after]", "[file-403:ever]", "[poll-404]", "[hook-late]", "[failed] [unsafe]", "[slow]"] {
            drawn(&one, word);
            drawn(&other, "a harbour");
            other.is_unavailable();
            other.is_out();
            assert_eq!(drawn(&one, "a harbour"), drawn(&other, "a harbour"), "{word}");
        }
        one.set_faults(settings(1.0).faults);
        drawn(&one, "a harbour");
        drawn(&other, "a harbour");
        one.set_faults(settings(0.3).faults);
        assert_eq!(drawn(&one, "a harbour"), drawn(&other, "a harbour"));
    }

    #[test]
    fn each_fault_comes_as_often_as_it_should() {
        let chance = Chance::new(&settings(0.2));
        let draws: Vec<_> = (0..5_000).map(|_| chance.order("a harbour")).collect();
        let share = |is: &dyn Fn(&Draw) -> bool| draws.iter().filter(|draw| is(draw)).count() as f64 / 5_000.0;
        for (what, share) in [
            ("reception", share(&|draw| draw.reception == Some(Reception::CutAfter))),
            ("end", share(&|draw| draw.fate.end == Some(State::Failed))),
            ("poll", share(&|draw| draw.fate.poll.is_some())),
            ("file", share(&|draw| draw.fate.file.is_some())),
            ("output", share(&|draw| draw.fate.output.is_some())),
            ("hook", share(&|draw| draw.fate.hook.late > Duration::ZERO)),
            ("all three", share(&|draw| draw.fate.poll.is_some() && draw.fate.file.is_some()) * 5.0),
        ] {
            assert!((0.17..0.23).contains(&share), "{what}: {share}");
        }
        assert!(draws.iter().all(|draw| draw.fate.file.is_none_or(|(_, times)| times != Times::Ever)));
    }
}
