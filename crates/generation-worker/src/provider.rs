//! The trait of whatever makes videos. It is honest about what a provider can do, since the worker acts by nothing else.
//!
//! Invariant: an order is submitted under the job's id, the same over all attempts, and a submission whose outcome is not known
//! is never reported as a failure: only [`NotSubmitted::Refused`] says that nothing was ordered.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use uuid::Uuid;

use crate::model::{
    Abilities, Failure, NotSubmitted, NotVerified, Order, OrderStatus, Reference, Stopping, Webhook, WebhookEvent,
};

/// The bytes of an output, piece by piece.
pub type Pieces<'a> = BoxStream<'a, Result<Bytes, Failure>>;

/// A source of videos. Each call is a span of its own: `submit {name}`, `poll {name}`, `cancel {name}` and `fetch output`.
pub trait Provider: Send + Sync + 'static {
    /// A name for spans and metrics, in lower case.
    fn name(&self) -> &'static str;

    /// What it can do.
    fn abilities(&self) -> Abilities;

    /// Orders a video under `order.key`.
    fn submit<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Reference, NotSubmitted>>;

    /// Finds the order of a key; nothing when there is none, or when the provider cannot tell ([`Abilities::find_by_key`]).
    fn find(&self, key: Uuid) -> BoxFuture<'_, Result<Option<Reference>, Failure>>;

    /// Asks how an order is. An error is a failure to poll, and says nothing about the order.
    fn poll<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<OrderStatus, Failure>>;

    /// Fetches the output of an order that is [`OrderStatus::Done`].
    fn fetch<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Pieces<'a>, Failure>>;

    /// Asks to stop an order.
    fn cancel<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Stopping, Failure>>;

    /// Verifies a webhook by the provider's own rules: its signature over the raw body, no older than five minutes.
    ///
    /// # Errors
    /// [`NotVerified`], as for every provider that sends none.
    fn verify(&self, _: &Webhook) -> Result<WebhookEvent, NotVerified> {
        Err(NotVerified("this provider sends no webhooks"))
    }

    /// The pause before the first poll of an order; later ones grow from it.
    fn poll_interval(&self) -> Duration;

    /// Lets go of an order that is settled: nothing will be asked about it again.
    fn forget(&self, reference: &Reference);
}
