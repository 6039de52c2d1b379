//! The metrics of this service: [`METRICS`] has their names, units, labels and help, and only this file records one.
//!
//! Invariant: every label's values come from this crate's own closed sets; nothing that a provider or a webhook's sender says
//! becomes one.

use metrics::{Unit, counter, gauge};

/// A metric's sort of series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
}

/// One metric, as its HELP line and its row in the documentation have it.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The name that is scraped.
    pub name: &'static str,
    /// Its sort of series.
    pub kind: MetricKind,
    /// The unit of its values.
    pub unit: Unit,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// One sentence for the HELP line.
    pub help: &'static str,
}

const WORK_RUNNING: Metric = Metric {
    name: "rushes_work_running",
    kind: MetricKind::Gauge,
    unit: Unit::Count,
    labels: &[],
    help: "Leases that this worker works on now.",
};

const WORK_ENDED: Metric = Metric {
    name: "rushes_work_total",
    kind: MetricKind::Counter,
    unit: Unit::Count,
    labels: &["outcome"],
    help: "Leases whose work ended here; `outcome` is completed, failed, suspended, released, abandoned or panicked.",
};

const WEBHOOKS: Metric = Metric {
    name: "rushes_provider_webhooks_total",
    kind: MetricKind::Counter,
    unit: Unit::Count,
    labels: &["outcome"],
    help: "Providers' webhooks; `outcome` is awaited, idle (nothing waited for it), refused (not verified) or undelivered.",
};

const UNKNOWN_STATES: Metric = Metric {
    name: "rushes_provider_unknown_states_total",
    kind: MetricKind::Counter,
    unit: Unit::Count,
    labels: &["provider"],
    help: "Polls that named a state which the provider's documentation did not have when its adapter was written.",
};

/// Every metric of this service's own.
pub const METRICS: &[Metric] = &[WORK_RUNNING, WORK_ENDED, WEBHOOKS, UNKNOWN_STATES];

/// Gives the process's recorder the unit and the help of every metric; without a recorder it does nothing.
pub fn describe() {
    for metric in METRICS {
        match metric.kind {
            MetricKind::Counter => metrics::describe_counter!(metric.name, metric.unit, metric.help),
            MetricKind::Gauge => metrics::describe_gauge!(metric.name, metric.unit, metric.help),
        }
    }
}

pub(crate) fn work_running(leases: usize) {
    gauge!(WORK_RUNNING.name).set(leases as f64);
}

pub(crate) fn work_ended(outcome: &'static str) {
    counter!(WORK_ENDED.name, "outcome" => outcome).increment(1);
}

pub(crate) fn webhook(outcome: &'static str) {
    counter!(WEBHOOKS.name, "outcome" => outcome).increment(1);
}

pub(crate) fn unknown_state(provider: &'static str) {
    counter!(UNKNOWN_STATES.name, "provider" => provider).increment(1);
}
