//! The metrics of this service: [`METRICS`] has their names, units, labels and help, and only this file records one.
//!
//! Invariant: the values of every label are from a closed set of this crate or from the catalogue; nothing that a client or a
//! provider sends becomes one.

use std::time::Duration;

use metrics::{Unit, counter, gauge, histogram};

/// A metric's sort of series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts values by size.
    Histogram,
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

const STARTED: Metric = Metric {
    name: "rushes_generations_started_total",
    kind: MetricKind::Counter,
    unit: Unit::Count,
    labels: &["model"],
    help: "Generations that were started, by model.",
};

const ENDED: Metric = Metric {
    name: "rushes_generations_ended_total",
    kind: MetricKind::Counter,
    unit: Unit::Count,
    labels: &["model", "state"],
    help: "Generations that reached a terminal state, by model and state.",
};

const ATTEMPTS_RETRIED: Metric = Metric {
    name: "rushes_generation_attempts_retried_total",
    kind: MetricKind::Counter,
    unit: Unit::Count,
    labels: &["model", "class"],
    help: "Attempts that failed and are followed by another one, by model and the failure's class.",
};

const UNCONFIRMED: Metric = Metric {
    name: "rushes_submissions_unconfirmed_total",
    kind: MetricKind::Counter,
    unit: Unit::Count,
    labels: &[],
    help: "Leases that ended without knowing whether the provider took the order.",
};

const RESOLVED: Metric = Metric {
    name: "rushes_submissions_resolved_total",
    kind: MetricKind::Counter,
    unit: Unit::Count,
    labels: &["resolution"],
    help: "Unconfirmed submissions that an operator settled; `resolution` is reference, failed or requeue.",
};

const COMPLETIONS_REFUSED: Metric = Metric {
    name: "rushes_completions_refused_total",
    kind: MetricKind::Counter,
    unit: Unit::Count,
    labels: &[],
    help: "Completions that were refused because their output is not registered or has another size.",
};

const CREDITS: Metric = Metric {
    name: "rushes_credits_micros_total",
    kind: MetricKind::Counter,
    unit: Unit::Count,
    labels: &["movement"],
    help: "Micro-credits that moved; `movement` is held, captured, released, granted, added or removed (by adjustments).",
};

const FINDINGS: Metric = Metric {
    name: "rushes_reconciler_findings_total",
    kind: MetricKind::Counter,
    unit: Unit::Count,
    labels: &["invariant"],
    help: "Violations of an invariant that the reconciler found.",
};

const DELIVERIES: Metric = Metric {
    name: "rushes_webhook_deliveries_total",
    kind: MetricKind::Counter,
    unit: Unit::Count,
    labels: &["outcome"],
    help: "Attempts at deliveries and deliveries that ended; `outcome` is delivered, retried or failed.",
};

const DELIVERY_ATTEMPT: Metric = Metric {
    name: "rushes_webhook_attempt_seconds",
    kind: MetricKind::Histogram,
    unit: Unit::Seconds,
    labels: &[],
    help: "The time from sending a webhook to its answer or to giving up on one.",
};

const DELIVERIES_PENDING: Metric = Metric {
    name: "rushes_webhook_pending",
    kind: MetricKind::Gauge,
    unit: Unit::Count,
    labels: &[],
    help: "Deliveries that are neither delivered nor failed.",
};

const OLDEST_DELIVERY: Metric = Metric {
    name: "rushes_webhook_oldest_pending_seconds",
    kind: MetricKind::Gauge,
    unit: Unit::Seconds,
    labels: &[],
    help: "The age of the oldest delivery that is neither delivered nor failed.",
};

const ENDPOINTS_DISABLED: Metric = Metric {
    name: "rushes_webhook_endpoints_disabled_total",
    kind: MetricKind::Counter,
    unit: Unit::Count,
    labels: &["reason"],
    help: "Webhook endpoints that were disabled because of their answers; `reason` is GONE or FAILING.",
};

/// Every metric of this service's own.
pub const METRICS: &[Metric] = &[
    STARTED,
    ENDED,
    ATTEMPTS_RETRIED,
    UNCONFIRMED,
    RESOLVED,
    COMPLETIONS_REFUSED,
    CREDITS,
    FINDINGS,
    DELIVERIES,
    DELIVERY_ATTEMPT,
    DELIVERIES_PENDING,
    OLDEST_DELIVERY,
    ENDPOINTS_DISABLED,
];

/// Gives the process's recorder the unit and the help of every metric; without a recorder it does nothing.
pub fn describe() {
    for metric in METRICS {
        match metric.kind {
            MetricKind::Counter => metrics::describe_counter!(metric.name, metric.unit, metric.help),
            MetricKind::Gauge => metrics::describe_gauge!(metric.name, metric.unit, metric.help),
            MetricKind::Histogram => metrics::describe_histogram!(metric.name, metric.unit, metric.help),
        }
    }
}

pub(crate) fn generation_started(model: &str) {
    counter!(STARTED.name, "model" => model.to_owned()).increment(1);
}

pub(crate) fn generation_ended(model: &str, state: &'static str) {
    counter!(ENDED.name, "model" => model.to_owned(), "state" => state).increment(1);
}

pub(crate) fn attempt_retried(model: &str, class: &'static str) {
    counter!(ATTEMPTS_RETRIED.name, "model" => model.to_owned(), "class" => class).increment(1);
}

pub(crate) fn submission_unconfirmed() {
    counter!(UNCONFIRMED.name).increment(1);
}

pub(crate) fn submission_resolved(resolution: &'static str) {
    counter!(RESOLVED.name, "resolution" => resolution).increment(1);
}

pub(crate) fn completion_refused() {
    counter!(COMPLETIONS_REFUSED.name).increment(1);
}

/// Counts micro-credits, of which there is never a negative number in one movement.
pub(crate) fn credits_moved(movement: &'static str, micros: i64) {
    counter!(CREDITS.name, "movement" => movement).increment(micros.unsigned_abs());
}

/// Counts findings; none as well, so that the series exists before the first one and an alert on its increase works.
pub(crate) fn violations_found(invariant: &'static str, count: usize) {
    counter!(FINDINGS.name, "invariant" => invariant).increment(count as u64);
}

pub(crate) fn delivery_attempted(outcome: &'static str, latency: Duration) {
    deliveries_ended(outcome, 1);
    histogram!(DELIVERY_ATTEMPT.name).record(latency.as_secs_f64());
}

pub(crate) fn deliveries_ended(outcome: &'static str, count: usize) {
    counter!(DELIVERIES.name, "outcome" => outcome).increment(count as u64);
}

pub(crate) fn deliveries_pending(count: i64, oldest_seconds: f64) {
    gauge!(DELIVERIES_PENDING.name).set(count as f64);
    gauge!(OLDEST_DELIVERY.name).set(oldest_seconds);
}

pub(crate) fn endpoint_disabled(reason: &'static str) {
    counter!(ENDPOINTS_DISABLED.name, "reason" => reason).increment(1);
}
