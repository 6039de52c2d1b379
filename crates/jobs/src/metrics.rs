//! The metrics of this crate: their names, units, labels and help stand in [`ALL`], and nothing outside this file records one.

use std::time::Duration;

use chassis::telemetry::metric::Value;

chassis::metrics! {
    /// Unfinished jobs and dead letters; `state` is ready, delayed, leased, waiting or dead.
    DEPTH = gauge "rushes_jobs" in "jobs" by ["kind", "queue", "state"];
    /// How long the oldest claimable job has been waiting for a worker.
    OLDEST_READY = gauge "rushes_jobs_oldest_ready_seconds" in "seconds" by ["kind", "queue"];
    /// How long a job was claimable before it was claimed; `for` is attempt or poll.
    WAIT = histogram "rushes_job_wait_seconds" in "seconds" by ["kind", "for"];
    /// Leases that their worker ended; `outcome` is done, cancelled, retried, failed, dead or released.
    ENDED = counter "rushes_jobs_ended_total" in "leases" by ["kind", "outcome"];
    /// Jobs whose lease ran out or whose start deadline passed; `outcome` is requeued or dead_lettered.
    REAPED = counter "rushes_jobs_reaped_total" in "jobs" by ["kind", "outcome", "cause"];
    /// Notifications that NATS did not take in time; the workers of other processes find the job by polling.
    NOTIFICATIONS_LOST = counter "rushes_job_notifications_lost_total" in "notifications" by ["kind"];
}

pub(crate) fn job_waited(kind: &'static str, poll: bool, seconds: f64) {
    let what = if poll { "poll" } else { "attempt" };
    WAIT.with([Value::from(kind), Value::from(what)]).record(seconds);
}

pub(crate) fn job_ended(kind: String, outcome: &'static str) {
    ENDED.with([Value::from(kind), Value::from(outcome)]).increment(1);
}

pub(crate) fn job_reaped(kind: &'static str, outcome: &'static str, cause: &'static str) {
    REAPED.with([Value::from(kind), Value::from(outcome), Value::from(cause)]).increment(1);
}

pub(crate) fn notification_lost(kind: &'static str) {
    NOTIFICATIONS_LOST.with([kind]).increment(1);
}

pub(crate) fn queue_depth(kind: &'static str, queue: &str, states: [(&'static str, i64); 5], oldest: Duration) {
    for (state, count) in states {
        DEPTH.with([Value::from(kind), Value::from(queue.to_owned()), Value::from(state)]).set(count as f64);
    }
    OLDEST_READY.with([Value::from(kind), Value::from(queue.to_owned())]).set(oldest.as_secs_f64());
}
