//! What the observer counts, as metrics and as figures.
//!
//! Invariant: a sample is an answer that was judged; what was left open, passed over or could not be compared is counted
//! apart, so that the bound is not made smaller by what nobody looked at.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::{counter, gauge, histogram};

/// Which check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// A hit and the truth after it.
    Shadow,
    /// What processes and Redis would serve of a change, some time after it.
    Peek,
}

impl Check {
    const ALL: [Self; 2] = [Self::Shadow, Self::Peek];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Peek => "peek",
        }
    }
}

/// Which promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Older than the bound.
    Bound,
    /// Equal version, other content.
    Content,
    /// A version that the truth does not have.
    Ahead,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Bound, Self::Content, Self::Ahead];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Bound => "bound",
            Self::Content => "content",
            Self::Ahead => "ahead",
        }
    }
}

/// What became of something that was picked, when it broke no promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was the newest.
    Current,
    /// Something newer was committed, at most this long before.
    Within(Duration),
    /// Something newer was committed, and it is not proven when.
    Open,
    /// Nothing would be served.
    Nothing,
    /// Too much was being looked at.
    Skipped,
    /// The truth could not be read.
    Failed,
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Within(_) => "within",
            Self::Open => "open",
            Self::Nothing => "nothing",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }
}

/// What one check has found since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Answers judged, violations included.
    pub samples: u64,
    /// Answers that could be judged neither way.
    pub open: u64,
    /// Hits or changes that were picked and passed over, since too much was being looked at or the truth was away.
    pub passed_over: u64,
    /// Answers older than the bound.
    pub bound: u64,
    /// Answers with the content of another, for an equal version.
    pub content: u64,
    /// Answers with a version that the truth did not have.
    pub ahead: u64,
}

impl Checked {
    /// All violations.
    #[must_use]
    pub fn violations(&self) -> u64 {
        self.bound + self.content + self.ahead
    }

    /// The greatest share of violations among all answers that these samples leave likely, at 95 %: three in the number
    /// of samples if none was found. 1 without samples.
    #[must_use]
    pub fn likely_share(&self) -> f64 {
        if self.samples == 0 {
            return 1.0;
        }
        // Wilson and Hilferty's approximation of the upper bound of a Poisson count.
        let next = self.violations() as f64 + 1.0;
        let most = next * (1.0 - 1.0 / (9.0 * next) + 1.644_854 / (3.0 * next.sqrt())).powi(3);
        (most / self.samples as f64).min(1.0)
    }
}

/// What the observer has found since the process began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Hits, compared with the truth after them.
    pub shadows: Checked,
    /// What processes and Redis would serve, some time after a change.
    pub peeks: Checked,
    /// The last violation, with what was last done with its key.
    pub last: Option<String>,
}

#[derive(Default)]
struct Counts {
    judged: AtomicU64,
    open: AtomicU64,
    passed_over: AtomicU64,
    violations: [AtomicU64; 3],
}

/// The counts of both checks.
#[derive(Default)]
pub(super) struct Tally([Counts; 2]);

impl Tally {
    /// Shows every violation's counter as 0 from the beginning if the observer is `on`: an alert on a rise needs that.
    pub(super) fn new(on: bool) -> Self {
        for check in Check::ALL.into_iter().filter(|_| on) {
            for kind in Kind::ALL {
                violations(check, kind).increment(0);
            }
        }
        Self::default()
    }

    pub(super) fn count(&self, check: Check, outcome: Outcome) {
        let counts = &self.0[check as usize];
        match outcome {
            Outcome::Current | Outcome::Within(_) => add(&counts.judged),
            Outcome::Open => add(&counts.open),
            Outcome::Skipped | Outcome::Failed => add(&counts.passed_over),
            Outcome::Nothing => {}
        }
        if check == Check::Shadow {
            let staleness = histogram!("rushes_cache_observed_staleness_seconds");
            match outcome {
                Outcome::Current => staleness.record(Duration::ZERO),
                Outcome::Within(most) => staleness.record(most),
                _ => {}
            }
        }
        counter!("rushes_cache_observed_total", "check" => check.label(), "outcome" => outcome.label()).increment(1);
    }

    pub(super) fn violated(&self, check: Check, kind: Kind) {
        add(&self.0[check as usize].judged);
        add(&self.0[check as usize].violations[kind as usize]);
        counter!("rushes_cache_observed_total", "check" => check.label(), "outcome" => "violation").increment(1);
        violations(check, kind).increment(1);
    }

    pub(super) fn observed(&self) -> Observed {
        let of = |check: Check| {
            let counts = &self.0[check as usize];
            let violations = |kind: Kind| counts.violations[kind as usize].load(Ordering::Relaxed);
            Checked {
                samples: counts.judged.load(Ordering::Relaxed),
                open: counts.open.load(Ordering::Relaxed),
                passed_over: counts.passed_over.load(Ordering::Relaxed),
                bound: violations(Kind::Bound),
                content: violations(Kind::Content),
                ahead: violations(Kind::Ahead),
            }
        };
        Observed { shadows: of(Check::Shadow), peeks: of(Check::Peek), last: None }
    }

    pub(super) fn shown(&self) {
        let observed = self.observed();
        for (check, checked) in [(Check::Shadow, observed.shadows), (Check::Peek, observed.peeks)] {
            gauge!("rushes_cache_observed_likely_share", "check" => check.label()).set(checked.likely_share());
        }
    }
}

fn violations(check: Check, kind: Kind) -> metrics::Counter {
    counter!("rushes_cache_observed_violations_total", "check" => check.label(), "kind" => kind.label())
}

fn add(to: &AtomicU64) {
    to.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likely_share_follows_the_rule_of_three() {
        let share = |samples, bound| Checked { samples, bound, ..Checked::default() }.likely_share();
        assert_eq!(share(0, 0), 1.0);
        assert!((share(1_000_000, 0) * 1e6 - 3.0).abs() < 0.05, "{}", share(1_000_000, 0));
        // The exact bounds are 4.744 for one and 16.96 for ten.
        assert!((share(1_000_000, 1) * 1e6 - 4.744).abs() < 0.05, "{}", share(1_000_000, 1));
        assert!((share(1_000_000, 10) * 1e6 - 16.96).abs() < 0.05, "{}", share(1_000_000, 10));
    }

    #[test]
    fn only_what_was_judged_is_a_sample() {
        let tally = Tally::new(true);
        for outcome in [Outcome::Current, Outcome::Within(Duration::ZERO), Outcome::Open, Outcome::Nothing] {
            tally.count(Check::Shadow, outcome);
        }
        tally.count(Check::Shadow, Outcome::Skipped);
        tally.count(Check::Peek, Outcome::Failed);
        tally.violated(Check::Shadow, Kind::Content);
        let observed = tally.observed();
        let shadows = Checked { samples: 3, open: 1, passed_over: 1, content: 1, ..Checked::default() };
        assert_eq!(observed.shadows, shadows);
        assert_eq!(observed.peeks, Checked { passed_over: 1, ..Checked::default() });
    }
}
