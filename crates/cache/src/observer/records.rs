//! What was last done with each key: a ring per part of the keys, to be written down when something is found to be wrong.
//!
//! Plain hits in L1 are not recorded: each follows from the entry put in last and from the window, which are, and a hit
//! costs less than its record. Invariant: its size is bounded, and what it no longer remembers it does not claim to know.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coherence::read::Tier;
use coherence::time::Mono;
use coherence::window::Cause;

use super::verdict::Placed;

/// How many rings there are, and how much each holds: ten seconds of 1,600 operations a second, in about a megabyte.
const RINGS: usize = 64;
const DEPTH: usize = 256;

/// How far back a ring must reach, and the window must be whole, for a change found in it to be the first of its kind.
const REACH: Duration = Duration::from_secs(10);

/// The most operations that are written down.
const TOLD: usize = 32;

/// One thing done with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// The relay told of a version that was committed after `since`, if that is known.
    Told { version: i64, since: Option<Mono> },
    /// A writer told of it.
    Hinted { version: i64 },
    /// This process wrote it.
    Wrote { version: i64 },
    /// This process changed an aggregate.
    Fenced,
    /// L1 held it, without a proof.
    Unproven { version: i64 },
    /// L1 held it, and it was too old.
    Useless { version: i64 },
    /// A flight answered with it; it includes every commit before `fresh`.
    Answered { version: i64, tier: Tier, fresh: Mono },
}

#[derive(Clone, Copy, Debug)]
struct Record {
    at: Mono,
    key: u64,
    op: Op,
}

#[derive(Default)]
struct Ring {
    records: VecDeque<Record>,
    /// When the newest record was made that is gone.
    forgotten: Option<Mono>,
}

/// The rings of one process.
pub(crate) struct Records {
    on: bool,
    rings: Vec<Mutex<Ring>>,
    windows: Mutex<VecDeque<(Mono, Cause)>>,
    spread: RandomState,
}

impl Records {
    pub(super) fn new(on: bool) -> Self {
        Self {
            on,
            rings: (0..RINGS).map(|_| Mutex::default()).collect(),
            windows: Mutex::default(),
            spread: RandomState::new(),
        }
    }

    /// Records an operation on `key`.
    pub(crate) fn note(&self, key: &str, at: Mono, op: Op) {
        if !self.on {
            return;
        }
        let (mut ring, key) = self.ring(key);
        if ring.records.len() >= DEPTH {
            ring.forgotten = ring.records.pop_front().map(|gone| gone.at);
        }
        ring.records.push_back(Record { at, key, op });
    }

    /// Records that the window was closed or began anew.
    pub(crate) fn restarted(&self, at: Mono, cause: Cause) {
        if self.on {
            let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
            if windows.len() >= TOLD {
                windows.pop_front();
            }
            windows.push_back((at, cause));
        }
    }

    /// When the first version above `version` was committed, for a reader who began at `begun`.
    pub(super) fn placed(&self, key: &str, version: i64, begun: Mono) -> Placed {
        let began = begun - REACH;
        let whole = {
            let windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
            // Before the first message nothing is known of what was missed.
            windows.back().is_some_and(|(last, _)| *last < began)
        };
        let (ring, key) = self.ring(key);
        let reaches = ring.forgotten.is_none_or(|forgotten| forgotten < began);
        let mut placed = Placed::default();
        let mut told = false;
        for record in ring.records.iter().filter(|record| record.key == key) {
            match record.op {
                Op::Told { version: newer, since } if newer > version => {
                    if !told {
                        placed.since = since.filter(|_| whole && reaches);
                        told = true;
                    }
                }
                Op::Hinted { version: newer } | Op::Wrote { version: newer } if newer > version => {}
                _ => continue,
            }
            placed.by = Some(placed.by.map_or(record.at, |by| by.min(record.at)));
        }
        placed
    }

    /// The last operations on `key` and what became of the window meanwhile, oldest first, in seconds before the last.
    pub(super) fn tale(&self, key: &str) -> String {
        let mut lines: Vec<(Mono, String)> = {
            let (ring, key) = self.ring(key);
            let mine = ring.records.iter().rev().filter(|record| record.key == key).take(TOLD);
            mine.map(|record| (record.at, describe(record))).collect()
        };
        let windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        lines.extend(windows.iter().map(|(at, cause)| (*at, format!("window: {}", cause.label()))));
        lines.sort_by_key(|(at, _)| *at);
        let last = lines.last().map_or(Mono(0), |(at, _)| *at);
        let mut tale = String::new();
        for (at, line) in lines {
            let _ =
                write!(tale, "{}-{:.3} {line}", if tale.is_empty() { "" } else { "; " }, last.since(at).as_secs_f64());
        }
        tale
    }

    fn notify(&self, key: &str) -> (MutexGuard<'_, Ring>, u64) {
        let hash = self.spread.hash_one(key);
        let ring = &self.rings[usize::try_from(hash).unwrap_or(usize::MAX) % RINGS];
        (ring.lock().unwrap_or_else(PoisonError::into_inner), hash)
    }
}

fn describe(record: &Record) -> String {
    let before = |at: Mono| format!("{:.3} s before", record.at.since(at).as_secs_f64());
    match record.op {
        Op::Told { version, since: Some(since) } => format!("told {version}, committed at most {}", before(since)),
        Op::Told { version, since: None } => format!("told {version}"),
        Op::Hinted { version } => format!("hinted {version}"),
        Op::Wrote { version } => format!("wrote {version}"),
        Op::Fenced => "changed here".to_owned(),
        Op::Unproven { version } => format!("l1 held {version} unproven"),
        Op::Useless { version } => format!("l1 held {version}, too old"),
        Op::Answered { version, tier, fresh } => format!("{} {version}, as of {}", tier.label(), before(fresh)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    fn told(version: i64, since: i64) -> Op {
        Op::Told { version, since: Some(at(since)) }
    }

    /// Records whose window has been whole for long.
    fn records() -> Records {
        let records = Records::new(true);
        records.restarted(at(0), Cause::Start);
        records
    }

    #[test]
    fn the_first_newer_version_is_placed_between_two_messages() {
        let records = records();
        records.note("k", at(99), told(3, 98));
        records.note("k", at(101), Op::Hinted { version: 4 });
        records.note("k", at(102), told(4, 100));
        records.note("k", at(104), told(5, 103));
        records.note("other", at(90), told(9, 89));
        assert_eq!(records.placed("k", 3, at(110)), Placed { since: Some(at(100)), by: Some(at(101)) });
        assert_eq!(records.placed("k", 5, at(110)), Placed::default());
    }

    #[test]
    fn nothing_is_placed_where_a_message_may_have_been_missed() {
        let records = records();
        records.restarted(at(95), Cause::Gap);
        records.note("k", at(102), told(4, 100));
        assert_eq!(records.placed("k", 3, at(104)), Placed { since: None, by: Some(at(102)) });
        assert_eq!(records.placed("k", 3, at(106)).since, Some(at(100)), "the window has been whole for long enough");
    }

    #[test]
    fn nothing_is_placed_where_something_was_forgotten() {
        let records = records();
        for _ in 0..=DEPTH {
            records.note("k", at(100), told(3, 99));
        }
        records.note("k", at(102), told(4, 101));
        assert_eq!(records.placed("k", 3, at(105)).since, None);
        assert_eq!(records.placed("k", 3, at(115)).since, Some(at(101)));
    }

    #[test]
    fn the_tale_is_of_one_key_and_of_the_window() {
        let records = records();
        records.note("k", at(100), told(4, 99));
        records.note("other", at(101), told(5, 100));
        records.note("k", at(102), Op::Answered { version: 4, tier: Tier::L2, fresh: at(101) });
        assert_eq!(
            records.tale("k"),
            "-102.000 window: start; -2.000 told 4, committed at most 1.000 s before; -0.000 l2 4, as of 1.000 s before"
        );
    }

    #[test]
    fn switched_off_it_holds_nothing() {
        let records = Records::new(false);
        records.restarted(at(0), Cause::Start);
        records.note("k", at(1), Op::Fenced);
        assert_eq!(records.tale("k"), "");
    }
}
