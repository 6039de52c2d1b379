//! The observer's counters, as metrics and as figures.
//!
//! Invariant: a sample is an answer of which it is proven that it kept or broke the promise; what was left open, was skipped or could
//! not be compared is counted apart, so that no claim rests on what was not checked.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::metrics;

/// Which check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// A hit, and the truth after it.
    ShadowRead,
    /// What processes and Redis would serve of a change, some time after it.
    ReplicaProbe,
}

impl Check {
    const ALL: [Self; 2] = [Self::ShadowRead, Self::ReplicaProbe];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::ShadowRead => "shadow_read",
            Self::ReplicaProbe => "replica_probe",
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

/// The outcome of a check in which no promise was broken.
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
    /// Too much was being checked.
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
    /// Answers of which it is proven that they kept or broke the promise.
    pub samples: u64,
    /// Answers of which neither is proven.
    pub open: u64,
    /// Hits or changes that were picked and not checked, since too much was being checked or the truth could not be read.
    pub skipped: u64,
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
        let max = next * (1.0 - 1.0 / (9.0 * next) + 1.644_854 / (3.0 * next.sqrt())).powi(3);
        (max / self.samples as f64).min(1.0)
    }
}

/// What the observer has found since the process began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Hits, compared with the truth after them.
    pub shadow_reads: Checked,
    /// What processes and Redis would serve, some time after a change.
    pub replica_probes: Checked,
    /// The last violation, with what was last done with its key.
    pub last: Option<String>,
}

#[derive(Default)]
struct Counts {
    samples: AtomicU64,
    open: AtomicU64,
    skipped: AtomicU64,
    violations: [AtomicU64; 3],
}

/// The counts of both checks.
#[derive(Default)]
pub(super) struct Counters([Counts; 2]);

impl Counters {
    /// Creates every violation's counter at 0 if the observer is `on`: an alert on a rise needs that.
    pub(super) fn new(on: bool) -> Self {
        for check in Check::ALL.into_iter().filter(|_| on) {
            for kind in Kind::ALL {
                metrics::violations(check.label(), kind.label(), 0);
            }
        }
        Self::default()
    }

    pub(super) fn count(&self, check: Check, outcome: Outcome) {
        let counts = &self.0[check as usize];
        match outcome {
            Outcome::Current | Outcome::Within(_) => add(&counts.samples),
            Outcome::Open => add(&counts.open),
            Outcome::Skipped | Outcome::Failed => add(&counts.skipped),
            Outcome::Nothing => {}
        }
        if check == Check::ShadowRead {
            match outcome {
                Outcome::Current => metrics::staleness(Duration::ZERO),
                Outcome::Within(max) => metrics::staleness(max),
                _ => {}
            }
        }
        metrics::observed(check.label(), outcome.label());
    }

    pub(super) fn violated(&self, check: Check, kind: Kind) {
        add(&self.0[check as usize].samples);
        add(&self.0[check as usize].violations[kind as usize]);
        metrics::observed(check.label(), "violation");
        metrics::violations(check.label(), kind.label(), 1);
    }

    pub(super) fn observed(&self) -> Observed {
        let of = |check: Check| {
            let counts = &self.0[check as usize];
            let violations = |kind: Kind| counts.violations[kind as usize].load(Ordering::Relaxed);
            Checked {
                samples: counts.samples.load(Ordering::Relaxed),
                open: counts.open.load(Ordering::Relaxed),
                skipped: counts.skipped.load(Ordering::Relaxed),
                bound: violations(Kind::Bound),
                content: violations(Kind::Content),
                ahead: violations(Kind::Ahead),
            }
        };
        Observed { shadow_reads: of(Check::ShadowRead), replica_probes: of(Check::ReplicaProbe), last: None }
    }

    pub(super) fn set_gauges(&self) {
        let observed = self.observed();
        for (check, checked) in
            [(Check::ShadowRead, observed.shadow_reads), (Check::ReplicaProbe, observed.replica_probes)]
        {
            metrics::likely_share(check.label(), checked.likely_share());
        }
    }
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
    fn only_what_is_proven_is_a_sample() {
        let counters = Counters::new(true);
        for outcome in [Outcome::Current, Outcome::Within(Duration::ZERO), Outcome::Open, Outcome::Nothing] {
            counters.count(Check::ShadowRead, outcome);
        }
        counters.count(Check::ShadowRead, Outcome::Skipped);
        counters.count(Check::ReplicaProbe, Outcome::Failed);
        counters.violated(Check::ShadowRead, Kind::Content);
        let observed = counters.observed();
        let shadow_reads = Checked { samples: 3, open: 1, skipped: 1, content: 1, ..Checked::default() };
        assert_eq!(observed.shadow_reads, shadow_reads);
        assert_eq!(observed.replica_probes, Checked { skipped: 1, ..Checked::default() });
    }
}
