//! The table of outcomes: what follows from what came of a call to a provider. Plain functions, without I/O.
//!
//! Invariant: once a provider may have an order, only its own word, or its documentation's, that nothing was made and nothing
//! was charged allows another ([`Decision::Retry`], [`Decision::Requeue`]). Everything else is asked again for a bounded time
//! and ends once, with what is known of the charge.

#[cfg(test)]
mod page;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::model::{Abilities, CallOutcome, Charge, Class, Clock, Clocks, Condition, Failure, Phase, Reason, Trouble};

/// How long an order is asked for that its provider does not know, since it may not be known everywhere yet, and one whose status and
/// result contradict each other.
const ORDER_BOUND: Duration = Duration::from_secs(600);
/// How long a file that is refused, cut or no video is fetched again: what is in front of it may serve a page of its own.
const FILE_BOUND: Duration = Duration::from_secs(600);
/// How long a file is fetched again whose server is out of order. Providers delete outputs, the first of them after an hour.
const FILE_OUTAGE_BOUND: Duration = Duration::from_secs(3_600);
/// How long a provider is asked that cannot be asked, and a video kept in mind that our storage does not take.
const OUTAGE_BOUND: Duration = Duration::from_secs(24 * 3_600);
/// How long an order waits whose files our storage does not give.
const STORAGE_PAUSE: Duration = Duration::from_secs(15);
/// How long an order that was to be stopped is asked about.
const CANCEL_BOUND: Duration = Duration::from_secs(600);

/// What a decision depends on beside the call: what the provider guarantees, and what the user wants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    pub(crate) abilities: Abilities,
    /// The generation is to be cancelled.
    pub(crate) cancel: bool,
}

/// Why nothing is ordered now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    Throttled,
    Unavailable(Condition),
    /// Not the provider: our own storage does not answer.
    Storage,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The order is sent again at once under its key, or searched for by it.
    Confirm,
    /// It is not known whether there is an order: only a webhook, an operator or the total deadline settles that.
    Unconfirmed,
    /// Nothing was ordered: the generation is queued again, uncounted, until the provider takes orders.
    Requeue(Hold),
    /// Nothing was made and nothing charged: there is another attempt while any is left.
    Retry(Reason),
    /// It is asked again, until it has been in trouble for so long; then it ends.
    Again { clock: Clock, within: Duration, reason: Reason, charge: Charge },
    /// It ends.
    End(Reason, Charge),
    /// It is asked to stop again with the next poll.
    StopAgain,
}

/// What follows from what came of a call.
pub(crate) fn decide(phase: Phase, outcome: CallOutcome, context: &Context) -> Decision {
    match phase {
        Phase::Upload => uploaded(outcome),
        Phase::Submit => submitted(outcome, context),
        Phase::Repeat => repeated(outcome),
        Phase::Poll => polled(outcome, context),
        // What is made in this process costs nothing, and is made again.
        Phase::Fetch | Phase::Store if context.abilities.in_process => Decision::Retry(Reason::OutputUnavailable),
        Phase::Fetch => fetched(outcome),
        Phase::Store => stored(outcome),
        // A request that failed says nothing: only what the provider says of the order counts.
        Phase::Cancel => Decision::StopAgain,
    }
}

/// The files of an input, before the intent: whatever came of it, nothing was ordered.
fn uploaded(outcome: CallOutcome) -> Decision {
    use CallOutcome as Came;
    match outcome {
        Came::AccountRefused => Decision::Requeue(Hold::Unavailable(Condition::AccountRefused)),
        Came::Throttled => Decision::Requeue(Hold::Throttled),
        // No form fits, or the order has no place for the file: operators have to see to it.
        Came::ModelRefused | Came::FileRefused => Decision::Requeue(Hold::Unavailable(Condition::Misconfigured)),
        Came::InputRefused | Came::NotFound | Came::FileTooLarge | Came::FileUnusable => {
            Decision::End(Reason::InputSchemaViolation, Charge::NotCharged)
        }
        Came::SafetyRefused => Decision::End(Reason::SafetyInput, Charge::NotCharged),
        // Our own storage says nothing about the provider.
        Came::StorageUnavailable => Decision::Requeue(Hold::Storage),
        Came::NotSent
        | Came::Lost
        | Came::Unavailable
        | Came::Unreadable
        | Came::Failed(_)
        | Came::TimedOut(_)
        | Came::Stopped(_)
        | Came::OutputMissing
        | Came::ResultUnavailable
        | Came::FileUnavailable
        | Came::FileSlow
        | Came::FileCut => Decision::Requeue(Hold::Unavailable(Condition::Outage)),
    }
}

/// A first submission: nobody sent this order before, so a refusal says that it does not exist.
fn submitted(outcome: CallOutcome, context: &Context) -> Decision {
    use CallOutcome as Came;
    match outcome {
        Came::NotSent => Decision::Requeue(Hold::Unavailable(Condition::Outage)),
        Came::AccountRefused => Decision::Requeue(Hold::Unavailable(Condition::AccountRefused)),
        Came::ModelRefused => Decision::Requeue(Hold::Unavailable(Condition::Misconfigured)),
        Came::Throttled => Decision::Requeue(Hold::Throttled),
        Came::InputRefused => Decision::End(Reason::InputSchemaViolation, Charge::NotCharged),
        Came::SafetyRefused => Decision::End(Reason::SafetyInput, Charge::NotCharged),
        Came::Lost
        | Came::NotFound
        | Came::Unavailable
        | Came::Unreadable
        | Came::Failed(_)
        | Came::TimedOut(_)
        | Came::Stopped(_)
        | Came::OutputMissing
        | Came::ResultUnavailable
        | Came::FileRefused
        | Came::FileUnavailable
        | Came::FileSlow
        | Came::FileCut
        | Came::FileTooLarge
        | Came::FileUnusable
        | Came::StorageUnavailable => {
            let known = context.abilities.idempotent_submit || context.abilities.find_by_key;
            if known { Decision::Confirm } else { Decision::Unconfirmed }
        }
    }
}

/// A repetition under a key that costs once. A later refusal says nothing about the first sending, but for what the order is:
/// what is refused for that was refused the first time too.
fn repeated(outcome: CallOutcome) -> Decision {
    use CallOutcome as Came;
    match outcome {
        Came::InputRefused => Decision::End(Reason::InputSchemaViolation, Charge::NotCharged),
        Came::SafetyRefused => Decision::End(Reason::SafetyInput, Charge::NotCharged),
        Came::NotSent
        | Came::Lost
        | Came::AccountRefused
        | Came::Throttled
        | Came::ModelRefused
        | Came::NotFound
        | Came::Unavailable
        | Came::Unreadable
        | Came::Failed(_)
        | Came::TimedOut(_)
        | Came::Stopped(_)
        | Came::OutputMissing
        | Came::ResultUnavailable
        | Came::FileRefused
        | Came::FileUnavailable
        | Came::FileSlow
        | Came::FileCut
        | Came::FileTooLarge
        | Came::FileUnusable
        | Came::StorageUnavailable => Decision::Unconfirmed,
    }
}

/// A poll. A failure to ask says nothing about the order.
fn polled(outcome: CallOutcome, context: &Context) -> Decision {
    use CallOutcome as Came;
    let decision = match outcome {
        Came::NotSent
        | Came::Lost
        | Came::AccountRefused
        | Came::Throttled
        | Came::Unavailable
        | Came::Unreadable
        | Came::FileRefused
        | Came::FileUnavailable
        | Came::FileSlow
        | Came::FileCut
        | Came::FileTooLarge
        | Came::FileUnusable
        | Came::StorageUnavailable => again(Clock::Poll, OUTAGE_BOUND, Reason::ProviderTimeout, Charge::Unknown),
        // Under a key that costs once, an order that its provider lost is made again.
        Came::NotFound if context.abilities.idempotent_submit && context.cancel => {
            Decision::End(Reason::Cancelled, Charge::Unknown)
        }
        Came::NotFound if context.abilities.idempotent_submit => Decision::Confirm,
        Came::NotFound => again(Clock::Order, ORDER_BOUND, Reason::OutputUnavailable, Charge::Unknown),
        Came::OutputMissing => again(Clock::Order, ORDER_BOUND, Reason::OutputUnavailable, Charge::Charged),
        // Either the order failed or what is in front of its result did: not enough to order another.
        Came::ResultUnavailable => again(Clock::Order, ORDER_BOUND, Reason::ProviderInternal, Charge::Unknown),
        Came::InputRefused => Decision::End(Reason::InputSchemaViolation, Charge::Unknown),
        Came::ModelRefused => Decision::End(Reason::ModelMisconfigured, Charge::Unknown),
        Came::SafetyRefused => Decision::End(Reason::SafetyInput, Charge::Unknown),
        Came::TimedOut(charge) => not_made(Reason::ProviderTimeout, charge),
        Came::Stopped(charge) if context.cancel => Decision::End(Reason::Cancelled, charge),
        // One that was stopped and that nobody here asked to stop has failed, as far as its user is concerned.
        Came::Failed(charge) | Came::Stopped(charge) => not_made(Reason::ProviderInternal, charge),
    };
    match decision {
        // What nobody wants any more is not waited for as long.
        Decision::Again { clock, within, charge, .. } if context.cancel => {
            again(clock, within.min(CANCEL_BOUND), Reason::Cancelled, charge)
        }
        decision => decision,
    }
}

/// The file of an order that its provider says is made: there is no other order, whatever comes of it.
fn fetched(outcome: CallOutcome) -> Decision {
    use CallOutcome as Came;
    match outcome {
        Came::FileRefused | Came::NotFound | Came::OutputMissing | Came::ResultUnavailable => {
            again(Clock::Output, FILE_BOUND, Reason::OutputUnavailable, Charge::Charged)
        }
        Came::FileCut | Came::FileUnusable => {
            again(Clock::Output, FILE_BOUND, Reason::ProviderBadOutput, Charge::Charged)
        }
        Came::FileTooLarge => Decision::End(Reason::ProviderBadOutput, Charge::Charged),
        Came::StorageUnavailable => again(Clock::Storage, OUTAGE_BOUND, Reason::OutputUnavailable, Charge::Charged),
        Came::NotSent
        | Came::Lost
        | Came::Throttled
        | Came::Unavailable
        | Came::Unreadable
        | Came::AccountRefused
        | Came::ModelRefused
        | Came::InputRefused
        | Came::SafetyRefused
        | Came::Failed(_)
        | Came::TimedOut(_)
        | Came::Stopped(_)
        | Came::FileUnavailable
        | Came::FileSlow => again(Clock::Output, FILE_OUTAGE_BOUND, Reason::OutputUnavailable, Charge::Charged),
    }
}

/// Our own side of a delivery.
fn stored(outcome: CallOutcome) -> Decision {
    use CallOutcome as Came;
    match outcome {
        Came::FileUnusable | Came::FileCut | Came::FileTooLarge => {
            Decision::End(Reason::ProviderBadOutput, Charge::Charged)
        }
        Came::NotSent
        | Came::Lost
        | Came::AccountRefused
        | Came::Throttled
        | Came::ModelRefused
        | Came::InputRefused
        | Came::SafetyRefused
        | Came::NotFound
        | Came::Unavailable
        | Came::Unreadable
        | Came::Failed(_)
        | Came::TimedOut(_)
        | Came::Stopped(_)
        | Came::OutputMissing
        | Came::ResultUnavailable
        | Came::FileRefused
        | Came::FileUnavailable
        | Came::FileSlow
        | Came::StorageUnavailable => again(Clock::Storage, OUTAGE_BOUND, Reason::OutputUnavailable, Charge::Charged),
    }
}

const fn again(clock: Clock, within: Duration, reason: Reason, charge: Charge) -> Decision {
    Decision::Again { clock, within, reason, charge }
}

/// An order that its provider says was not made.
fn not_made(reason: Reason, charge: Charge) -> Decision {
    match charge {
        Charge::NotCharged => Decision::Retry(reason),
        Charge::Charged | Charge::Unknown => Decision::End(reason, charge),
    }
}

impl Decision {
    /// The same decision once its time has run out: what was to be asked again ends.
    pub(crate) fn at(self, clocks: &Clocks) -> Self {
        match self {
            Self::Again { clock, within, reason, charge } if clocks.elapsed(clock) >= within => {
                Self::End(reason, charge)
            }
            decision => decision,
        }
    }

    /// The failure that is reported, where the attempt ends.
    pub(crate) fn failure(self, trouble: &Trouble) -> Option<Failure> {
        let failure = match self {
            Self::Requeue(Hold::Throttled) => {
                Failure::new(Class::Throttled, Reason::ProviderQuota, Charge::NotCharged, "")
            }
            Self::Requeue(Hold::Storage) => {
                let failure = Failure::new(Class::Unavailable, Reason::ProviderQuota, Charge::NotCharged, "");
                let failure = failure.because(trouble);
                return Some(Failure { retry_after: Some(STORAGE_PAUSE), ..failure });
            }
            Self::Requeue(Hold::Unavailable(condition)) => {
                let reason = match condition {
                    Condition::Misconfigured => Reason::ModelMisconfigured,
                    Condition::AccountRefused | Condition::Outage => Reason::ProviderQuota,
                };
                let failure = Failure::new(Class::Unavailable, reason, Charge::NotCharged, "");
                Failure { condition: Some(condition), ..failure }
            }
            Self::Retry(reason) => Failure::new(Class::Internal, reason, Charge::NotCharged, ""),
            Self::End(reason, charge) => {
                let class = match reason {
                    Reason::Cancelled => Class::Cancelled,
                    Reason::InputSchemaViolation => Class::InvalidInput,
                    Reason::SafetyInput => Class::Safety,
                    Reason::ModelMisconfigured
                    | Reason::OutputUnavailable
                    | Reason::ProviderBadOutput
                    | Reason::ProviderInternal
                    | Reason::ProviderQuota
                    | Reason::ProviderTimeout => Class::Final,
                };
                let condition = (reason == Reason::ModelMisconfigured).then_some(Condition::Misconfigured);
                Failure { condition, ..Failure::new(class, reason, charge, "") }
            }
            Self::Confirm | Self::Unconfirmed | Self::Again { .. } | Self::StopAgain => return None,
        };
        Some(failure.because(trouble))
    }
}

/// What a submission that was not answered says of the provider's health. A single one says little; several in a row do.
pub(crate) fn condition(outcome: CallOutcome) -> Option<Condition> {
    match outcome {
        CallOutcome::NotSent | CallOutcome::Lost | CallOutcome::Unavailable | CallOutcome::Unreadable => {
            Some(Condition::Outage)
        }
        CallOutcome::AccountRefused => Some(Condition::AccountRefused),
        _ => None,
    }
}
