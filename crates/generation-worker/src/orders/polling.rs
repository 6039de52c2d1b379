//! One poll of an order that lives at its provider: it is over, or the lease ends and somebody polls again.
//!
//! Invariant: a poll changes nothing that a later poll would not find; a failure to poll says nothing about the order.

use chassis::crash;

use super::{Attempt, Orders, Stop, poll_interval};
use crate::model::{Made, OrderStatus, Phase, Reference, Suspension};
use crate::outcomes::{Decision, decide};
use crate::{crash_points, events};

impl Orders {
    /// What was made, with the key that knew it; or why to stop here.
    pub(super) async fn poll<'a>(
        &self,
        attempt: Attempt<'a>,
        reference: &Reference,
        cancel: bool,
    ) -> Result<(Attempt<'a>, Made), Stop> {
        let Attempt { work, provider, keys, .. } = attempt;
        let abilities = provider.abilities();
        let mut suspension =
            Suspension { poll_after: Some(poll_interval(provider, work.polls)), ..Suspension::default() };
        if cancel && abilities.cancel {
            // A request that failed is made again with the next poll; only what the provider says of the order counts.
            if let Err(trouble) = keys.cancel(&work.order, reference).await {
                events::call_failed(work, provider.name(), provider.key(), Phase::Cancel, &trouble);
            }
            crash::point(crash_points::CANCEL_SENT);
        }
        self.retries.of(provider.name()).record_call();
        let (provider, status) = keys.poll(&work.order, reference).await;
        let attempt = Attempt { provider, ..attempt };
        crash::point(crash_points::PROVIDER_POLLED);
        match status {
            Ok(OrderStatus::Done(made)) => return Ok((attempt, made)),
            Ok(OrderStatus::Waiting { position }) => {
                suspension.queue_position = position.and_then(|place| i32::try_from(place).ok()).unwrap_or_default();
                "queued".clone_into(&mut suspension.stage);
            }
            Ok(OrderStatus::Working { percent, stage }) => {
                suspension.percent = abilities.progress.then_some(percent);
                stage.clone_into(&mut suspension.stage);
            }
            Err(trouble) => match decide(Phase::Poll, trouble.outcome, &attempt.context(cancel)).at(&work.clocks) {
                Decision::Confirm => self.resubmit(attempt, reference).await?,
                decision => {
                    if matches!(decision, Decision::Again { .. }) {
                        events::call_failed(work, provider.name(), provider.key(), Phase::Poll, &trouble);
                    }
                    return Err(self.follow(attempt, decision, &trouble));
                }
            },
        }
        Err(Stop::Suspended(suspension))
    }
}
