//! Submitting an order to a provider, and what is done when it is not known whether that came about.
//!
//! Invariants: no byte leaves before the intent is committed; an order that may have been taken is sent again only where the
//! provider guarantees that its key costs once; and only a first submission that was refused says that nothing was ordered.

use std::time::Duration;

use chassis::crash;
use tokio::time::sleep;

use super::{Attempt, Orders, Stop};
use crate::checks::ask;
use crate::error::Error;
use crate::model::{CallOutcome, Charge, Class, Condition, Failure, Phase, Reason, Reference, Trouble};
use crate::outcomes::{Decision, Hold, condition, decide};
use crate::{crash_points, events};

/// How often an unconfirmed order is sent again under its key, or searched for, before its lease ends.
const MAX_TRIES: u32 = 5;

/// What a provider that was out of order says to a question that orders nothing, where it still is. An order in its place might be taken
/// and its answer lost, once for each probe of an outage.
async fn out_of_order(attempt: Attempt<'_>) -> Option<Trouble> {
    let trouble = ask(attempt.provider, &attempt.work.order.model).await.err()?;
    // Any other answer is one: whether it takes orders is for the order to find out.
    (condition(trouble.outcome) == Some(Condition::Outage)).then_some(trouble)
}

impl Orders {
    /// The reference of the order: the one that is known, or that of an order submitted now.
    pub(super) async fn find_or_submit(&self, attempt: Attempt<'_>, cancel: bool) -> Result<Reference, Stop> {
        let Attempt { work, provider, .. } = attempt;
        if let Some(reference) = &work.reference {
            return Ok(reference.clone());
        }
        if work.unconfirmed {
            // One that is to be cancelled is not sent again, even where that would cost nothing.
            let resend = !cancel && attempt.abilities().idempotent_submit;
            let unheard = Trouble::new(CallOutcome::Lost, "an earlier lease did not say");
            return self.confirm(attempt, resend, unheard).await;
        }
        if cancel {
            return Err(Failure::cancelled("it was cancelled before it was ordered", Charge::NotCharged).into());
        }
        if work.ask_first
            && let Some(trouble) = out_of_order(attempt).await
        {
            let decision = Decision::Requeue(Hold::Unavailable(Condition::Outage));
            return Err(self.follow(attempt, decision, &trouble));
        }
        // Before the intent: nothing of this is an order, so that a failure of it leaves none in doubt.
        let input = match self.media.prepare(&work.order, provider).await {
            Ok(input) => input,
            Err(trouble) => {
                events::call_failed(work, provider.name(), provider.key(), Phase::Upload, &trouble);
                let decision = decide(Phase::Upload, trouble.outcome, &attempt.context(cancel));
                return Err(self.follow(attempt, decision, &trouble));
            }
        };
        match self.work.record_intent(work.lease, provider.name(), provider.key()).await {
            // It is to be stopped, or its deadline is too near: nothing was ordered, and its hold need not wait for the lease's end.
            Err(Error::Refused(why)) => return Err(Failure::cancelled(why, Charge::NotCharged).into()),
            recorded => recorded?,
        }
        crash::point(crash_points::INTENT_ANSWERED);
        self.retries.of(provider.name()).record_call();
        let trouble = match provider.submit(&work.order, &input).await {
            Ok(reference) => return self.record(attempt, reference).await,
            Err(trouble) => trouble,
        };
        match decide(Phase::Submit, trouble.outcome, &attempt.context(cancel)) {
            Decision::Confirm => {
                let resend = attempt.abilities().idempotent_submit;
                self.confirm(attempt, resend, trouble).await
            }
            decision => Err(self.unconfirmed(attempt, decision, &trouble)),
        }
    }

    /// Sends an order again that may have been taken. Where its files cannot be had nothing is sent, which says nothing of the order.
    async fn submit_again(&self, attempt: Attempt<'_>) -> Result<Reference, Trouble> {
        let Attempt { work, provider, .. } = attempt;
        let unsent = |trouble| Trouble { outcome: CallOutcome::NotSent, ..trouble };
        let input = self.media.prepare(&work.order, provider).await.map_err(unsent)?;
        provider.submit(&work.order, &input).await
    }

    /// Finds out what became of an order that may have been taken: it is searched for, and sent again only with `resend`. One
    /// that stays unconfirmed is suspended.
    async fn confirm(&self, attempt: Attempt<'_>, resend: bool, mut trouble: Trouble) -> Result<Reference, Stop> {
        let Attempt { work, provider, .. } = attempt;
        let abilities = attempt.abilities();
        for tried in 0..MAX_TRIES {
            // After a lost answer the order may take a moment to show; an earlier lease's has had its time.
            if tried > 0 || !work.unconfirmed {
                sleep(Duration::from_millis(100) * 2_u32.pow(tried)).await;
            }
            // With none of its budget left the provider is not asked at once, but when the order's next poll is due.
            if !self.retries.of(provider.name()).try_retry() {
                break;
            }
            if abilities.find_by_key {
                match provider.find(&work.order).await {
                    Ok(Some(reference)) => return self.record(attempt, reference).await,
                    // It may not show yet, so that is no proof that there is none.
                    Ok(None) => {}
                    Err(found) => trouble = found,
                }
            }
            if resend {
                match self.submit_again(attempt).await {
                    Ok(reference) => return self.record(attempt, reference).await,
                    Err(repeated) => trouble = repeated,
                }
                let decision = decide(Phase::Repeat, trouble.outcome, &attempt.context(false));
                if let Some(failure) = decision.failure(&trouble) {
                    return Err(failure.into());
                }
            } else if !abilities.find_by_key {
                break;
            }
        }
        Err(self.unconfirmed(attempt, Decision::Unconfirmed, &trouble))
    }

    /// Why to stop after a submission that did not come about, or is not known to have.
    fn unconfirmed(&self, attempt: Attempt<'_>, decision: Decision, trouble: &Trouble) -> Stop {
        if decision == Decision::Unconfirmed {
            events::order_unconfirmed(attempt.work, attempt.provider.name(), trouble);
        }
        self.follow(attempt, decision, trouble)
    }

    /// Records the reference of an order that the provider took.
    async fn record(&self, attempt: Attempt<'_>, reference: Reference) -> Result<Reference, Stop> {
        let Attempt { work, provider, .. } = attempt;
        crash::point(crash_points::ORDER_ANSWERED);
        if let Err(error) = self.work.record_submission(work.lease, &reference).await {
            provider.forget(&reference);
            return Err(error.into());
        }
        crash::point(crash_points::REFERENCE_ANSWERED);
        events::order_submitted(work, provider.name(), &reference);
        Ok(reference)
    }

    /// Submits an order again that the provider took and forgot; its key must lead to the same order.
    pub(super) async fn resubmit(&self, attempt: Attempt<'_>, reference: &Reference) -> Result<(), Stop> {
        if !self.retries.of(attempt.provider.name()).try_retry() {
            // The next poll asks anew.
            return Ok(());
        }
        let trouble = match self.submit_again(attempt).await {
            Ok(again) if again == *reference => return Ok(()),
            Ok(_) => {
                let detail = "the provider gave the same key another reference";
                return Err(Failure::new(Class::Final, Reason::ProviderInternal, Charge::Unknown, detail).into());
            }
            Err(trouble) => trouble,
        };
        match decide(Phase::Repeat, trouble.outcome, &attempt.context(false)).failure(&trouble) {
            Some(failure) => Err(failure.into()),
            // The next poll says what came of it.
            None => Ok(()),
        }
    }
}
