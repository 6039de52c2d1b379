//! The trait of whatever makes outputs. It is honest about what a provider can do, since the worker acts by nothing else.
//!
//! Invariant: an order is submitted under the job's id, the same over all attempts. An adapter only translates: what came of a
//! call becomes one [`CallOutcome`], and what follows from it is decided in `outcomes`.

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use crate::model::{
    Abilities, CallOutcome, FileForms, Input, InputFile, NotVerified, Order, OrderStatus, Reference, Stopping, Trouble,
    Upload, Webhook, WebhookEvent,
};

/// The bytes of an output, piece by piece.
pub type Pieces<'a> = BoxStream<'a, Result<Bytes, Trouble>>;

/// A source of videos, pictures and sound. Each call is a span of its own: `submit {name}`, `poll {name}`, `cancel {name}` and `fetch output`.
pub trait Provider: Send + Sync + 'static {
    /// A name for spans and metrics, in lower case.
    fn name(&self) -> &'static str;

    /// The public name of the key that it is called with, `fal/3f9a1c2e`; empty where it has none. A provider with several keys is
    /// here once for each.
    fn key(&self) -> &str {
        ""
    }

    /// What it can do.
    fn abilities(&self) -> Abilities;

    /// In which forms it takes files.
    fn file_forms(&self) -> FileForms {
        FileForms::default()
    }

    /// Where an order's uploads go, for a provider that has several such places.
    fn upload_place<'a>(&self, _: &'a Order) -> &'a str {
        ""
    }

    /// Puts a file into the provider's own storage, as far as [`FileForms::max_upload`] says. That is no order, and costs nothing.
    fn upload<'a>(&'a self, _: &'a Order, _: &'a InputFile, _: Bytes) -> BoxFuture<'a, Result<Upload, Trouble>> {
        let trouble = Trouble::new(CallOutcome::FileRefused, "this provider has no storage for files");
        futures::future::ready(Err(trouble)).boxed()
    }

    /// Places an order under its key. `input` is what the model gets: the order's own, with its files.
    fn submit<'a>(&'a self, order: &'a Order, input: &'a Input) -> BoxFuture<'a, Result<Reference, Trouble>>;

    /// Finds an order by its key; nothing when there is none, or when the provider cannot tell ([`Abilities::find_by_key`]).
    fn find<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Option<Reference>, Trouble>>;

    /// Asks how an order is. An error is a failure to ask, or what went wrong with the order.
    fn poll<'a>(&'a self, order: &'a Order, reference: &'a Reference) -> BoxFuture<'a, Result<OrderStatus, Trouble>>;

    /// Fetches an output of an order from one of the addresses that [`OrderStatus::Done`] named.
    fn fetch<'a>(&'a self, reference: &'a Reference, address: &'a str) -> BoxFuture<'a, Result<Pieces<'a>, Trouble>>;

    /// Asks to stop an order.
    fn cancel<'a>(&'a self, order: &'a Order, reference: &'a Reference) -> BoxFuture<'a, Result<Stopping, Trouble>>;

    /// Verifies a webhook by the provider's own rules: its signature over the raw body, no older than five minutes.
    ///
    /// # Errors
    /// [`NotVerified`], as for every provider that sends none.
    fn verify(&self, _: &Webhook) -> Result<WebhookEvent, NotVerified> {
        Err(NotVerified("this provider sends no webhooks"))
    }

    /// Asks whether the provider takes the key and knows the model of this name of its own, as far as it can be asked without an
    /// order. Only
    /// [`AccountRefused`](crate::model::CallOutcome::AccountRefused) and
    /// [`ModelRefused`](crate::model::CallOutcome::ModelRefused) say that it does not.
    fn probe<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), Trouble>> {
        futures::future::ready(Ok(())).boxed()
    }

    /// The pause before the first poll of an order; later ones grow from it.
    fn poll_interval(&self) -> Duration;

    /// Lets go of an order that is settled: nothing will be asked about it again.
    fn forget(&self, reference: &Reference);
}
