//! The metrics of this crate: their names, units, labels and help stand in [`METRICS`], and only this file and those of the watches
//! record one.
//!
//! Invariant: the values of every label are from a closed set: the kinds of keys that services cache, and words of this crate.

use std::sync::Arc;
use std::time::Duration;

use ::metrics::{Counter, Unit, counter, gauge, histogram};
use arc_swap::ArcSwap;

use coherence::read::Tier;
use coherence::window::Cause;

/// What sort of series a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts values by size.
    Histogram,
}

/// One metric, as its page in the documentation and its HELP line have it.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The name that is scraped.
    pub name: &'static str,
    /// What sort of series it is.
    pub kind: MetricKind,
    /// The unit of its values.
    pub unit: Unit,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// One sentence for the HELP line.
    pub help: &'static str,
}

const fn counts(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Counter, unit: Unit::Count, labels, help }
}

const fn gauges(name: &'static str, unit: Unit, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Gauge, unit, labels, help }
}

const fn times(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Histogram, unit: Unit::Seconds, labels, help }
}

const HITS: Metric = counts(
    "rushes_cache_hits_total",
    &["tier", "kind"],
    "Reads answered without a load, by kind of key; `tier` is l1, l2 (Redis) or validated (by the version alone).",
);
const MISSES: Metric = counts("rushes_cache_misses_total", &["kind"], "Reads answered by a load, by kind of key.");
const LOADS: Metric =
    counts("rushes_cache_loads_total", &["kind", "outcome"], "Loads of a key; `outcome` is ok or error.");
const LOAD_TIME: Metric = times("rushes_cache_load_seconds", &["kind"], "How long a load took, by kind of key.");
const JOINED: Metric = counts(
    "rushes_cache_loads_joined_total",
    &["kind"],
    "Reads that joined the in-flight load of another reader, by kind of key.",
);
const WATERMARK_REFUSALS: Metric = counts(
    "rushes_cache_watermark_refusals_total",
    &["kind"],
    "Values that a tier had below the version that is known or asked for, by kind of key.",
);
const VALIDATIONS: Metric = counts(
    "rushes_cache_validations_total",
    &["outcome"],
    "Unproven values whose version was asked of PostgreSQL; `outcome` is same, changed or error.",
);
const LEASES_DENIED: Metric = counts(
    "rushes_cache_leases_denied_total",
    &[],
    "Keys that were missing in Redis while another process was loading them.",
);
const FILLS_REFUSED: Metric = counts(
    "rushes_cache_fills_refused_total",
    &[],
    "Loaded values that Redis did not take, since a change had voided the lease or the lease had ended.",
);
const STALE_ANSWERS: Metric = counts(
    "rushes_cache_stale_answers_total",
    &["kind"],
    "Reads answered with what was last known, for callers that accept stale answers, by kind of key.",
);
const WINDOW_RESTARTS: Metric = counts(
    "rushes_cache_window_restarts_total",
    &["cause"],
    "Restarts of the window of relay messages; `cause` is start, epoch, gap, disconnect or clock_step.",
);
const PROOF_AGE: Metric = gauges(
    "rushes_cache_proof_age_seconds",
    Unit::Seconds,
    &[],
    "The age of the proof under which L1 answers; infinite without one.",
);
const REDIS_ERRORS: Metric = counts(
    "rushes_cache_redis_errors_total",
    &["operation"],
    "Calls to Redis that failed or took too long, by operation.",
);
const L1_ENTRIES: Metric = gauges("rushes_cache_l1_entries", Unit::Count, &[], "Entries in L1.");
const L1_BYTES: Metric = gauges("rushes_cache_l1_bytes", Unit::Bytes, &[], "Bytes of the keys and bodies in L1.");
const RELAY_LEADS: Metric =
    gauges("rushes_cache_relay_leads", Unit::Count, &[], "1 while this process leads the relay, else 0.");
const RELAY_CHANGES: Metric =
    counts("rushes_cache_relay_changes_total", &[], "Outbox rows that this process has relayed.");
const RELAY_PASS_TIME: Metric =
    times("rushes_cache_relay_pass_seconds", &[], "How long a pass of the relay took that had changes.");
const RELAY_FAILURES: Metric = counts(
    "rushes_cache_relay_failures_total",
    &["step"],
    "Steps of the relay that failed; `step` is lease, drain, publish, compact or renew.",
);
const OBSERVED: Metric = counts(
    "rushes_cache_observed_total",
    &["check", "outcome"],
    "What the observer checked; `check` is shadow_read or replica_probe; of the outcomes, current, within and violation are samples.",
);
const VIOLATIONS: Metric = counts(
    "rushes_cache_observed_violations_total",
    &["check", "kind"],
    "Answers that broke a promise; `kind` is bound (too old), content or ahead.",
);
const STALENESS: Metric = times(
    "rushes_cache_observed_staleness_seconds",
    &[],
    "How old the answers were that a shadow read compared with the truth, at the most.",
);
const LIKELY_SHARE: Metric = gauges(
    "rushes_cache_observed_likely_share",
    Unit::Count,
    &["check"],
    "The greatest share of violations that this process's samples leave likely, at 95 %.",
);
pub(crate) const WATCHES: Metric =
    gauges("rushes_watches", Unit::Count, &["kind"], "Watches that are open, by what they watch.");
pub(crate) const WATCH_EVENTS: Metric =
    counts("rushes_watch_events_total", &["kind", "event"], "Events sent to watches, by what they watch and event.");
pub(crate) const WATCH_RESUMES: Metric = counts(
    "rushes_watch_resumes_total",
    &["kind", "outcome"],
    "Resume tokens that clients came with; `outcome` is exact, gap or refused.",
);

/// Every metric of this crate.
pub const METRICS: &[Metric] = &[
    HITS,
    MISSES,
    LOADS,
    LOAD_TIME,
    JOINED,
    WATERMARK_REFUSALS,
    VALIDATIONS,
    LEASES_DENIED,
    FILLS_REFUSED,
    STALE_ANSWERS,
    WINDOW_RESTARTS,
    PROOF_AGE,
    REDIS_ERRORS,
    L1_ENTRIES,
    L1_BYTES,
    RELAY_LEADS,
    RELAY_CHANGES,
    RELAY_PASS_TIME,
    RELAY_FAILURES,
    OBSERVED,
    VIOLATIONS,
    STALENESS,
    LIKELY_SHARE,
    WATCHES,
    WATCH_EVENTS,
    WATCH_RESUMES,
];

/// Tells the recorder the unit and the help of every metric; to be called once, after the recorder is installed.
pub fn describe() {
    for metric in METRICS {
        match metric.kind {
            MetricKind::Counter => ::metrics::describe_counter!(metric.name, metric.unit, metric.help),
            MetricKind::Gauge => ::metrics::describe_gauge!(metric.name, metric.unit, metric.help),
            MetricKind::Histogram => ::metrics::describe_histogram!(metric.name, metric.unit, metric.help),
        }
    }
}

/// The counters of one kind of key.
pub(crate) struct KindCounters {
    l1: Counter,
    l2: Counter,
    validated: Counter,
    misses: Counter,
    pub(crate) joined: Counter,
    pub(crate) watermark_refusals: Counter,
}

impl KindCounters {
    fn new(kind: &'static str) -> Self {
        let hits = |tier: Tier| counter!(HITS.name, "tier" => tier.label(), "kind" => kind);
        Self {
            l1: hits(Tier::L1),
            l2: hits(Tier::L2),
            validated: hits(Tier::Validated),
            misses: counter!(MISSES.name, "kind" => kind),
            joined: counter!(JOINED.name, "kind" => kind),
            watermark_refusals: counter!(WATERMARK_REFUSALS.name, "kind" => kind),
        }
    }

    /// Counts the tier that answered a read.
    pub(crate) fn answered(&self, tier: Tier) {
        match tier {
            Tier::L1 => self.l1.increment(1),
            Tier::L2 => self.l2.increment(1),
            Tier::Validated => self.validated.increment(1),
            Tier::Loaded => self.misses.increment(1),
        }
    }
}

/// The counters of all kinds seen so far: looked up in the recorder once for each kind, not with each read.
#[derive(Default)]
pub(crate) struct Counters {
    // A handful of kinds in a list: quicker to search than a map, and read without a lock.
    kinds: ArcSwap<Vec<(&'static str, Arc<KindCounters>)>>,
}

impl Counters {
    /// Counts an answer from L1: what [`Counters::kind`] is for the others, without cloning the counters' reference.
    pub(crate) fn hit_l1(&self, kind: &'static str) {
        let kinds = self.kinds.load();
        match kinds.iter().find(|(name, _)| *name == kind) {
            Some((_, counters)) => counters.l1.increment(1),
            None => self.kind(kind).l1.increment(1),
        }
    }

    pub(crate) fn kind(&self, kind: &'static str) -> Arc<KindCounters> {
        let known = |kinds: &Vec<(&'static str, Arc<KindCounters>)>| {
            kinds.iter().find(|(name, _)| *name == kind).map(|(_, counters)| Arc::clone(counters))
        };
        if let Some(counters) = known(&self.kinds.load()) {
            return counters;
        }
        let counters = Arc::new(KindCounters::new(kind));
        self.kinds.rcu(|kinds| {
            let mut kinds = Vec::clone(kinds);
            if known(&kinds).is_none() {
                kinds.push((kind, Arc::clone(&counters)));
            }
            kinds
        });
        known(&self.kinds.load()).unwrap_or(counters)
    }
}

pub(crate) fn loaded(kind: &'static str, ok: bool, took: Duration) {
    let outcome = if ok { "ok" } else { "error" };
    counter!(LOADS.name, "kind" => kind, "outcome" => outcome).increment(1);
    histogram!(LOAD_TIME.name, "kind" => kind).record(took);
}

pub(crate) fn stale_answer(kind: &'static str) {
    counter!(STALE_ANSWERS.name, "kind" => kind).increment(1);
}

pub(crate) fn validated(outcome: &'static str) {
    counter!(VALIDATIONS.name, "outcome" => outcome).increment(1);
}

pub(crate) fn lease_denied() {
    counter!(LEASES_DENIED.name).increment(1);
}

pub(crate) fn fill_refused() {
    counter!(FILLS_REFUSED.name).increment(1);
}

pub(crate) fn window_restarted(cause: Cause) {
    counter!(WINDOW_RESTARTS.name, "cause" => cause.label()).increment(1);
}

pub(crate) fn redis_failed(operation: &'static str) {
    counter!(REDIS_ERRORS.name, "operation" => operation).increment(1);
}

pub(crate) fn proof_age(age: Option<Duration>) {
    gauge!(PROOF_AGE.name).set(age.map_or(f64::INFINITY, |age| age.as_secs_f64()));
}

pub(crate) fn relay_leads(leads: bool) {
    gauge!(RELAY_LEADS.name).set(if leads { 1.0 } else { 0.0 });
}

pub(crate) fn relayed(changes: usize, took: Duration) {
    counter!(RELAY_CHANGES.name).increment(changes as u64);
    histogram!(RELAY_PASS_TIME.name).record(took);
}

pub(crate) fn relay_failed(step: &'static str) {
    counter!(RELAY_FAILURES.name, "step" => step).increment(1);
}

pub(crate) fn l1_size((entries, bytes): (u64, u64)) {
    gauge!(L1_ENTRIES.name).set(entries as f64);
    gauge!(L1_BYTES.name).set(bytes as f64);
}

pub(crate) fn observed(check: &'static str, outcome: &'static str) {
    counter!(OBSERVED.name, "check" => check, "outcome" => outcome).increment(1);
}

/// Counts so many violations; 0 shows the counter, so that an alert sees the first one as a rise.
pub(crate) fn violations(check: &'static str, kind: &'static str, count: u64) {
    counter!(VIOLATIONS.name, "check" => check, "kind" => kind).increment(count);
}

pub(crate) fn staleness(age: Duration) {
    histogram!(STALENESS.name).record(age);
}

pub(crate) fn likely_share(check: &'static str, share: f64) {
    gauge!(LIKELY_SHARE.name, "check" => check).set(share);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_a_name_of_its_kind_and_a_sentence() {
        let mut names: Vec<_> = METRICS.iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), METRICS.len(), "a name twice");
        for metric in METRICS {
            assert!(metric.name.starts_with("rushes_"), "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == MetricKind::Counter, "{}", metric.name);
            let seconds = metric.name.ends_with("_seconds");
            assert_eq!(seconds, metric.unit == Unit::Seconds, "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }
}
