//! What watches were sent, from their first stream to their last, and whether it can be.
//!
//! - order: a stream begins with all that there is, or, resumed by a token, with a heartbeat; all is sent again only after a
//!   gap; a stream that ends without an error says so first; and no token that was given is refused;
//! - double, backwards: of one thing versions only rise, over all streams of a watch;
//! - missed: what anyone was answered is sent on every open stream, some seconds later at most;
//! - end: after the run each watch knows the true state of all that it watches.
//!
//! Invariant: a version may be skipped, for a later one is sent instead. So what is missed shows in what is known later, not
//! in a hole between two numbers.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::history::KnownVersions;

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

/// What is watched.
#[derive(Clone, Debug)]
pub(super) enum Subject {
    Dashboard,
    /// All generations of the account.
    Account,
    /// These, until they are over.
    Named(Vec<String>),
}

/// A watch, and whose it is.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) owner: usize,
    pub(super) subject: Subject,
    pub(super) watch: Arc<Watch>,
}

/// One watch, over all of its streams.
#[derive(Debug)]
pub(super) struct Watch {
    name: String,
    /// Ends by itself when all that it names is over.
    until_over: bool,
    observed: Mutex<Observed>,
}

#[derive(Debug, Default)]
struct Observed {
    events: Vec<(Instant, Event)>,
    known: HashMap<String, State>,
    /// Not in a snapshot that had no room for all: the client was told that it must ask.
    omitted: HashSet<String>,
}

/// What was seen on all watches, and what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct WatchFindings {
    pub(super) watches: usize,
    pub(super) events: u64,
    pub(super) streams: u64,
    pub(super) resumed: u64,
    pub(super) moved: u64,
    pub(super) gaps: u64,
    /// The longest that a stream was open without what was known elsewhere.
    pub(super) worst: Duration,
    /// By promise.
    pub(super) broken: BTreeMap<&'static str, u64>,
    pub(super) violations: Vec<String>,
}

impl fmt::Display for WatchFindings {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let broken = |promise| self.broken.get(promise).copied().unwrap_or_default();
        write!(
            out,
            "{} watches over {} streams, resumed {} times, {} moved on, {} gaps: {} events; {} out of order, {} missed, {} doubles, {} backwards, {} without their end; at most {} ms behind on an open stream",
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

impl WatchFindings {
    pub(super) fn object(&self) -> serde_json::Value {
        serde_json::json!({
            "watches": self.watches,
            "streams": self.streams,
            "resumed": self.resumed,
            "moved": self.moved,
            "events": self.events,
            "gaps": self.gaps,
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
        Self { name, until_over, observed: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Observed> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, event: Event) {
        self.add_at(Instant::now(), event);
    }

    fn add_at(&self, at: Instant, event: Event) {
        let mut observed = self.lock();
        match &event {
            Event::Snapshot(states) => {
                if states.len() >= LATEST {
                    let held: HashSet<_> = states.iter().map(|state| &state.key).collect();
                    let left: Vec<_> = observed.known.keys().filter(|key| !held.contains(key)).cloned().collect();
                    observed.omitted.extend(left);
                }
                for state in states {
                    observed.omitted.remove(&state.key);
                    observed.known.insert(state.key.clone(), state.clone());
                }
            }
            Event::Update(state) => {
                observed.omitted.remove(&state.key);
                observed.known.insert(state.key.clone(), state.clone());
            }
            _ => {}
        }
        observed.events.push((at, event));
    }

    /// Whether its stream was opened without a token and has brought nothing yet.
    pub(super) fn is_fresh(&self) -> bool {
        matches!(self.lock().events.last(), Some((_, Event::Opened { resumed: false })))
    }

    /// Whether it ends by itself, and all that it was shown is over.
    pub(super) fn is_over(&self) -> bool {
        self.until_over && self.lock().known.values().all(|state| state.over)
    }

    /// What of the truth it does not know: keys with the version that there is and the older one that it has.
    pub(super) fn lacks(&self, truth: &HashMap<String, i64>) -> Vec<(String, i64, i64)> {
        self.differences(truth, |known, there| known < there)
    }

    /// Of which keys it was shown a later version than there is.
    pub(super) fn exceeds(&self, truth: &HashMap<String, i64>) -> Vec<(String, i64, i64)> {
        self.differences(truth, |known, there| known > there)
    }

    fn differences(&self, truth: &HashMap<String, i64>, differs: impl Fn(i64, i64) -> bool) -> Vec<(String, i64, i64)> {
        let observed = self.lock();
        let known = |key: &String| observed.known.get(key).map_or(0, |state| state.version);
        let differing =
            truth.iter().filter(|(key, there)| differs(known(key), **there) && !observed.omitted.contains(*key));
        differing.map(|(key, there)| (key.clone(), *there, known(key))).collect()
    }

    /// Checks all that it saw. `known` is what clients were answered of each key that it watches, `truth` what it had to know
    /// before it was let go, `latest` what there is after that; without `punctual` a stream may bring no news for long, since
    /// there is nobody to ask.
    pub(super) fn check(
        &self,
        known: &HashMap<&String, KnownVersions>,
        truth: &HashMap<String, i64>,
        latest: &HashMap<String, i64>,
        punctual: bool,
        findings: &mut WatchFindings,
    ) {
        findings.watches += 1;
        self.check_order(findings);
        if punctual {
            self.check_lag(known, findings);
        }
        for (key, there, has) in self.lacks(truth).into_iter().chain(self.exceeds(latest)) {
            findings.violation("end", self, format_args!("{key} ended at version {there}, and what it knows is {has}"));
        }
    }

    fn check_order(&self, findings: &mut WatchFindings) {
        let observed = self.lock();
        let mut known: HashMap<&String, &State> = HashMap::new();
        let (mut begins, mut resumed, mut gap, mut moved) = (true, false, false, false);
        for (_, event) in &observed.events {
            let first = begins;
            match event {
                Event::Opened { resumed: token } => {
                    findings.streams += 1;
                    findings.resumed += u64::from(*token);
                    (begins, resumed, gap, moved) = (true, *token, false, false);
                    continue;
                }
                Event::Broken => continue,
                Event::Refused => {
                    findings.violation("order", self, "a token that it was given was refused");
                    continue;
                }
                Event::Ended => {
                    let over = self.until_over && known.values().all(|state| state.over) && !known.is_empty();
                    if !moved && !over {
                        findings.violation("order", self, "a stream ended without a word");
                    }
                    continue;
                }
                _ => begins = false,
            }
            findings.events += 1;
            match event {
                Event::Snapshot(states) => {
                    if !gap && (resumed || !first) {
                        findings.violation("order", self, "all was sent again without a gap");
                    }
                    for state in states {
                        let old = known.insert(&state.key, state).map_or(0, |old| old.version);
                        if state.version < old {
                            let what = format_args!("{} went from version {old} to {}", state.key, state.version);
                            findings.violation("backwards", self, what);
                        }
                    }
                    gap = false;
                }
                Event::Update(state) => {
                    if first {
                        findings.violation("order", self, "a change was sent before anything else");
                    }
                    let old = known.insert(&state.key, state).map_or(0, |old| old.version);
                    if state.version == old {
                        findings.violation("double", self, format_args!("{} at version {old}", state.key));
                    } else if state.version < old {
                        let what = format_args!("{} went from version {old} to {}", state.key, state.version);
                        findings.violation("backwards", self, what);
                    }
                }
                Event::Gap => {
                    findings.gaps += 1;
                    gap = true;
                }
                Event::Moved => {
                    findings.moved += 1;
                    moved = true;
                }
                _ => {}
            }
        }
    }

    /// How long streams were open without what was known elsewhere.
    fn check_lag(&self, known: &HashMap<&String, KnownVersions>, findings: &mut WatchFindings) {
        let observed = self.lock();
        let mut streams: Vec<(Instant, Instant)> = Vec::new();
        let mut sent: HashMap<&String, Vec<(Instant, i64)>> = HashMap::new();
        for (at, event) in &observed.events {
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
        for (key, known) in known.iter().filter(|(key, _)| !observed.omitted.contains(**key)) {
            let sent = sent.get(key).map_or(&[][..], Vec::as_slice);
            for (since, version) in known.rising() {
                // Versions rise, or that was found broken already.
                let had = sent.get(sent.partition_point(|(_, sent)| sent < version)).map(|(at, _)| *at);
                for (opened, heard) in &streams {
                    let until = had.map_or(*heard, |had| had.min(*heard));
                    let lag = until.saturating_duration_since((*since).max(*opened));
                    findings.worst = findings.worst.max(lag);
                    if lag > LATE {
                        let ms = lag.as_millis();
                        let what =
                            format_args!("{key} had version {version}, and a stream was open for {ms} ms without it");
                        findings.violation("missed", self, what);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
