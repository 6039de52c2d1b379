//! All that clients were answered, and whether it can be.
//!
//! - bound: a read has at least what anyone was answered a second before it began;
//! - forward: in one life of one process, a read that began after another was answered is not older;
//! - own writes: what a process had replied to a writer, its later readers have;
//! - content: equal version, equal content.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The promise.
const BOUND: Duration = Duration::from_secs(1);

/// One answer about one key.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// What it is about.
    pub(super) key: String,
    /// Its version: a row's, an aggregate's, or a writer's own count.
    pub(super) version: i64,
    /// Of equal versions equal; nothing where the version alone says all.
    pub(super) content: Option<u64>,
    /// The client's clock before the call, and after the answer.
    pub(super) begun: Instant,
    pub(super) replied: Instant,
    /// The process that answered, and its life; nothing when it died meanwhile.
    pub(super) by: Option<(usize, u32)>,
    pub(super) kind: Kind,
}

/// How it came to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    /// Nobody asked for it just then, so it has no bound of its own; it binds others.
    Watch,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) reads: u64,
    pub(super) writes: u64,
    pub(super) worst: Duration,
    pub(super) violations: Vec<String>,
}

/// Everything seen so far.
pub(super) struct History {
    origin: Instant,
    seen: Mutex<HashMap<String, Vec<Seen>>>,
}

impl History {
    pub(super) fn new() -> Self {
        Self { origin: Instant::now(), seen: Mutex::default() }
    }

    pub(super) fn add(&self, seen: Seen) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).entry(seen.key.clone()).or_default().push(seen);
    }

    pub(super) fn check(&self) -> Findings {
        let mut findings = Findings::default();
        for seen in self.seen.lock().unwrap_or_else(PoisonError::into_inner).values() {
            self.check_key(seen, &mut findings);
        }
        findings
    }

    /// What clients knew of each of these keys, and since when.
    pub(super) fn known<'a>(&self, keys: impl Iterator<Item = &'a String>) -> HashMap<&'a String, KnownVersions> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        keys.filter_map(|key| Some((key, KnownVersions::of(seen.get(key)?.iter())))).collect()
    }

    fn check_key(&self, seen: &[Seen], findings: &mut Findings) {
        let known = KnownVersions::of(seen.iter());
        let mut by_process: HashMap<(usize, u32), Vec<&Seen>> = HashMap::new();
        for one in seen {
            if let Some(by) = one.by {
                by_process.entry(by).or_default().push(one);
            }
        }
        let known_by: HashMap<_, _> =
            by_process.iter().map(|(by, seen)| (*by, KnownVersions::of(seen.iter().copied()))).collect();
        let mut contents = HashMap::new();
        for one in seen {
            match one.kind {
                Kind::Read => findings.reads += 1,
                Kind::Watch => {}
                Kind::Write => {
                    findings.writes += 1;
                    continue;
                }
            }
            if one.kind == Kind::Read
                && let Some(since) = known.since_newer(one.version).filter(|since| *since <= one.begun)
            {
                findings.worst = findings.worst.max(one.begun - since);
                if one.begun - since > BOUND {
                    findings.violations.push(self.broken("bound", one, &known, seen));
                }
            }
            if let Some(known) = one.by.and_then(|by| known_by.get(&by))
                && known.since_newer(one.version).is_some_and(|since| since <= one.begun)
            {
                findings.violations.push(self.broken("forward or own writes", one, known, seen));
            }
            if let Some(content) = one.content
                && *contents.entry(one.version).or_insert(content) != content
            {
                findings.violations.push(self.broken("content", one, &known, seen));
            }
        }
    }

    /// A broken promise, with what the key's history was around it.
    fn broken(&self, promise: &str, one: &Seen, known: &KnownVersions, seen: &[Seen]) -> String {
        let ms = |at: Instant| at.duration_since(self.origin).as_millis();
        let line = |one: &Seen| {
            format!(
                "    {:?} of version {} by {:?}, {} to {} ms",
                one.kind,
                one.version,
                one.by,
                ms(one.begun),
                ms(one.replied)
            )
        };
        let newer = known.since_newer(one.version).map(ms);
        let mut near: Vec<_> = seen.iter().filter(|other| other.replied <= one.replied).collect();
        near.sort_by_key(|other| other.replied);
        let near: Vec<_> = near.into_iter().rev().take(12).rev().map(line).collect();
        format!(
            "{promise} broken for {}: version {} was read by {:?} from {} to {} ms, a newer one was known since {newer:?} ms\n{}",
            one.key,
            one.version,
            one.by,
            ms(one.begun),
            ms(one.replied),
            near.join("\n")
        )
    }
}

/// From when on which version was known to clients.
#[derive(Debug)]
pub(super) struct KnownVersions(Vec<(Instant, i64)>);

impl KnownVersions {
    fn of<'a>(seen: impl Iterator<Item = &'a Seen>) -> Self {
        Self::from(seen.map(|one| (one.replied, one.version)).collect())
    }

    pub(super) fn from(mut known: Vec<(Instant, i64)>) -> Self {
        known.sort_unstable();
        let mut rising: Vec<(Instant, i64)> = Vec::new();
        for (at, version) in known {
            if rising.last().is_none_or(|(_, last)| version > *last) {
                rising.push((at, version));
            }
        }
        Self(rising)
    }

    /// Each version that was the newest, with when it was first known.
    pub(super) fn rising(&self) -> &[(Instant, i64)] {
        &self.0
    }

    /// When a version above this one was first known.
    fn since_newer(&self, version: i64) -> Option<Instant> {
        let at = self.0.partition_point(|(_, known)| *known <= version);
        self.0.get(at).map(|(since, _)| *since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A read or write of one key by a process, in milliseconds.
    fn seen(history: &History, version: i64, (from, to): (u64, u64), by: usize, kind: Kind, content: u64) {
        let at = |ms| history.origin + Duration::from_millis(ms);
        history.add(Seen {
            key: "k".to_owned(),
            version,
            content: Some(content),
            begun: at(from),
            replied: at(to),
            by: Some((by, 0)),
            kind,
        });
    }

    fn check(build: impl Fn(&History), broken: Option<&str>) {
        let history = History::new();
        build(&history);
        let findings = history.check();
        match broken {
            None => assert!(findings.violations.is_empty(), "{:?}", findings.violations),
            Some(promise) => {
                assert!(findings.violations.iter().any(|found| found.starts_with(promise)), "{promise}: {findings:?}");
            }
        }
    }

    #[test]
    fn each_promise_is_found_broken() {
        // One process writes version 2; another may show version 1 for a second.
        check(
            |h| {
                seen(h, 2, (0, 10), 0, Kind::Write, 2);
                seen(h, 1, (900, 950), 1, Kind::Read, 1);
            },
            None,
        );
        check(
            |h| {
                seen(h, 2, (0, 10), 0, Kind::Write, 2);
                seen(h, 1, (1011, 1020), 1, Kind::Read, 1);
            },
            Some("bound"),
        );
        // What one reader was shown binds all others as a write does.
        check(
            |h| {
                seen(h, 2, (0, 10), 0, Kind::Read, 2);
                seen(h, 1, (1011, 1020), 1, Kind::Read, 1);
            },
            Some("bound"),
        );
        // And what a watch showed; of itself it is not asked when it was asked.
        check(
            |h| {
                seen(h, 2, (10, 10), 2, Kind::Watch, 2);
                seen(h, 1, (1011, 1020), 1, Kind::Read, 1);
            },
            Some("bound"),
        );
        check(
            |h| {
                seen(h, 2, (0, 10), 0, Kind::Write, 2);
                seen(h, 1, (1011, 1020), 1, Kind::Watch, 1);
            },
            None,
        );
        // The writer's own process shows it at once, and so does one that showed it before.
        check(
            |h| {
                seen(h, 2, (0, 10), 0, Kind::Write, 2);
                seen(h, 1, (11, 20), 0, Kind::Read, 1);
            },
            Some("forward or own"),
        );
        check(
            |h| {
                seen(h, 2, (0, 10), 0, Kind::Read, 2);
                seen(h, 1, (11, 20), 0, Kind::Read, 1);
            },
            Some("forward or own"),
        );
        // A read that began before the answer may be older.
        check(
            |h| {
                seen(h, 2, (0, 10), 0, Kind::Write, 2);
                seen(h, 1, (9, 20), 0, Kind::Read, 1);
            },
            None,
        );
        check(
            |h| {
                seen(h, 2, (0, 10), 0, Kind::Read, 2);
                seen(h, 2, (20, 30), 1, Kind::Read, 3);
            },
            Some("content"),
        );
        check(
            |h| {
                seen(h, 2, (0, 10), 0, Kind::Read, 2);
                seen(h, 2, (20, 30), 1, Kind::Watch, 3);
            },
            Some("content"),
        );
    }

    #[test]
    fn the_worst_staleness_is_measured() {
        let history = History::new();
        seen(&history, 2, (0, 10), 0, Kind::Write, 2);
        seen(&history, 1, (300, 320), 1, Kind::Read, 1);
        seen(&history, 1, (200, 900), 1, Kind::Read, 1);
        assert_eq!(history.check().worst, Duration::from_millis(290));
    }
}
