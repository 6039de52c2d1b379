//! The metrics of this crate: their names, units, labels and help stand in [`METRICS`], and nothing outside this file records one.

use std::time::Duration;

use metrics::{Unit, counter, gauge, histogram};

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
    /// What it counts or measures.
    pub unit: Unit,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// One sentence for the HELP line.
    pub help: &'static str,
}

const DEPTH: Metric = Metric {
    name: "rushes_jobs",
    kind: MetricKind::Gauge,
    unit: Unit::Count,
    labels: &["kind", "queue", "state"],
    help: "Unfinished jobs and dead letters; `state` is ready, delayed, leased, waiting or dead.",
};

const OLDEST_READY: Metric = Metric {
    name: "rushes_jobs_oldest_ready_seconds",
    kind: MetricKind::Gauge,
    unit: Unit::Seconds,
    labels: &["kind", "queue"],
    help: "How long the oldest claimable job has been waiting for a worker.",
};

const WAIT: Metric = Metric {
    name: "rushes_job_wait_seconds",
    kind: MetricKind::Histogram,
    unit: Unit::Seconds,
    labels: &["kind", "for"],
    help: "How long a job was claimable before it was claimed; `for` is attempt or poll.",
};

const ENDED: Metric = Metric {
    name: "rushes_jobs_ended_total",
    kind: MetricKind::Counter,
    unit: Unit::Count,
    labels: &["kind", "outcome"],
    help: "Leases that their worker ended; `outcome` is done, cancelled, retried, failed, dead or released.",
};

const REAPED: Metric = Metric {
    name: "rushes_jobs_reaped_total",
    kind: MetricKind::Counter,
    unit: Unit::Count,
    labels: &["kind", "outcome", "cause"],
    help: "Jobs whose lease ran out or whose start deadline passed; `outcome` is requeued or dead_lettered.",
};

const NOTIFICATIONS_LOST: Metric = Metric {
    name: "rushes_job_notifications_lost_total",
    kind: MetricKind::Counter,
    unit: Unit::Count,
    labels: &["kind"],
    help: "Notifications that NATS did not take in time; the workers of other processes find the job by polling.",
};

/// Every metric of this crate.
pub const METRICS: &[Metric] = &[DEPTH, OLDEST_READY, WAIT, ENDED, REAPED, NOTIFICATIONS_LOST];

/// Tells the recorder the unit and the help of every metric; to be called once, after the recorder is installed.
pub fn describe() {
    for metric in METRICS {
        match metric.kind {
            MetricKind::Counter => metrics::describe_counter!(metric.name, metric.unit, metric.help),
            MetricKind::Gauge => metrics::describe_gauge!(metric.name, metric.unit, metric.help),
            MetricKind::Histogram => metrics::describe_histogram!(metric.name, metric.unit, metric.help),
        }
    }
}

pub(crate) fn job_waited(kind: &'static str, poll: bool, seconds: f64) {
    let what = if poll { "poll" } else { "attempt" };
    histogram!(WAIT.name, "kind" => kind, "for" => what).record(seconds);
}

pub(crate) fn job_ended(kind: String, outcome: &'static str) {
    counter!(ENDED.name, "kind" => kind, "outcome" => outcome).increment(1);
}

pub(crate) fn job_reaped(kind: &'static str, outcome: &'static str, cause: &'static str) {
    counter!(REAPED.name, "kind" => kind, "outcome" => outcome, "cause" => cause).increment(1);
}

pub(crate) fn notification_lost(kind: &'static str) {
    counter!(NOTIFICATIONS_LOST.name, "kind" => kind).increment(1);
}

pub(crate) fn queue_depth(kind: &'static str, queue: &str, states: [(&'static str, i64); 5], oldest: Duration) {
    for (state, count) in states {
        gauge!(DEPTH.name, "kind" => kind, "queue" => queue.to_owned(), "state" => state).set(count as f64);
    }
    gauge!(OLDEST_READY.name, "kind" => kind, "queue" => queue.to_owned()).set(oldest.as_secs_f64());
}
