//! The business events of this service: for each its one log line, with the ids that lead to it, and its counter.
//!
//! Invariant: a line about a provider's failure names generation, job, model, provider, attempt, HTTP status and what the
//! provider said; WARN is only for what somebody should look into, so what users cause (a refused prompt, a cancel) is INFO.

use crate::error::Error;
use crate::metrics;
use crate::model::{Class, Evidence, Failure, Outcome, Reference, Work};

/// Logs about a piece of work. The trace is added by the log's format.
macro_rules! log {
    ($level:ident, $work:expr, $provider:expr, $message:literal $(, $field:ident = $value:expr)* $(,)?) => {
        tracing::$level!(
            generation = $work.generation,
            job = %$work.lease.job,
            model = $work.model,
            provider = $provider,
            attempt = $work.attempt,
            $($field = $value,)*
            $message
        )
    };
}

/// Logs about a provider's failure, with what operators see of it.
macro_rules! log_failure {
    ($level:ident, $work:expr, $provider:expr, $failure:expr, $message:literal $(, $field:ident = $value:expr)* $(,)?) => {
        log!(
            $level,
            $work,
            $provider,
            $message,
            $($field = $value,)*
            reason = $failure.reason,
            error = $failure.message,
            http_status = $failure.evidence.status,
            excerpt = $failure.evidence.excerpt,
        )
    };
}

/// A provider took an order, and its reference is recorded.
pub(crate) fn order_submitted(work: &Work, provider: &str, reference: &Reference) {
    log!(info, work, provider, "order submitted", reference = reference.0);
}

/// An order's video is delivered.
pub(crate) fn order_completed(work: &Work, provider: &str, reference: &Reference) {
    log!(info, work, provider, "order settled", outcome = "completed", reference = reference.0);
}

/// An order will not be delivered: it was refused, failed, or was cancelled.
pub(crate) fn order_failed(work: &Work, provider: &str, failure: &Failure) {
    let outcome = if failure.class == Class::Cancelled { "cancelled" } else { "failed" };
    match failure.class {
        Class::InvalidInput | Class::Safety | Class::Cancelled | Class::Throttled => {
            log_failure!(info, work, provider, failure, "order settled", outcome = outcome);
        }
        Class::Internal | Class::BadOutput => {
            log_failure!(warn, work, provider, failure, "order settled", outcome = outcome);
        }
    }
}

/// It is not known whether the provider took the order, and cannot be found out now.
pub(crate) fn order_unconfirmed(work: &Work, provider: &str, why: &str, evidence: &Evidence) {
    log!(
        warn,
        work,
        provider,
        "order unconfirmed",
        error = why,
        http_status = evidence.status,
        excerpt = evidence.excerpt,
    );
}

/// The provider does not say how the order is.
pub(crate) fn poll_failed(work: &Work, provider: &str, failure: &Failure) {
    match failure.class {
        // The provider asked for a pause, and gets it.
        Class::Throttled => log_failure!(info, work, provider, failure, "poll failed", polls = work.polls),
        _ => log_failure!(warn, work, provider, failure, "poll failed", polls = work.polls),
    }
}

/// The provider could not be asked to stop; it is asked again with the next poll.
pub(crate) fn cancel_failed(work: &Work, provider: &str, failure: &Failure) {
    log_failure!(warn, work, provider, failure, "cancel failed");
}

/// The video is made and cannot be stored yet; it is fetched again with the next poll.
pub(crate) fn output_delayed(work: &Work, provider: &str, failure: &Failure) {
    log_failure!(warn, work, provider, failure, "output delayed");
}

/// The lease is another's, or cannot be kept: nothing more is said about its work here.
pub(crate) fn lease_lost(work: &Work, provider: &str, why: &str) {
    log!(info, work, provider, "lease lost", error = why);
}

/// How the work of a lease ended could not be reported; its lease runs out, and another takes the order over.
pub(crate) fn outcome_unreported(work: &Work, provider: &str, error: &Error) {
    log!(warn, work, provider, "outcome unreported", error = error.to_string());
}

/// The work of a lease ended.
pub(crate) fn work_ended(outcome: Outcome) {
    metrics::WORK_ENDED.with([outcome.as_str()]).increment(1);
}

/// The work of a lease panicked. Its lease is left to run out, which counts against the job: the third time makes it a dead
/// letter.
pub(crate) fn work_panicked(job: &str, error: &dyn std::fmt::Display) {
    tracing::error!(job, %error, "work panicked");
    metrics::WORK_ENDED.with(["panicked"]).increment(1);
}

/// So many leases are worked on now.
pub(crate) fn work_running(leases: usize) {
    metrics::WORK_RUNNING.get().set(leases as f64);
}

/// A provider's webhook was passed on; `awaited` says whether anything waited for it.
pub(crate) fn webhook_accepted(awaited: bool) {
    metrics::WEBHOOKS.with([if awaited { "awaited" } else { "idle" }]).increment(1);
}

/// A webhook was not passed on: it cannot be verified, or generation-status does not answer.
pub(crate) fn webhook_refused(provider: &str, error: &Error) {
    // The name is the sender's own word, so it is no label, and no more of it is logged than a name has.
    let provider: String = provider.chars().take(40).collect();
    let outcome = match error {
        Error::NotVerified(why) => {
            tracing::info!(provider, %why, "webhook refused");
            "refused"
        }
        error => {
            tracing::warn!(provider, %error, "webhook undelivered");
            "undelivered"
        }
    };
    metrics::WEBHOOKS.with([outcome]).increment(1);
}

/// A provider named a state that its documentation did not have when its adapter was written.
pub(crate) fn unknown_state(provider: &'static str, word: &str) {
    metrics::UNKNOWN_STATES.with([provider]).increment(1);
    let word: String = word.chars().take(40).collect();
    tracing::warn!(provider, word, "unknown state; the order is taken to be at work");
}
