//! The metrics of this crate: their names, units, labels and help, and the functions that record them.
//!
//! Invariant: the values of every label are from a closed set: the kinds of keys that services cache, and words of this crate.

use std::sync::Arc;
use std::time::Duration;

use ::metrics::Counter;
use arc_swap::ArcSwap;

use coherence::read::Tier;
use coherence::window::Cause;

chassis::metrics! {
    /// Reads answered without a load, by kind of key; `tier` is l1, l2 (Redis) or validated (by the version alone).
    HITS = counter "rushes_cache_hits_total" in "reads" by ["tier", "kind"];
    /// Reads answered by a load, by kind of key.
    MISSES = counter "rushes_cache_misses_total" in "reads" by ["kind"];
    /// Loads of a key; `outcome` is ok or error.
    LOADS = counter "rushes_cache_loads_total" in "loads" by ["kind", "outcome"];
    /// How long a load took, by kind of key.
    LOAD_TIME = histogram "rushes_cache_load_seconds" in "seconds" by ["kind"];
    /// Reads that joined the in-flight load of another reader, by kind of key.
    LOADS_JOINED = counter "rushes_cache_loads_joined_total" in "reads" by ["kind"];
    /// Values that a tier had below the version that is known or asked for, by kind of key.
    WATERMARK_REFUSALS = counter "rushes_cache_watermark_refusals_total" in "values" by ["kind"];
    /// Unproven values whose version was asked of PostgreSQL; `outcome` is same, changed or error.
    VALIDATIONS = counter "rushes_cache_validations_total" in "values" by ["outcome"];
    /// Keys that were missing in Redis while another process was loading them.
    LEASES_DENIED = counter "rushes_cache_leases_denied_total" in "leases" by [];
    /// Loaded values that Redis did not take, since a change had voided the lease or the lease had ended.
    FILLS_REFUSED = counter "rushes_cache_fills_refused_total" in "fills" by [];
    /// Values in Redis that none of our processes made; PostgreSQL was asked instead.
    SEALS_BROKEN = counter "rushes_cache_seals_broken_total" in "values" by [];
    /// Reads answered with what was last known, for callers that accept stale answers, by kind of key.
    STALE_ANSWERS = counter "rushes_cache_stale_answers_total" in "reads" by ["kind"];
    /// Restarts of the window of relay messages; `cause` is start, epoch, gap, disconnect or clock_step.
    WINDOW_RESTARTS = counter "rushes_cache_window_restarts_total" in "restarts" by ["cause"];
    /// The age of the proof under which L1 answers; infinite without one.
    PROOF_AGE = gauge "rushes_cache_proof_age_seconds" in "seconds" by [];
    /// Calls to Redis that failed or took too long, by operation.
    REDIS_ERRORS = counter "rushes_cache_redis_errors_total" in "calls" by ["operation"];
    /// Entries in L1.
    L1_ENTRIES = gauge "rushes_cache_l1_entries" in "entries" by [];
    /// Bytes of the keys and bodies in L1.
    L1_BYTES = gauge "rushes_cache_l1_bytes" in "bytes" by [];
    /// 1 while this process leads the relay, else 0.
    RELAY_LEADS = gauge "rushes_cache_relay_leads" in "leaders" by [];
    /// Outbox rows that this process has relayed.
    RELAY_CHANGES = counter "rushes_cache_relay_changes_total" in "rows" by [];
    /// How long a pass of the relay took that had changes.
    RELAY_PASS_TIME = histogram "rushes_cache_relay_pass_seconds" in "seconds" by [];
    /// Steps of the relay that failed; `step` is lease, drain, publish, compact or renew.
    RELAY_FAILURES = counter "rushes_cache_relay_failures_total" in "steps" by ["step"];
    /// Answers that the observer checked; `check` is shadow_read or replica_probe; current, within and violation are samples.
    OBSERVED = counter "rushes_cache_observed_total" in "answers" by ["check", "outcome"];
    /// Answers that broke a promise; `kind` is bound (too old), content or ahead.
    VIOLATIONS = counter "rushes_cache_observed_violations_total" in "answers" by ["check", "kind"];
    /// How old the answers were, at the most, that a shadow read compared with the truth.
    STALENESS = histogram "rushes_cache_observed_staleness_seconds" in "seconds" by [];
    /// The greatest share of violations that this process's samples leave likely, at 95 %.
    LIKELY_SHARE = gauge "rushes_cache_observed_likely_share" in "shares" by ["check"];
    /// Watches that are open, by what they watch.
    WATCHES = gauge "rushes_watches" in "watches" by ["kind"];
    /// Events sent to watches, by what they watch and event.
    WATCH_EVENTS = counter "rushes_watch_events_total" in "events" by ["kind", "event"];
    /// Resume tokens that clients came with, by what they watch; `outcome` is exact, gap or refused.
    WATCH_RESUMES = counter "rushes_watch_resumes_total" in "tokens" by ["kind", "outcome"];
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
        let hits = |tier: Tier| HITS.with([tier.label(), kind]);
        Self {
            l1: hits(Tier::L1),
            l2: hits(Tier::L2),
            validated: hits(Tier::Validated),
            misses: MISSES.with([kind]),
            joined: LOADS_JOINED.with([kind]),
            watermark_refusals: WATERMARK_REFUSALS.with([kind]),
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
    LOADS.with([kind, outcome]).increment(1);
    LOAD_TIME.with([kind]).record(took);
}

pub(crate) fn stale_answer(kind: &'static str) {
    STALE_ANSWERS.with([kind]).increment(1);
}

pub(crate) fn validated(outcome: &'static str) {
    VALIDATIONS.with([outcome]).increment(1);
}

pub(crate) fn lease_denied() {
    LEASES_DENIED.get().increment(1);
}

pub(crate) fn fill_refused() {
    FILLS_REFUSED.get().increment(1);
}

pub(crate) fn seal_broken() {
    SEALS_BROKEN.get().increment(1);
}

pub(crate) fn window_restarted(cause: Cause) {
    WINDOW_RESTARTS.with([cause.label()]).increment(1);
}

pub(crate) fn redis_failed(operation: &'static str) {
    REDIS_ERRORS.with([operation]).increment(1);
}

pub(crate) fn proof_age(age: Option<Duration>) {
    PROOF_AGE.get().set(age.map_or(f64::INFINITY, |age| age.as_secs_f64()));
}

pub(crate) fn relay_leads(leads: bool) {
    RELAY_LEADS.get().set(if leads { 1.0 } else { 0.0 });
}

pub(crate) fn relayed(changes: usize, took: Duration) {
    RELAY_CHANGES.get().increment(changes as u64);
    RELAY_PASS_TIME.get().record(took);
}

pub(crate) fn relay_failed(step: &'static str) {
    RELAY_FAILURES.with([step]).increment(1);
}

pub(crate) fn l1_size((entries, bytes): (u64, u64)) {
    L1_ENTRIES.get().set(entries as f64);
    L1_BYTES.get().set(bytes as f64);
}

pub(crate) fn observed(check: &'static str, outcome: &'static str) {
    OBSERVED.with([check, outcome]).increment(1);
}

/// Counts so many violations; 0 shows the counter, so that an alert sees the first one as a rise.
pub(crate) fn violations(check: &'static str, kind: &'static str, count: u64) {
    VIOLATIONS.with([check, kind]).increment(count);
}

pub(crate) fn staleness(age: Duration) {
    STALENESS.get().record(age);
}

pub(crate) fn likely_share(check: &'static str, share: f64) {
    LIKELY_SHARE.with([check]).set(share);
}
