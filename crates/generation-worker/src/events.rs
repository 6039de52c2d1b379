//! The business events of this service: for each its one log line, with the ids that lead to it, and its counter.
//!
//! Invariant: a line about a provider's failure names generation, job, model, provider, attempt, HTTP status and what the
//! provider said; WARN is only for what somebody should look into, so what users cause (a refused prompt, a cancel) is INFO.

use std::time::Duration;

use chassis::telemetry::metric::Value;

use crate::error::Error;
use crate::metrics;
use crate::model::{Class, Failure, Finding, ModelCheck, Outcome, Phase, Reference, Trouble, Work};

/// From when on a failing call is worth a warning.
const LASTING: Duration = Duration::from_secs(60);

/// Logs about a piece of work. The trace is added by the log's format.
macro_rules! log {
    ($level:ident, $work:expr, $provider:expr, $message:literal $(, $field:ident = $value:expr)* $(,)?) => {
        tracing::$level!(
            generation = $work.generation,
            job = %$work.lease.job,
            model = $work.model,
            provider = $provider,
            provider_key = Some($work.key.as_str()).filter(|key| !key.is_empty()),
            attempt = $work.attempt,
            $($field = $value,)*
            $message
        )
    };
}

/// Logs about what came of a call to a provider, with what operators see of it.
macro_rules! log_trouble {
    ($level:ident, $work:expr, $provider:expr, $trouble:expr, $message:literal $(, $field:ident = $value:expr)* $(,)?) => {
        log!(
            $level,
            $work,
            $provider,
            $message,
            $($field = $value,)*
            outcome = $trouble.outcome.as_str(),
            error = $trouble.detail,
            http_status = $trouble.evidence.status,
            excerpt = $trouble.evidence.excerpt,
        )
    };
}

/// A provider took an order, and its reference is recorded.
pub(crate) fn order_submitted(work: &Work, provider: &str, reference: &Reference) {
    log!(info, work, provider, "order submitted", reference = reference.0);
}

/// An order's outputs are delivered.
pub(crate) fn order_completed(work: &Work, provider: &str, reference: &Reference) {
    log!(info, work, provider, "order settled", outcome = "completed", reference = reference.0);
}

/// An attempt ended without an output: it was refused, failed, or was cancelled.
pub(crate) fn order_failed(work: &Work, provider: &str, failure: &Failure) {
    let outcome = if failure.class == Class::Cancelled { "cancelled" } else { "failed" };
    macro_rules! settled {
        ($level:ident) => {
            log!(
                $level,
                work,
                provider,
                "order settled",
                outcome = outcome,
                reason = failure.reason.as_str(),
                provider_charge = failure.charge.as_str(),
                error = failure.detail,
                http_status = failure.evidence.status,
                excerpt = failure.evidence.excerpt,
            )
        };
    }
    match failure.class {
        // What pauses the provider is logged once, by whoever pauses it.
        Class::InvalidInput | Class::Safety | Class::Cancelled | Class::Throttled | Class::Unavailable => {
            settled!(info);
        }
        Class::Internal | Class::Final => settled!(warn),
    }
}

/// It is not known whether the provider took the order, and cannot be found out now.
pub(crate) fn order_unconfirmed(work: &Work, provider: &str, trouble: &Trouble) {
    log_trouble!(warn, work, provider, trouble, "order unconfirmed");
}

/// A poll or a request to stop was not answered as it should be; it is made again. A warning once it has lasted: one failed poll
/// is nobody's business.
pub(crate) fn call_failed(work: &Work, provider: &'static str, key: &str, phase: Phase, trouble: &Trouble) {
    count_failed(provider, key, phase, trouble);
    let lasting = work.clocks.poll.or(work.clocks.order).is_some_and(|elapsed| elapsed >= LASTING);
    if lasting {
        log_trouble!(warn, work, provider, trouble, "call failed", phase = phase.as_str(), polls = work.polls);
    } else {
        log_trouble!(info, work, provider, trouble, "call failed", phase = phase.as_str(), polls = work.polls);
    }
}

/// An output's bytes are here, and whole.
pub(crate) fn output_fetched(work: &Work, provider: &'static str, bytes: usize, extension: &'static str) {
    metrics::DOWNLOADED_BYTES.with([provider]).record(bytes as f64);
    log!(debug, work, provider, "output fetched", bytes = bytes, extension = extension);
}

/// The output is made and cannot be fetched or stored; unless it has ended, it is fetched again with the next poll.
pub(crate) fn output_delayed(work: &Work, provider: &'static str, key: &str, phase: Phase, trouble: &Trouble) {
    count_failed(provider, key, phase, trouble);
    log_trouble!(warn, work, provider, trouble, "output delayed", phase = phase.as_str());
}

fn count_failed(provider: &'static str, key: &str, phase: Phase, trouble: &Trouble) {
    let key = key.to_owned();
    let labels: [Value; 4] = [provider.into(), key.into(), phase.as_str().into(), trouble.outcome.as_str().into()];
    metrics::CALLS_FAILED.with(labels).increment(1);
}

/// The key that an order was sent with is not in the settings; it is asked about with those that are.
pub(crate) fn key_missing(work: &Work, provider: &str) {
    log!(warn, work, provider, "key missing");
}

/// The lease is another's, or cannot be kept: nothing more is said about its work here.
pub(crate) fn lease_lost(work: &Work, provider: &str, why: &str) {
    log!(info, work, provider, "lease lost", error = why);
}

/// How the work of a lease ended could not be reported; its lease runs out, and another takes the order over.
pub(crate) fn outcome_unreported(work: &Work, provider: &str, error: &Error) {
    log!(warn, work, provider, "outcome unreported", error = error.to_string());
}

/// A provider was asked about a model. What is not as it should be is somebody's to mend, before users order.
pub(crate) fn model_checked(check: &ModelCheck) {
    let ModelCheck { model, provider, key, finding, detail, cost: _ } = check;
    metrics::MODEL_SERVED.with([model.clone(), key.clone()]).set(f64::from(u8::from(*finding == Finding::Served)));
    if *finding != Finding::Served {
        let provider_key = Some(key.as_str()).filter(|key| !key.is_empty());
        tracing::warn!(model, provider, provider_key, finding = finding.as_str(), detail, "model check failed");
    }
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

/// A webhook of another user of fal came; its signature holds, so that fal itself says whose it is.
pub(crate) fn foreign_fal_user(user: &str) {
    let user: String = user.chars().take(100).collect();
    tracing::warn!(user, "a webhook of a user of fal that RUSHES_FAL_USER_ID does not name is refused");
}

/// A provider named a state that its documentation did not have when its adapter was written.
pub(crate) fn unknown_state(provider: &'static str, word: &str) {
    metrics::UNKNOWN_STATES.with([provider]).increment(1);
    let word: String = word.chars().take(40).collect();
    tracing::warn!(provider, word, "unknown state; the order is taken to be at work");
}
