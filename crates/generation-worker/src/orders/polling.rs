//! One poll of an order that lives at its provider: it is over, or the lease ends and somebody polls again.
//!
//! Invariant: a poll changes nothing that a later poll would not find; a failure to poll says nothing about the order.

use chassis::crash;

use super::{Attempt, Orders, Stop, cancelled_unknown, poll_interval, stopped};
use crate::model::{Failure, Made, OrderStatus, Reference, Suspension};
use crate::{crash_points, events};

impl Orders {
    /// What was made, or why to stop here.
    pub(super) async fn poll(&self, attempt: Attempt<'_>, reference: &Reference, cancel: bool) -> Result<Made, Stop> {
        let Attempt { work, provider, .. } = attempt;
        let abilities = provider.abilities();
        let poll_after = Some(poll_interval(provider, work.polls));
        let mut suspension = Suspension { poll_after, ..Suspension::default() };
        if cancel && abilities.cancel {
            // A request that failed is made again with the next poll; only what the provider says of the order counts.
            if let Err(failure) = provider.cancel(reference).await {
                events::cancel_failed(work, provider.name(), &failure);
            }
            crash::point(crash_points::CANCEL_SENT);
        }
        let status = provider.poll(reference).await;
        crash::point(crash_points::PROVIDER_POLLED);
        match status {
            Ok(OrderStatus::Done(made)) => return Ok(made),
            Ok(OrderStatus::Cancelled(charge)) => return Err(stopped(charge)),
            Ok(OrderStatus::Failed(failure)) => return Err(failure.into()),
            Ok(OrderStatus::Unknown) if cancel => return Err(cancelled_unknown()),
            Ok(OrderStatus::Unknown) if abilities.idempotent_submit => self.resubmit(attempt, reference).await?,
            Ok(OrderStatus::Unknown) => return Err(Failure::order_lost().into()),
            Ok(OrderStatus::Waiting { position }) => {
                suspension.queue_position = position.and_then(|place| i32::try_from(place).ok()).unwrap_or_default();
                "queued".clone_into(&mut suspension.stage);
            }
            Ok(OrderStatus::Working { percent, stage }) => {
                suspension.percent = abilities.progress.then_some(percent);
                stage.clone_into(&mut suspension.stage);
            }
            Err(failure) => events::poll_failed(work, provider.name(), &failure),
        }
        Err(Stop::Suspended(suspension))
    }
}
