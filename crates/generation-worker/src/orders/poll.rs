//! One poll at an order that lives at its provider: it is over, or the lease ends and somebody polls again.
//!
//! Invariant: a poll changes nothing that a later poll would not find; a failure to poll says nothing about the order.

use chassis::crash;
use proto::work::v1::Work;

use super::{Orders, Stop, cancelled, pause, stopped};
use crate::crash_points;
use crate::providers::{Failure, Made, Order, OrderStatus, Provider, Reference};
use crate::status::Suspension;

impl Orders {
    /// How the order stands: made, or a reason to stop here.
    pub(super) async fn poll_once(
        &self,
        work: &Work,
        provider: &dyn Provider,
        order: &Order,
        reference: &Reference,
        cancel: bool,
    ) -> Result<Made, Stop> {
        let abilities = provider.abilities();
        let mut later = Suspension { poll_after: Some(pause(provider, work.polls)), ..Suspension::default() };
        if cancel && abilities.cancel {
            // A request that failed is made again with the next poll; only what the provider says of the order counts.
            if let Err(failure) = provider.cancel(reference).await {
                tracing::warn!(%failure, "the provider could not be asked to stop");
            }
            crash::point(crash_points::CANCEL_SENT);
        }
        let poll = provider.poll(reference).await;
        crash::point(crash_points::PROVIDER_POLLED);
        match poll {
            Ok(OrderStatus::Done(made)) => return Ok(made),
            Ok(OrderStatus::Cancelled(charge)) => return Err(stopped(charge).into()),
            Ok(OrderStatus::Failed(failure)) => return Err(failure.into()),
            Ok(OrderStatus::Unknown) if cancel => {
                return Err(cancelled("it was cancelled, and the provider does not know it any more").into());
            }
            Ok(OrderStatus::Unknown) if abilities.idempotent_submit => self.reorder(provider, order, reference).await?,
            Ok(OrderStatus::Unknown) => {
                let lost = Failure::bad_output("the provider lost the order");
                return Err(Failure { reason: "OUTPUT_UNAVAILABLE", ..lost }.into());
            }
            Ok(OrderStatus::Waiting { position }) => {
                later.queue_position = position.and_then(|place| i32::try_from(place).ok()).unwrap_or_default();
                "queued".clone_into(&mut later.stage);
            }
            Ok(OrderStatus::Working { percent, stage }) => {
                later.percent = abilities.progress.then_some(percent);
                stage.clone_into(&mut later.stage);
            }
            Err(failure) => {
                tracing::warn!(%failure, polls = work.polls, "the provider does not say how the order stands");
            }
        }
        Err(Stop::Suspended(later))
    }
}
