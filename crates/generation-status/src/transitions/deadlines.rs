//! The rules of total deadlines, and of what operators find out about unconfirmed submissions.
//!
//! Invariant: an order that may exist is not given up before its provider was asked to stop it, or the grace for its answer has
//! passed.

use domain::generation::State;

use super::{End, Facts};
use crate::model::{Failure, OrderPhase, Resolution, WaitReason};

/// What is known of a generation's job, read under its lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JobFacts {
    pub(crate) state: jobs::State,
    /// Its provider was asked to stop longer ago than the grace for an answer.
    pub(crate) stop_ignored: bool,
    /// A worker could not find out whether the provider took the order. Not so from the loss of the worker that submitted it until
    /// another has tried.
    pub(crate) unconfirmed: bool,
}

/// What is done about a generation's total deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeadlineAction {
    /// There is nothing to do, or not yet.
    Keep,
    /// The provider is asked to stop.
    Stop,
    /// The generation ends, and its job as the resolution says.
    End(End, jobs::Resolution),
}

/// Whether the order behind an intent may or may not exist, and no worker is finding out.
fn is_unconfirmed(facts: &Facts, job: &JobFacts) -> bool {
    job.unconfirmed && job.state == jobs::State::Waiting && facts.order == Some(OrderPhase::Intent)
}

/// What a passed total deadline means for a generation.
pub(crate) fn enforce(facts: &Facts, job: &JobFacts) -> DeadlineAction {
    if !facts.overdue {
        return DeadlineAction::Keep;
    }
    let idle = job.state != jobs::State::Leased;
    let unconfirmed = is_unconfirmed(facts, job);
    match facts.state {
        // What the provider has finished is delivered, however late.
        State::Finalizing => return DeadlineAction::Keep,
        state if state.is_terminal() => return DeadlineAction::Keep,
        // It was asked to stop, and is given the grace to answer; of an unconfirmed order nobody can be asked.
        State::Cancelling if !(idle && (unconfirmed || job.stop_ignored)) => return DeadlineAction::Keep,
        // Somebody can be asked: the worker that holds it, or the one that polls its order next.
        State::Submitting | State::Processing if !unconfirmed && (facts.order.is_some() || !idle) => {
            return DeadlineAction::Stop;
        }
        _ => {}
    }
    let (state, failure) = match (facts.cancelled, unconfirmed) {
        (true, _) => (State::Cancelled, None),
        (false, true) => (State::Failed, Some(Failure::outcome_unknown())),
        (false, false) => (State::Failed, Some(Failure::total_deadline())),
    };
    let resolution = if facts.cancelled { jobs::Resolution::Cancel } else { jobs::Resolution::Fail };
    DeadlineAction::End(End::without_output(state, failure, facts.order, None), resolution)
}

/// What becomes of an unconfirmed submission that an operator looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Settlement {
    /// The provider has the order: it is polled under this reference.
    Poll(String),
    /// The generation ends, and its job fails.
    End(End),
    /// The provider does not have the order: the generation is queued again.
    Requeue(WaitReason),
}

/// What an operator's finding means for a generation; `None` where its submission is not unconfirmed. That an order came to
/// nothing may be said of any that waits at its provider.
pub(crate) fn settle(facts: &Facts, job: &JobFacts, resolution: &Resolution) -> Option<Settlement> {
    let waits = job.state == jobs::State::Waiting && facts.order.is_some();
    let applies = match resolution {
        Resolution::Failed(_) => waits,
        Resolution::Reference(_) | Resolution::Requeue => is_unconfirmed(facts, job),
    };
    applies.then(|| match resolution {
        Resolution::Reference(reference) => Settlement::Poll(reference.clone()),
        Resolution::Failed(charge) => Settlement::End(End::without_output(
            State::Failed,
            Some(if is_unconfirmed(facts, job) { Failure::outcome_unknown() } else { Failure::given_up() }),
            facts.order,
            Some(*charge),
        )),
        Resolution::Requeue => Settlement::Requeue(WaitReason::Capacity),
    })
}
