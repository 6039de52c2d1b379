//! What watches were sent, from their first stream to their last, and whether it can be.
//!
//! - order: a stream begins with all that there is, or, taken up by a token, with a heartbeat; all is sent again only after a
//!   gap was told; a stream that ends without an error says so first; and no token that was given is refused;
//! - double, backwards: of one thing versions only rise, over all streams of a watch;
//! - missed: what was told to anyone is sent on every stream that stands, some seconds later at most;
//! - end: after the run each watch knows the true state of all that it watches.
//!
//! Invariant: a version may be skipped, for a later one is sent instead. So what is missed shows in what is known later, not
//! in a hole between two numbers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::history::Told;

/// Every fault ends within four seconds; then a service looks for what it missed, and has it. The rest is for a crowded
/// machine.
const LATE: Duration = Duration::from_secs(15);
/// What a snapshot of a parent holds in any case, however much there is.
const LATEST: usize = 100;

/// One thing as it was sent.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) key: String,
    pub(super) version: i64,
    /// Whether it can still change.
    pub(super) over: bool,
}

/// What a watch saw.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A stream began, with a token or without one.
    Opened {
        resumed: bool,
    },
    /// All that there is.
    Snapshot(Vec<State>),
    /// What changed.
    Update(State),
    /// It stands; or what it showed is of no one state.
    Alive,
    Gap,
    Moved,
    /// The stream ended without an error.
    Ended,
    /// The stream broke, or the client left it.
    Broken,
    /// A token was refused.
    Refused,
}

/// One watch, over all of its streams.
#[derive(Debug)]
pub(super) struct Watch {
    name: String,
    /// Ends by itself when all that it names is over.
    until_over: bool,
    sights: Mutex<Sights>,
}

#[derive(Debug, Default)]
struct Sights {
    events: Vec<(Instant, Event)>,
    known: HashMap<String, State>,
    /// Not in a snapshot that had no room for all: the client was told that it must ask.
    untold: HashSet<String>,
}

/// What was seen on all watches.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) watches: usize,
    pub(super) events: u64,
    pub(super) streams: u64,
    pub(super) resumed: u64,
    pub(super) moved: u64,
    pub(super) gaps: u64,
    /// The longest that a stream stood without what had been told elsewhere.
    pub(super) worst: Duration,
    /// By promise.
    pub(super) broken: BTreeMap<&'static str, u64>,
    pub(super) violations: Vec<String>,
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let broken = |promise| self.broken.get(promise).copied().unwrap_or_default();
        write!(
            out,
            "{} watches over {} streams, taken up by token {} times, {} moved on, {} gaps told: {} events; {} out of order, {} missed, {} doubles, {} backwards, {} without their end; at most {} ms behind on a stream that stood",
            self.watches,
            self.streams,
            self.resumed,
            self.moved,
            self.gaps,
            self.events,
            broken("order"),
            broken("missed"),
            broken("double"),
            broken("backwards"),
            broken("end"),
            self.worst.as_millis()
        )
    }
}

impl Tally {
    pub(super) fn object(&self) -> serde_json::Value {
        serde_json::json!({
            "watches": self.watches,
            "streams": self.streams,
            "resumed": self.resumed,
            "moved": self.moved,
            "events": self.events,
            "gaps_told": self.gaps,
            "worst_lag_ms": self.worst.as_millis(),
            "broken": self.broken,
        })
    }

    fn violation(&mut self, promise: &'static str, watch: &Watch, what: impl fmt::Display) {
        *self.broken.entry(promise).or_default() += 1;
        self.violations.push(format!("{promise}: {}: {what}", watch.name));
    }
}

impl Watch {
    pub(super) fn new(name: String, until_over: bool) -> Self {
        Self { name, until_over, sights: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Sights> {
        self.sights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, event: Event) {
        self.add_at(Instant::now(), event);
    }

    fn add_at(&self, at: Instant, event: Event) {
        let mut sights = self.lock();
        match &event {
            Event::Snapshot(states) => {
                if states.len() >= LATEST {
                    let held: HashSet<_> = states.iter().map(|state| &state.key).collect();
                    let left: Vec<_> = sights.known.keys().filter(|key| !held.contains(key)).cloned().collect();
                    sights.untold.extend(left);
                }
                for state in states {
                    sights.untold.remove(&state.key);
                    sights.known.insert(state.key.clone(), state.clone());
                }
            }
            Event::Update(state) => {
                sights.untold.remove(&state.key);
                sights.known.insert(state.key.clone(), state.clone());
            }
            _ => {}
        }
        sights.events.push((at, event));
    }

    /// Whether it has been shown nothing yet.
    pub(super) fn is_blank(&self) -> bool {
        self.lock().known.is_empty()
    }

    /// Whether it ends by itself, and all that it was shown is over.
    pub(super) fn is_over(&self) -> bool {
        self.until_over && self.lock().known.values().all(|state| state.over)
    }

    /// What of the truth it does not know: keys with the version that there is and the one that it has.
    pub(super) fn lacks(&self, truth: &HashMap<String, i64>) -> Vec<(String, i64, i64)> {
        let sights = self.lock();
        let known = |key: &String| sights.known.get(key).map_or(0, |state| state.version);
        let lacking = truth.iter().filter(|(key, version)| known(key) != **version && !sights.untold.contains(*key));
        lacking.map(|(key, version)| (key.clone(), *version, known(key))).collect()
    }

    /// Puts all that it saw on the tally. `told` is what clients were answered of each key that it watches, `truth` what
    /// there is in the end; without `punctual` a stream may stand without news for long, since there is nobody to ask.
    pub(super) fn judge(
        &self,
        told: &HashMap<&String, Told>,
        truth: &HashMap<String, i64>,
        punctual: bool,
        tally: &mut Tally,
    ) {
        tally.watches += 1;
        self.judge_order(tally);
        if punctual {
            self.judge_lag(told, tally);
        }
        for (key, there, has) in self.lacks(truth) {
            tally.violation("end", self, format_args!("{key} ended at version {there}, and what it knows is {has}"));
        }
    }

    fn judge_order(&self, tally: &mut Tally) {
        let sights = self.lock();
        let mut known: HashMap<&String, &State> = HashMap::new();
        let (mut begins, mut resumed, mut gap, mut moved) = (true, false, false, false);
        for (_, event) in &sights.events {
            let first = begins;
            match event {
                Event::Opened { resumed: token } => {
                    tally.streams += 1;
                    tally.resumed += u64::from(*token);
                    (begins, resumed, gap, moved) = (true, *token, false, false);
                    continue;
                }
                Event::Broken => continue,
                Event::Refused => {
                    tally.violation("order", self, "a token that it was given was refused");
                    continue;
                }
                Event::Ended => {
                    let over = self.until_over && known.values().all(|state| state.over) && !known.is_empty();
                    if !moved && !over {
                        tally.violation("order", self, "a stream ended without a word");
                    }
                    continue;
                }
                _ => begins = false,
            }
            tally.events += 1;
            match event {
                Event::Snapshot(states) => {
                    if !gap && (resumed || !first) {
                        tally.violation("order", self, "all was sent again, and no gap was told");
                    }
                    for state in states {
                        let old = known.insert(&state.key, state).map_or(0, |old| old.version);
                        if state.version < old {
                            let what = format_args!("{} went from version {old} to {}", state.key, state.version);
                            tally.violation("backwards", self, what);
                        }
                    }
                    gap = false;
                }
                Event::Update(state) => {
                    if first {
                        tally.violation("order", self, "a change was sent before anything else");
                    }
                    let old = known.insert(&state.key, state).map_or(0, |old| old.version);
                    if state.version == old {
                        tally.violation("double", self, format_args!("{} at version {old}", state.key));
                    } else if state.version < old {
                        let what = format_args!("{} went from version {old} to {}", state.key, state.version);
                        tally.violation("backwards", self, what);
                    }
                }
                Event::Gap => {
                    tally.gaps += 1;
                    gap = true;
                }
                Event::Moved => {
                    tally.moved += 1;
                    moved = true;
                }
                _ => {}
            }
        }
    }

    /// How long streams stood without what had been told elsewhere.
    fn judge_lag(&self, told: &HashMap<&String, Told>, tally: &mut Tally) {
        let sights = self.lock();
        let mut streams: Vec<(Instant, Instant)> = Vec::new();
        let mut sent: HashMap<&String, Vec<(Instant, i64)>> = HashMap::new();
        for (at, event) in &sights.events {
            match (event, streams.last_mut()) {
                (Event::Opened { .. }, _) => streams.push((*at, *at)),
                // Whoever leaves a stream has heard nothing for a while.
                (Event::Broken | Event::Refused, _) | (_, None) => {}
                (_, Some((_, heard))) => *heard = *at,
            }
            let states = match event {
                Event::Snapshot(states) => states.as_slice(),
                Event::Update(state) => std::slice::from_ref(state),
                _ => &[],
            };
            for state in states {
                sent.entry(&state.key).or_default().push((*at, state.version));
            }
        }
        for (key, told) in told.iter().filter(|(key, _)| !sights.untold.contains(**key)) {
            let sent = sent.get(key).map_or(&[][..], Vec::as_slice);
            for (since, version) in told.rising() {
                // Versions rise, or that was found broken already.
                let had = sent.get(sent.partition_point(|(_, sent)| sent < version)).map(|(at, _)| *at);
                for (opened, heard) in &streams {
                    let until = had.map_or(*heard, |had| had.min(*heard));
                    let lag = until.saturating_duration_since((*since).max(*opened));
                    tally.worst = tally.worst.max(lag);
                    if lag > LATE {
                        let ms = lag.as_millis();
                        let what = format_args!("{key} had version {version}, and a stream stood {ms} ms without it");
                        tally.violation("missed", self, what);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
