//! What was last done with each key: a ring buffer for each part of the keys, to be logged when a violation is found.
//!
//! Plain hits in L1 are not recorded: each follows from the entry put in last and from the window, which are, and a hit
//! costs less than its record. Invariant: the size is bounded, and nothing is concluded from records that were overwritten.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coherence::read::Tier;
use coherence::time::Mono;
use coherence::window::Cause;

use super::comparison::CommitTime;

/// How many ring buffers there are, and the length of each: ten seconds of 1,600 operations a second, in about a megabyte.
const BUFFERS: usize = 64;
const LENGTH: usize = 256;

/// How far back a buffer must reach, and the window must be whole, for a change found in it to be the first of its kind.
const REACH: Duration = Duration::from_secs(10);

/// The maximum of operations in a trace.
const MAX_TRACE: usize = 32;

/// One thing done with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// The relay published a version that was committed after `since`, if that is known.
    Relayed { version: i64, since: Option<Mono> },
    /// A writer published a hint of it.
    Hinted { version: i64 },
    /// This process wrote it.
    Wrote { version: i64 },
    /// This process changed an aggregate.
    Barrier,
    /// L1 had it, without a proof.
    Unproven { version: i64 },
    /// L1 had it, and it was too old.
    TooOld { version: i64 },
    /// A load answered with it; it includes every commit before `fresh`.
    Answered { version: i64, tier: Tier, fresh: Mono },
}

#[derive(Clone, Copy, Debug)]
struct Record {
    at: Mono,
    key: u64,
    op: Op,
}

#[derive(Default)]
struct RingBuffer {
    records: VecDeque<Record>,
    /// When the newest record was made that was overwritten.
    overwritten: Option<Mono>,
}

/// The records of one process.
pub(crate) struct Records {
    on: bool,
    buffers: Vec<Mutex<RingBuffer>>,
    windows: Mutex<VecDeque<(Mono, Cause)>>,
    hasher: RandomState,
}

impl Records {
    pub(super) fn new(on: bool) -> Self {
        Self {
            on,
            buffers: (0..BUFFERS).map(|_| Mutex::default()).collect(),
            windows: Mutex::default(),
            hasher: RandomState::new(),
        }
    }

    /// Records an operation on `key`.
    pub(crate) fn note(&self, key: &str, at: Mono, op: Op) {
        if !self.on {
            return;
        }
        let (mut buffer, key) = self.buffer(key);
        if buffer.records.len() >= LENGTH {
            buffer.overwritten = buffer.records.pop_front().map(|oldest| oldest.at);
        }
        buffer.records.push_back(Record { at, key, op });
    }

    /// Records that the window was closed or restarted.
    pub(crate) fn window_restarted(&self, at: Mono, cause: Cause) {
        if self.on {
            let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
            if windows.len() >= MAX_TRACE {
                windows.pop_front();
            }
            windows.push_back((at, cause));
        }
    }

    /// When the first version above `version` was committed, for a reader who began at `begun`.
    pub(crate) fn first_newer(&self, key: &str, version: i64, begun: Mono) -> CommitTime {
        let began = begun - REACH;
        let whole = {
            let windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
            // Before the first message it is not known what was published.
            windows.back().is_some_and(|(last, _)| *last < began)
        };
        let (buffer, key) = self.buffer(key);
        let reaches = buffer.overwritten.is_none_or(|overwritten| overwritten < began);
        let mut committed = CommitTime::default();
        let mut relayed = false;
        for record in buffer.records.iter().filter(|record| record.key == key) {
            match record.op {
                Op::Relayed { version: newer, since } if newer > version => {
                    if !relayed {
                        committed.since = since.filter(|_| whole && reaches);
                        relayed = true;
                    }
                }
                Op::Hinted { version: newer } | Op::Wrote { version: newer } if newer > version => {}
                _ => continue,
            }
            committed.by = Some(committed.by.map_or(record.at, |by| by.min(record.at)));
        }
        committed
    }

    /// The last operations on `key` and restarts of the window, oldest first, in seconds before the last.
    pub(crate) fn trace(&self, key: &str) -> String {
        let mut lines: Vec<(Mono, String)> = {
            let (buffer, key) = self.buffer(key);
            let of_key = buffer.records.iter().rev().filter(|record| record.key == key).take(MAX_TRACE);
            of_key.map(|record| (record.at, describe(record))).collect()
        };
        let windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        lines.extend(windows.iter().map(|(at, cause)| (*at, format!("window: {}", cause.label()))));
        lines.sort_by_key(|(at, _)| *at);
        let last = lines.last().map_or(Mono(0), |(at, _)| *at);
        let mut trace = String::new();
        for (at, line) in lines {
            let _ = write!(
                trace,
                "{}-{:.3} {line}",
                if trace.is_empty() { "" } else { "; " },
                last.since(at).as_secs_f64()
            );
        }
        trace
    }

    fn buffer(&self, key: &str) -> (MutexGuard<'_, RingBuffer>, u64) {
        let hash = self.hasher.hash_one(key);
        let buffer = &self.buffers[usize::try_from(hash).unwrap_or(usize::MAX) % BUFFERS];
        (buffer.lock().unwrap_or_else(PoisonError::into_inner), hash)
    }
}

fn describe(record: &Record) -> String {
    let before = |at: Mono| format!("{:.3} s before", record.at.since(at).as_secs_f64());
    match record.op {
        Op::Relayed { version, since: Some(since) } => {
            format!("relayed {version}, committed at most {}", before(since))
        }
        Op::Relayed { version, since: None } => format!("relayed {version}"),
        Op::Hinted { version } => format!("hinted {version}"),
        Op::Wrote { version } => format!("wrote {version}"),
        Op::Barrier => "changed here".to_owned(),
        Op::Unproven { version } => format!("l1 had {version}, unproven"),
        Op::TooOld { version } => format!("l1 had {version}, too old"),
        Op::Answered { version, tier, fresh } => format!("{} {version}, as of {}", tier.label(), before(fresh)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    fn relayed(version: i64, since: i64) -> Op {
        Op::Relayed { version, since: Some(at(since)) }
    }

    /// Records whose window has been whole for long.
    fn records() -> Records {
        let records = Records::new(true);
        records.window_restarted(at(0), Cause::Start);
        records
    }

    #[test]
    fn the_first_newer_version_was_committed_between_two_messages() {
        let records = records();
        records.note("k", at(99), relayed(3, 98));
        records.note("k", at(101), Op::Hinted { version: 4 });
        records.note("k", at(102), relayed(4, 100));
        records.note("k", at(104), relayed(5, 103));
        records.note("other", at(90), relayed(9, 89));
        assert_eq!(records.first_newer("k", 3, at(110)), CommitTime { since: Some(at(100)), by: Some(at(101)) });
        assert_eq!(records.first_newer("k", 5, at(110)), CommitTime::default());
    }

    #[test]
    fn no_commit_time_is_claimed_where_a_message_may_be_lost() {
        let records = records();
        records.window_restarted(at(95), Cause::Gap);
        records.note("k", at(102), relayed(4, 100));
        assert_eq!(records.first_newer("k", 3, at(104)), CommitTime { since: None, by: Some(at(102)) });
        assert_eq!(
            records.first_newer("k", 3, at(106)).since,
            Some(at(100)),
            "the window has been whole for long enough"
        );
    }

    #[test]
    fn no_commit_time_is_claimed_where_records_were_overwritten() {
        let records = records();
        for _ in 0..=LENGTH {
            records.note("k", at(100), relayed(3, 99));
        }
        records.note("k", at(102), relayed(4, 101));
        assert_eq!(records.first_newer("k", 3, at(105)).since, None);
        assert_eq!(records.first_newer("k", 3, at(115)).since, Some(at(101)));
    }

    #[test]
    fn a_trace_is_of_one_key_and_of_the_window() {
        let records = records();
        records.note("k", at(100), relayed(4, 99));
        records.note("other", at(101), relayed(5, 100));
        records.note("k", at(102), Op::Answered { version: 4, tier: Tier::L2, fresh: at(101) });
        assert_eq!(
            records.trace("k"),
            "-102.000 window: start; -2.000 relayed 4, committed at most 1.000 s before; -0.000 l2 4, as of 1.000 s before"
        );
    }

    #[test]
    fn records_that_are_off_are_empty() {
        let records = Records::new(false);
        records.window_restarted(at(0), Cause::Start);
        records.note("k", at(1), Op::Barrier);
        assert_eq!(records.trace("k"), "");
    }
}
