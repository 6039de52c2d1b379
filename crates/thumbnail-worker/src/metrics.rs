//! The metrics of this service: their names, units, labels and help stand in [`METRICS`], and only this file records one.
//!
//! Invariant: every label's values come from this crate's own closed sets; nothing that a client sends becomes one.

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

const ASSETS_STORED: Metric = Metric {
    name: "rushes_assets_stored_total",
    kind: MetricKind::Counter,
    unit: Unit::Count,
    labels: &["mime_type"],
    help: "Assets that an account did not have before, by the media type of their bytes.",
};

const THUMBNAILS_ENDED: Metric = Metric {
    name: "rushes_thumbnails_ended_total",
    kind: MetricKind::Counter,
    unit: Unit::Count,
    labels: &["outcome"],
    help: "Thumbnails that came to an end; `outcome` is rendered or failed.",
};

const THUMBNAIL_FAILURES: Metric = Metric {
    name: "rushes_thumbnail_failures_total",
    kind: MetricKind::Counter,
    unit: Unit::Count,
    labels: &["cause"],
    help: "Attempts of thumbnail jobs that failed for another reason than their file, by cause.",
};

const FINDINGS: Metric = Metric {
    name: "rushes_reconciler_findings_total",
    kind: MetricKind::Counter,
    unit: Unit::Count,
    labels: &["invariant"],
    help: "Rows that break an invariant, which the reconciler found and repaired.",
};

const POOL_WAITING: Metric = Metric {
    name: "rushes_decode_pool_waiting",
    kind: MetricKind::Gauge,
    unit: Unit::Count,
    labels: &[],
    help: "Pictures and videos that wait to be decoded.",
};

const POOL_RUN: Metric = Metric {
    name: "rushes_decode_pool_run_seconds",
    kind: MetricKind::Histogram,
    unit: Unit::Seconds,
    labels: &[],
    help: "How long one decoding ran, its wait in the queue left out.",
};

const POOL_REFUSED: Metric = Metric {
    name: "rushes_decode_pool_refused_total",
    kind: MetricKind::Counter,
    unit: Unit::Count,
    labels: &[],
    help: "Decodings refused because as many waited as may wait.",
};

const POOL_PANICS: Metric = Metric {
    name: "rushes_decode_pool_panics_total",
    kind: MetricKind::Counter,
    unit: Unit::Count,
    labels: &[],
    help: "Decodings that panicked: a fault of ours or of a decoder.",
};

const MEMORY_REFUSED: Metric = Metric {
    name: "rushes_memory_budget_refused_total",
    kind: MetricKind::Counter,
    unit: Unit::Count,
    labels: &[],
    help: "Files refused because the memory for whole files was taken.",
};

/// Every metric of this service's own.
pub const METRICS: &[Metric] = &[
    ASSETS_STORED,
    THUMBNAILS_ENDED,
    THUMBNAIL_FAILURES,
    FINDINGS,
    POOL_WAITING,
    POOL_RUN,
    POOL_REFUSED,
    POOL_PANICS,
    MEMORY_REFUSED,
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

pub(crate) fn asset_stored(mime_type: &str) {
    counter!(ASSETS_STORED.name, "mime_type" => mime_type.to_owned()).increment(1);
}

pub(crate) fn thumbnail_ended(outcome: &'static str) {
    counter!(THUMBNAILS_ENDED.name, "outcome" => outcome).increment(1);
}

pub(crate) fn thumbnail_attempt_failed(cause: &'static str) {
    counter!(THUMBNAIL_FAILURES.name, "cause" => cause).increment(1);
}

/// Counts findings; also none, so that the series is there before the first one.
pub(crate) fn findings(invariant: &'static str, count: usize) {
    counter!(FINDINGS.name, "invariant" => invariant).increment(count as u64);
}

pub(crate) fn decode_waiting(count: usize) {
    gauge!(POOL_WAITING.name).set(count as f64);
}

pub(crate) fn decode_ran(elapsed: Duration) {
    histogram!(POOL_RUN.name).record(elapsed.as_secs_f64());
}

pub(crate) fn decode_refused() {
    counter!(POOL_REFUSED.name).increment(1);
}

pub(crate) fn decode_panicked() {
    counter!(POOL_PANICS.name).increment(1);
}

pub(crate) fn memory_refused() {
    counter!(MEMORY_REFUSED.name).increment(1);
}
