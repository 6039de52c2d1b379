//! What makes videos. Each provider is a file beside this one, behind one trait that is honest about what a provider can do.
//!
//! Invariant: an order is submitted under the job's id, the same over all attempts, and a submission whose outcome is not known
//! is never told as a failure: only [`NotSubmitted::Refused`] says that nothing was ordered.

pub mod fal;
mod http;
mod keys;
pub mod local;
pub mod replicate;
mod signatures;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use url::Url;
use uuid::Uuid;

use self::fal::Fal;
use self::replicate::Replicate;
use crate::config::{Config, Remote};
use crate::hooks::{Heard, Hook, NotVerified};

/// What is ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The job's id: the idempotency key, and our reference at the provider.
    pub key: Uuid,
    /// The prompt, 1 to 2,000 characters.
    pub prompt: String,
    /// Makes a repetition come out alike.
    pub seed: i64,
    /// `assets/{sha256}` of pictures to go by.
    pub reference_assets: Vec<String>,
}

/// The provider's own name for an order that it has taken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference(pub String);

/// What a provider can do; the worker acts by these, never by a provider's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a separate fact about a provider, read by name")]
pub struct Abilities {
    /// Submitting again under the same key never orders, nor costs, a second time.
    pub idempotent_submit: bool,
    /// An order can be found by our key alone.
    pub find_by_key: bool,
    /// A running order can be stopped.
    pub cancel: bool,
    /// It tells how far an order is.
    pub progress: bool,
    /// It tells the place in its own queue.
    pub queue_position: bool,
    /// It sends webhooks, which [`Provider::hear`] verifies.
    pub webhook: bool,
    /// Its orders live in the worker's own process: they are waited for under the lease.
    pub in_process: bool,
}

/// Why an order was not taken, or is not known to have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSubmitted {
    /// Nothing was ordered: it was refused, or no byte left.
    #[error("nothing was ordered: {0}")]
    Refused(Failure),
    /// The order may have been taken: the connection broke after it went out.
    #[error("it is not known whether the order was taken: {0}")]
    Unconfirmed(String),
}

/// How an order stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderStatus {
    /// The provider does not know this reference, or not any more.
    Unknown,
    /// It waits in the provider's own queue.
    Waiting {
        /// The place in that queue, from 1, where the provider tells it.
        position: Option<u32>,
    },
    /// It is being worked on.
    Working {
        /// 0 to 100.
        percent: u8,
        /// What is being done, in a word or two.
        stage: &'static str,
    },
    /// The video is there to be fetched.
    Done(Made),
    /// It will not be made.
    Failed(Failure),
    /// It was stopped on our request.
    Cancelled(Charge),
}

/// Whether the provider takes money for an order that it did not deliver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Charge {
    /// It says, or its documentation does, that it takes none.
    NotCharged,
    /// It says, or its documentation does, that it takes some.
    Charged,
    /// It says nothing that can be relied on.
    #[default]
    Unknown,
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The file's ending, without a dot: `mp4`.
    pub extension: &'static str,
    /// What the provider charges, in micro-credits; nothing for the price that is held.
    pub cost_micros: Option<i64>,
}

/// What became of a request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopping {
    /// It stops; a later poll tells the outcome.
    Asked,
    /// The provider cannot stop an order.
    Unable,
}

/// What kind of failure it was; this decides whether there will be another attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Something broke that may work next time.
    Internal,
    /// The provider asked for a pause; the attempt does not count.
    Throttled,
    /// The input was refused and always will be.
    InvalidInput,
    /// The provider's safety rules refused it.
    Safety,
    /// The result cannot be used.
    BadOutput,
    /// It was cancelled, and the provider stopped.
    Cancelled,
}

/// Why a provider did not deliver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Failure {
    /// What kind of failure.
    pub class: Class,
    /// One of the reasons of `Generation.error`.
    pub reason: &'static str,
    /// A sentence for the generation's user.
    pub message: String,
    /// Not to be tried again before this long.
    pub retry_after: Option<Duration>,
    /// Whether it costs something all the same.
    pub charge: Charge,
}

impl Failure {
    /// A failure inside the provider, which may not come again.
    #[must_use]
    pub fn internal(message: impl Into<String>) -> Self {
        Self {
            class: Class::Internal,
            reason: "PROVIDER_INTERNAL",
            message: message.into(),
            retry_after: None,
            charge: Charge::Unknown,
        }
    }

    /// A result that cannot be used.
    #[must_use]
    pub fn bad_output(message: impl Into<String>) -> Self {
        Self { class: Class::BadOutput, reason: "PROVIDER_BAD_OUTPUT", ..Self::internal(message) }
    }
}

/// A source of videos.
pub trait Provider: Send + Sync + 'static {
    /// A name for spans and metrics, in lower case.
    fn name(&self) -> &'static str;

    /// What it can do.
    fn abilities(&self) -> Abilities;

    /// Orders a video under `order.key`.
    fn submit<'a>(&'a self, order: &'a Order) -> BoxFuture<'a, Result<Reference, NotSubmitted>>;

    /// Finds the order of a key; nothing when there is none, or when the provider cannot tell ([`Abilities::find_by_key`]).
    fn find(&self, key: Uuid) -> BoxFuture<'_, Result<Option<Reference>, Failure>>;

    /// Tells how an order stands. An error is a failure to poll, and says nothing about the order.
    fn poll<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<OrderStatus, Failure>>;

    /// The bytes of an order that is [`OrderStatus::Done`], piece by piece.
    fn fetch<'a>(
        &'a self,
        reference: &'a Reference,
    ) -> BoxFuture<'a, Result<BoxStream<'a, Result<Bytes, Failure>>, Failure>>;

    /// Asks to stop an order.
    fn cancel<'a>(&'a self, reference: &'a Reference) -> BoxFuture<'a, Result<Stopping, Failure>>;

    /// Verifies a webhook by the provider's own rules: its signature over the raw body, no older than five minutes.
    ///
    /// # Errors
    /// [`NotVerified`], as for every provider that sends none.
    fn hear(&self, _: &Hook) -> Result<Heard, NotVerified> {
        Err(NotVerified("this provider sends no webhooks"))
    }

    /// How long to wait between two polls.
    fn poll_interval(&self) -> Duration;

    /// The order is settled here; nothing will be asked about it again.
    fn forget(&self, reference: &Reference);
}

/// The providers of this worker, by the model that each serves.
#[derive(Clone, Default)]
pub struct Registry {
    by_model: BTreeMap<String, Arc<dyn Provider>>,
}

impl Registry {
    /// Adds a provider for `models/{model}`.
    #[must_use]
    pub fn with(mut self, model: &str, provider: Arc<dyn Provider>) -> Self {
        self.by_model.insert(model.to_owned(), provider);
        self
    }

    /// Adds the models of others, as far as there are keys for them.
    ///
    /// # Errors
    /// When no client can be built.
    pub fn with_remote(mut self, config: &Config) -> anyhow::Result<Self> {
        let replicate = config.replicate.as_ref().map(|settings| Replicate::new(settings, "")).transpose()?;
        let fal = config.fal.as_ref().map(|settings| Fal::new(settings, "")).transpose()?;
        for Remote { name, provider, model } in &config.models {
            self = match (provider.as_str(), &replicate, &fal) {
                (replicate::NAME, Some(replicate), _) => self.with(name, Arc::new(replicate.other(model))),
                (fal::NAME, _, Some(fal)) => self.with(name, Arc::new(fal.other(model))),
                _ => {
                    tracing::warn!(name, provider, "not served: there is no key for its provider");
                    self
                }
            };
        }
        Ok(self)
    }

    /// The provider of a model.
    #[must_use]
    pub fn of(&self, model: &str) -> Option<Arc<dyn Provider>> {
        self.by_model.get(model).cloned()
    }

    /// The provider of a name.
    #[must_use]
    pub fn called(&self, name: &str) -> Option<Arc<dyn Provider>> {
        self.by_model.values().find(|provider| provider.name() == name).cloned()
    }

    /// Every model served, in order.
    #[must_use]
    pub fn models(&self) -> Vec<String> {
        self.by_model.keys().cloned().collect()
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_set().entries(self.by_model.keys()).finish()
    }
}

/// Where a provider is to send the webhooks of a job.
fn hook(hooks: Option<&Url>, provider: &str, job: Uuid) -> Option<Url> {
    let mut url = hooks?.clone();
    url.path_segments_mut().ok()?.pop_if_empty().extend([provider, &job.to_string()]);
    Some(url)
}

/// Models elsewhere cannot see our assets.
fn no_pictures() -> Failure {
    let message = "this model takes no reference pictures";
    let charge = Charge::NotCharged;
    Failure { class: Class::InvalidInput, reason: "INPUT_SCHEMA_VIOLATION", charge, ..Failure::internal(message) }
}

/// A state that the provider's documentation did not have when its adapter was written.
fn unheard(provider: &'static str, word: &str) {
    metrics::counter!("rushes_provider_unknown_states_total", "provider" => provider).increment(1);
    let word: String = word.chars().take(40).collect();
    tracing::warn!(provider, word, "a state that is not known; the order is taken to be at work");
}
