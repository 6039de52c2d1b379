//! The rules of a generation's transitions: what follows a claim, a submission, a release, a failed attempt, and the loss of a
//! worker or a job. Plain functions from what is known to a decision; the store reads the facts under a lock and executes.
//!
//! Invariants: nothing here reads a clock or the database; only a completed generation is charged; and an order that may exist,
//! of which nobody reported the charge, counts as possibly charged by the provider.

pub(crate) mod deadlines;
pub(crate) mod suspensions;
#[cfg(test)]
mod tests;

use std::time::Duration;

use catalogue::{Line, Made, MadeOutput, MediaKind, Model, Price, Terms};
use domain::generation::State;
use domain::money::Micros;
use jobs::{Cause, Retry, RetryDecision, Scope, Symptom};

use crate::model::{
    Condition, EntryKind, FailedAttempt, Failure, FrozenEntry, ModelCost, OrderPhase, Output, ProviderCharge, Usage,
    WaitReason,
};

/// What is known of a generation, read under the locks of its job and its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) state: State,
    /// Its user asked for it to be stopped.
    pub(crate) cancelled: bool,
    /// Its total deadline has passed.
    pub(crate) overdue: bool,
    /// Half of its model's generations take longer than what is left until its total deadline.
    pub(crate) no_time_left: bool,
    /// The phase of its live order; `None` when it has none.
    pub(crate) order: Option<OrderPhase>,
}

/// How a generation ends, and with that what becomes of its hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) state: State,
    /// The part of the hold that is charged; the rest is released.
    pub(crate) captured: Micros,
    pub(crate) provider_charge: ProviderCharge,
    /// Why, for its user.
    pub(crate) failure: Option<Failure>,
    pub(crate) outputs: Vec<Output>,
    /// What the charge is made up of; `None` leaves the hold's lines.
    pub(crate) lines: Option<Vec<Line>>,
}

impl End {
    /// An end without a result: the whole hold is released, whatever the provider charged.
    fn without_output(
        state: State,
        failure: Option<Failure>,
        order: Option<OrderPhase>,
        reported: Option<ProviderCharge>,
    ) -> Self {
        let provider_charge = reported.unwrap_or_else(|| concluded_charge(order));
        Self { state, captured: Micros::ZERO, provider_charge, failure, outputs: Vec::new(), lines: None }
    }

    /// The entry of the ledger that settles the hold.
    pub(crate) fn entry(&self) -> EntryKind {
        if self.state == State::Completed { EntryKind::Capture } else { EntryKind::Release }
    }
}

/// What is concluded of a provider's charge when no worker reported it.
fn concluded_charge(order: Option<OrderPhase>) -> ProviderCharge {
    match order {
        // An intent counts as an order: whether the call behind it arrived is not known.
        Some(OrderPhase::Intent | OrderPhase::Known) => ProviderCharge::Unknown,
        Some(OrderPhase::Over) | None => ProviderCharge::NotCharged,
    }
}

/// The state after a worker claimed an attempt. A generation that had gone further before its worker was lost stays where it is.
pub(crate) fn claimed(state: State) -> Option<State> {
    match state {
        State::Queued => Some(State::Submitting),
        open => Some(open).filter(|state| !state.is_terminal()),
    }
}

/// The state after the provider took the order. A request to stop, and work that is finished already, stay as they are.
pub(crate) fn submitted(state: State) -> Option<State> {
    match state {
        State::Submitting => Some(State::Processing),
        state => reportable(state),
    }
}

/// The state after a worker gave its lease back unused: QUEUED where nothing was ordered, else what the provider is doing.
pub(crate) fn released(state: State, order: Option<OrderPhase>) -> Option<State> {
    match (state, order) {
        (State::Submitting, None) => Some(State::Queued),
        (state, _) => reportable(state),
    }
}

/// The states in which a worker may report: the attempt has begun, and the generation has not ended.
pub(crate) fn reportable(state: State) -> Option<State> {
    match state {
        State::Submitting | State::Processing | State::Finalizing | State::Cancelling => Some(state),
        State::Queued | State::Completed | State::Failed | State::Cancelled | State::Expired => None,
    }
}

/// The end of a generation whose outputs are in our storage: what was made is charged, by the terms of its start.
pub(crate) fn completed(outputs: &[Output], terms: &Terms, run_ms: Option<i64>) -> End {
    let Price { lines, total } = terms.capture(&made(outputs, run_ms));
    End {
        state: State::Completed,
        captured: total,
        provider_charge: ProviderCharge::Charged,
        failure: None,
        outputs: outputs.to_vec(),
        lines: Some(lines),
    }
}

/// What a completed order cost at its provider, beside what its entry says; `None` where one of the two is not known.
pub(crate) fn cost_of(model: &str, outputs: &[Output], terms: &Terms, usage: &Usage) -> Option<ModelCost> {
    let expected = terms.expected_cost(&made(outputs, usage.run_ms))?;
    Some(ModelCost {
        model: model.to_owned(),
        expected_micros: expected.get(),
        cost_micros: usage.provider_cost_micros?,
        outputs: i64::try_from(outputs.len()).unwrap_or(i64::MAX),
    })
}

/// What the terms count.
fn made(outputs: &[Output], run_ms: Option<i64>) -> Made {
    let pixels = |count: i32| u32::try_from(count).unwrap_or_default();
    let outputs = outputs.iter().filter_map(|output| {
        Some(MadeOutput {
            kind: MediaKind::of(&output.mime_type)?,
            width: pixels(output.width),
            height: pixels(output.height),
            duration_ms: u64::try_from(output.duration_ms).unwrap_or_default(),
        })
    });
    Made { outputs: outputs.collect(), run_ms: run_ms.and_then(|run_ms| u64::try_from(run_ms).ok()) }
}

/// The end of a generation that its user cancelled before any worker claimed it.
pub(crate) fn cancelled_in_queue() -> End {
    End::without_output(State::Cancelled, None, None, None)
}

/// The end of a generation that was to be stopped, and was: CANCELLED by its user, FAILED by its deadline.
fn stopped(facts: &Facts, reported: Option<ProviderCharge>) -> End {
    // A user who cancelled before the deadline passed gets what was asked for.
    let (state, failure) = if facts.overdue && !facts.cancelled {
        (State::Failed, Some(Failure::total_deadline()))
    } else {
        (State::Cancelled, None)
    };
    End::without_output(state, failure, facts.order, reported)
}

/// What a failed attempt asks of the job.
#[derive(Clone, Debug)]
pub(crate) enum AttemptOutcome {
    /// The generation was to be stopped, so that its job is cancelled.
    Stopped(End),
    /// The job's attempt fails.
    Failed {
        job: jobs::Failure,
        /// The provider is busy: its pool takes less from now on, and nothing for this long.
        throttle: Option<Duration>,
    },
}

/// A worker says that its attempt failed. `cancel_requested` is the job's: it outlasts CANCELLING when the work was finished
/// before the worker heard of it.
pub(crate) fn attempt_failed(facts: &Facts, cancel_requested: bool, failed: &FailedAttempt) -> AttemptOutcome {
    if facts.state == State::Cancelling {
        return AttemptOutcome::Stopped(stopped(facts, failed.provider_charge));
    }
    let mut job = failed.job.clone();
    if came_too_late(facts) {
        job.cause = Failure::total_deadline().reason;
        job.retry = Retry::Never;
    }
    let unwanted = cancel_requested && facts.state == State::Finalizing;
    // It was to be stopped and went on only because its output was done: there is no retry of what nobody wants. And there is no
    // other order while the one before may have been made or charged, whatever its worker thinks of it.
    if unwanted || may_be_charged(facts, failed) {
        job.retry = Retry::Never;
    }
    let throttle = match job.retry {
        Retry::Uncounted { after } if failed.wait_reason == WaitReason::ProviderThrottled => {
            Some(after.unwrap_or_default())
        }
        _ => None,
    };
    AttemptOutcome::Failed { job, throttle }
}

/// What a condition means for the breakers: a refusal is proof, and a fault is one sign among others.
/// A refusal of the account is of the key's alone, where it has a name.
pub(crate) fn symptom<'a>(condition: Condition, key: &'a str, detail: &'a str) -> Symptom<'a> {
    let (scope, certain) = match condition {
        Condition::AccountRefused if !key.is_empty() => (Scope::Key, true),
        Condition::AccountRefused => (Scope::Pool, true),
        Condition::Outage => (Scope::Pool, false),
        Condition::Misconfigured => (Scope::Queue, true),
    };
    Symptom { scope, key, cause: condition.as_str(), detail, certain }
}

/// Whether the catalogue's entry of an order's model, `None` where it has none any more, is another than the order was started with.
pub(crate) fn entry_changed(frozen: &FrozenEntry, present: Option<&Model>) -> bool {
    let Some(present) = present else { return true };
    match &frozen.entry_sha256 {
        Some(entry) => *entry != present.entry_sha256,
        None => frozen.remote_name != present.remote_name,
    }
}

/// Whether an attempt ordered nothing, and no later one would: what is ordered now would be paid for and most likely be stopped by the
/// deadline.
fn came_too_late(facts: &Facts) -> bool {
    facts.no_time_left && facts.order.is_none()
}

/// Whether the provider may have made or charged the attempt's order, as far as is known.
fn may_be_charged(facts: &Facts, failed: &FailedAttempt) -> bool {
    let charge = failed.provider_charge.unwrap_or_else(|| concluded_charge(facts.order));
    charge != ProviderCharge::NotCharged
}

/// What follows for the generation once its job's attempt has ended.
#[derive(Clone, Debug)]
pub(crate) enum AttemptEnd {
    /// It is queued for another attempt, and waits for this reason. Its order is over.
    Requeue(WaitReason),
    End(End),
}

/// The job has decided whether a failed attempt is followed by another.
pub(crate) fn attempt_decided(decision: RetryDecision, facts: &Facts, failed: &FailedAttempt) -> AttemptEnd {
    match decision {
        RetryDecision::Retry(_) => AttemptEnd::Requeue(failed.wait_reason),
        RetryDecision::Failed | RetryDecision::Dead => {
            let why = if came_too_late(facts) { Failure::total_deadline() } else { failed.failure.clone() };
            AttemptEnd::End(End::without_output(State::Failed, Some(why), facts.order, failed.provider_charge))
        }
    }
}

/// The end of a generation whose job became a dead letter; `None` where it has ended already.
pub(crate) fn dead_lettered(facts: &Facts, cause: Cause, attempts: i32) -> Option<End> {
    let (state, failure) = match facts.state {
        State::Cancelling => (State::Cancelled, None),
        State::Queued if cause == Cause::StartDeadline => (State::Expired, Some(Failure::start_deadline())),
        state if state.is_terminal() => return None,
        _ => (State::Failed, Some(Failure::workers_lost(attempts))),
    };
    Some(End::without_output(state, failure, facts.order, None))
}

/// The end of a generation that no job will carry out; `None` where one will, or where it has ended already.
pub(crate) fn job_lost(facts: &Facts, job: Option<jobs::State>) -> Option<End> {
    if job.is_some_and(|state| !state.is_finished()) || facts.state.is_terminal() {
        return None;
    }
    let (state, failure) = match facts.state {
        State::Cancelling => (State::Cancelled, None),
        _ => (State::Failed, Some(Failure::job_lost())),
    };
    Some(End::without_output(state, failure, facts.order, None))
}
