//! Handing an order to a provider, and what is done when it is not known whether that came about.
//!
//! Invariants: no byte leaves before the intent is committed; an order that may have been taken is sent again only where the
//! provider guarantees that its key costs once; and only a first sending that was refused says that nothing was ordered.

use std::time::Duration;

use chassis::crash;
use proto::generations::v1::charge::ProviderCharge;
use proto::work::v1::{Lease, Work};
use tokio::time::sleep;
use tracing::{Instrument as _, info_span};

use super::{Orders, Stop, cancelled, pause};
use crate::crash_points;
use crate::providers::{Class, Failure, NotSubmitted, Order, Provider, Reference};
use crate::status::Suspension;

/// How often an order is repeated under its key, or looked for, when the provider's answer was lost.
const SUBMISSIONS: u32 = 5;

impl Orders {
    /// The reference of the order: the one that is known, or that of an order made now.
    pub(super) async fn ordered(
        &self,
        work: &Work,
        lease: &Lease,
        provider: &dyn Provider,
        order: &Order,
        cancel: bool,
    ) -> Result<Reference, Stop> {
        if !work.provider_reference.is_empty() {
            return Ok(Reference(work.provider_reference.clone()));
        }
        if work.in_doubt {
            let doubt = "an earlier lease did not tell".to_owned();
            // One that is to be cancelled is not sent again, even where that would cost nothing.
            let again = !cancel && provider.abilities().idempotent_submit;
            return self.settle(work, lease, provider, order, again, doubt).await;
        }
        if cancel {
            return Err(Stop::Failed(cancelled("it was cancelled before it was ordered"), ProviderCharge::NotCharged));
        }
        self.status.record_intent(lease, provider.name()).await?;
        crash::point(crash_points::INTENT_ANSWERED);
        match send(provider, order).await {
            Ok(reference) => self.known(lease, provider, reference).await,
            Err(NotSubmitted::Refused(failure)) => Err(Stop::Failed(failure, ProviderCharge::NotCharged)),
            Err(NotSubmitted::Unconfirmed(doubt)) => {
                let again = provider.abilities().idempotent_submit;
                self.settle(work, lease, provider, order, again, doubt).await
            }
        }
    }

    /// Finds out what became of an order that may have been taken: it is looked for, and sent again only with `again`. What
    /// stays unknown is suspended.
    async fn settle(
        &self,
        work: &Work,
        lease: &Lease,
        provider: &dyn Provider,
        order: &Order,
        again: bool,
        mut doubt: String,
    ) -> Result<Reference, Stop> {
        let abilities = provider.abilities();
        for tried in 0..SUBMISSIONS {
            if tried > 0 || !work.in_doubt {
                sleep(Duration::from_millis(100) * 2_u32.pow(tried)).await;
            }
            if abilities.find_by_key {
                match provider.find(order.key).await {
                    Ok(Some(reference)) => return self.known(lease, provider, reference).await,
                    // It may not show yet, so that is no proof that there is none.
                    Ok(None) => {}
                    Err(failure) => doubt = failure.message,
                }
            }
            if again {
                match send(provider, order).await {
                    Ok(reference) => return self.known(lease, provider, reference).await,
                    // What is refused for what it is was refused the first time too.
                    Err(NotSubmitted::Refused(failure))
                        if matches!(failure.class, Class::InvalidInput | Class::Safety) =>
                    {
                        return Err(failure.into());
                    }
                    Err(NotSubmitted::Refused(failure)) => doubt = failure.message,
                    Err(NotSubmitted::Unconfirmed(why)) => doubt = why,
                }
            } else if !abilities.find_by_key {
                break;
            }
        }
        tracing::warn!(doubt, provider = provider.name(), "it is not known whether the order was taken");
        let poll_after = (again || abilities.find_by_key).then(|| pause(provider, work.polls));
        Err(Stop::Suspended(Suspension { poll_after, unconfirmed: true, message: doubt, ..Suspension::default() }))
    }

    async fn known(&self, lease: &Lease, provider: &dyn Provider, reference: Reference) -> Result<Reference, Stop> {
        crash::point(crash_points::ORDER_ANSWERED);
        if let Err(error) = self.status.record_submission(lease, &reference).await {
            provider.forget(&reference);
            return Err(error.into());
        }
        crash::point(crash_points::REFERENCE_ANSWERED);
        Ok(reference)
    }

    /// The provider forgot an order that it took: again under its key, which must lead to the same order.
    pub(super) async fn reorder(
        &self,
        provider: &dyn Provider,
        order: &Order,
        reference: &Reference,
    ) -> Result<(), Stop> {
        match send(provider, order).await {
            Ok(again) if again == *reference => Ok(()),
            Ok(_) => Err(Failure::internal("the provider gave the same key another reference").into()),
            Err(NotSubmitted::Refused(failure)) => Err(failure.into()),
            // The next poll tells.
            Err(NotSubmitted::Unconfirmed(_)) => Ok(()),
        }
    }
}

async fn send(provider: &dyn Provider, order: &Order) -> Result<Reference, NotSubmitted> {
    let name = provider.name();
    let span = info_span!(
        "provider submit",
        otel.name = format!("submit to {name}"),
        otel.kind = "client",
        peer.service = name
    );
    provider.submit(order).instrument(span).await
}
