//! The metrics of the cache. Counters on the hot path are looked up once for each kind and tier, not on each read.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use metrics::{Counter, counter, gauge, histogram};

use coherence::read::Tier;
use coherence::window::Cause;

/// The counters of one kind of key.
pub(crate) struct Kind {
    l1: Counter,
    l2: Counter,
    validated: Counter,
    pub(crate) misses: Counter,
    pub(crate) joined: Counter,
    pub(crate) floored: Counter,
}

impl Kind {
    fn new(kind: &'static str) -> Self {
        let hits = |tier: Tier| counter!("rushes_cache_hits_total", "tier" => tier.label(), "kind" => kind);
        Self {
            l1: hits(Tier::L1),
            l2: hits(Tier::L2),
            validated: hits(Tier::Validated),
            misses: counter!("rushes_cache_misses_total", "kind" => kind),
            joined: counter!("rushes_cache_loads_joined_total", "kind" => kind),
            floored: counter!("rushes_cache_watermark_refusals_total", "kind" => kind),
        }
    }

    /// Counts where a read was answered from.
    pub(crate) fn answered(&self, tier: Tier) {
        match tier {
            Tier::L1 => self.l1.increment(1),
            Tier::L2 => self.l2.increment(1),
            Tier::Validated => self.validated.increment(1),
            Tier::Loaded => self.misses.increment(1),
        }
    }
}

/// The counters of all kinds seen so far.
#[derive(Default)]
pub(crate) struct Meters {
    kinds: ArcSwap<Vec<(&'static str, Arc<Kind>)>>,
}

impl Meters {
    /// Counts an answer from L1: what [`Meters::kind`] is for the others, without taking the counters in hand.
    pub(crate) fn hit_l1(&self, kind: &'static str) {
        let kinds = self.kinds.load();
        match kinds.iter().find(|(name, _)| *name == kind) {
            Some((_, meters)) => meters.l1.increment(1),
            None => self.kind(kind).l1.increment(1),
        }
    }

    pub(crate) fn kind(&self, kind: &'static str) -> Arc<Kind> {
        let known = |kinds: &Vec<(&'static str, Arc<Kind>)>| {
            kinds.iter().find(|(name, _)| *name == kind).map(|(_, meters)| Arc::clone(meters))
        };
        if let Some(meters) = known(&self.kinds.load()) {
            return meters;
        }
        let meters = Arc::new(Kind::new(kind));
        self.kinds.rcu(|kinds| {
            let mut kinds = Vec::clone(kinds);
            if known(&kinds).is_none() {
                kinds.push((kind, Arc::clone(&meters)));
            }
            kinds
        });
        known(&self.kinds.load()).unwrap_or(meters)
    }
}

pub(crate) fn loaded(kind: &'static str, ok: bool, took: Duration) {
    let outcome = if ok { "ok" } else { "error" };
    counter!("rushes_cache_loads_total", "kind" => kind, "outcome" => outcome).increment(1);
    histogram!("rushes_cache_load_seconds", "kind" => kind).record(took);
}

pub(crate) fn stale(kind: &'static str) {
    counter!("rushes_cache_stale_answers_total", "kind" => kind).increment(1);
}

pub(crate) fn validated(outcome: &'static str) {
    counter!("rushes_cache_validations_total", "outcome" => outcome).increment(1);
}

pub(crate) fn lease_denied() {
    counter!("rushes_cache_leases_denied_total").increment(1);
}

pub(crate) fn fill_refused() {
    counter!("rushes_cache_fills_refused_total").increment(1);
}

pub(crate) fn restarted(cause: Cause) {
    counter!("rushes_cache_window_restarts_total", "cause" => cause.label()).increment(1);
}

pub(crate) fn redis_failed(operation: &'static str) {
    counter!("rushes_cache_redis_errors_total", "operation" => operation).increment(1);
}

pub(crate) fn proof_age(age: Option<Duration>) {
    gauge!("rushes_cache_proof_age_seconds").set(age.map_or(f64::INFINITY, |age| age.as_secs_f64()));
}

pub(crate) fn leading(leads: bool) {
    gauge!("rushes_cache_relay_leads").set(if leads { 1.0 } else { 0.0 });
}

pub(crate) fn relayed(changes: usize, took: Duration) {
    counter!("rushes_cache_relay_changes_total").increment(changes as u64);
    histogram!("rushes_cache_relay_pass_seconds").record(took);
}

pub(crate) fn relay_failed(step: &'static str) {
    counter!("rushes_cache_relay_failures_total", "step" => step).increment(1);
}

pub(crate) fn l1_size((entries, bytes): (u64, u64)) {
    gauge!("rushes_cache_l1_entries").set(entries as f64);
    gauge!("rushes_cache_l1_bytes").set(bytes as f64);
}
