//! Work and its lease: what generation-status hands out, and what it is told in return.

use std::time::Duration;

use domain::id::AccountId;
use uuid::Uuid;

use super::failure::Condition;
use super::order::{Moderation, Order, Reference, Usage};

/// One lease of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The job, the same over all attempts of a generation.
    pub job: Uuid,
    /// Rises with every lease of the job; everything that is said about the work carries it.
    pub fence: i64,
}

/// The work of one lease.
#[derive(Clone, Debug)]
pub struct Work {
    /// The lease that it is done under.
    pub lease: Lease,
    /// `generations/{generation}`.
    pub generation: String,
    /// Whose generation it is.
    pub account: AccountId,
    /// `models/{model}`.
    pub model: String,
    /// What is ordered.
    pub order: Order,
    /// The public name of the key that the order is to be sent with, or was; empty: not known, or its provider has none.
    pub key: String,
    /// Which attempt this is, from 1.
    pub attempt: i32,
    /// The order of an earlier lease: go on with it.
    pub reference: Option<Reference>,
    /// An earlier lease recorded its intent and no reference: the provider may have the order.
    pub unconfirmed: bool,
    /// The lease is for one poll of an order that the provider has.
    pub poll: bool,
    /// How many polls there were before.
    pub polls: i32,
    /// Since when the order has been in trouble.
    pub clocks: Clocks,
    /// The provider was out of order: it is asked something that orders nothing before it gets this order.
    pub ask_first: bool,
    /// It is to be cancelled.
    pub cancel_requested: bool,
    /// The W3C trace context of the call that started the generation; empty: none.
    pub traceparent: String,
}

/// What of an order is in trouble. Each has a clock of its own, which the next good news of the same sort stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The provider cannot be asked.
    Poll,
    /// The provider answers, and does not know the order, names no output, or says of its end two things that cannot both be.
    Order,
    /// The output cannot be fetched.
    Output,
    /// The output cannot be stored.
    Storage,
}

/// For how long each has been in trouble; nothing for what is well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clocks {
    /// See [`Clock::Poll`].
    pub poll: Option<Duration>,
    /// See [`Clock::Order`].
    pub order: Option<Duration>,
    /// See [`Clock::Output`].
    pub output: Option<Duration>,
    /// See [`Clock::Storage`].
    pub storage: Option<Duration>,
}

impl Clocks {
    /// For how long this has been in trouble.
    #[must_use]
    pub fn elapsed(&self, clock: Clock) -> Duration {
        let elapsed = match clock {
            Clock::Poll => self.poll,
            Clock::Order => self.order,
            Clock::Output => self.output,
            Clock::Storage => self.storage,
        };
        elapsed.unwrap_or_default()
    }
}

/// An order that goes on without a lease.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Suspension {
    /// When somebody should poll again; nothing: only when a webhook or an operator names the order.
    pub poll_after: Option<Duration>,
    /// It is not known whether the provider took the order.
    pub unconfirmed: bool,
    /// 0 to 100; nothing where the provider does not say.
    pub percent: Option<u8>,
    /// What is being done, in a word or two.
    pub stage: String,
    /// The place in the provider's own queue, from 1; 0: none.
    pub queue_position: i32,
    /// What is in trouble; nothing where the order is well.
    pub trouble: Option<Clock>,
    /// What it says of the provider's health.
    pub condition: Option<Condition>,
    /// Why it is unconfirmed or in trouble, for operators.
    pub message: String,
}

/// A stored output, as thumbnail-worker registered it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredFile {
    /// `assets/{sha256}`.
    pub asset: String,
    /// Its length in bytes.
    pub size_bytes: i64,
    /// The stored object's ending, without a dot.
    pub extension: String,
    /// Its type by its bytes, `video/mp4`.
    pub mime_type: String,
    /// Width in pixels; 0 for a sound.
    pub width: i32,
    /// Height in pixels; 0 for a sound.
    pub height: i32,
    /// How long it plays; nothing for a picture.
    pub duration: Option<Duration>,
    /// Where it can be fetched.
    pub url: String,
    /// `assets/{sha256}` of its poster; empty where there is none.
    pub poster: String,
    /// Where the poster can be fetched.
    pub poster_url: String,
    /// Why there is no poster; empty where there is one.
    pub poster_missing_reason: String,
    /// What the provider's moderation said of it, and which provider.
    pub moderation: Option<(String, Moderation)>,
}

/// The result of an order.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The outputs in the provider's order, at least one; their bytes are in our storage.
    pub outputs: Vec<StoredFile>,
    /// What the provider says of its use.
    pub usage: Usage,
}

/// How the work of one lease ended in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The outputs were delivered.
    Completed,
    /// The attempt was reported as failed.
    Failed,
    /// The lease was given back.
    Released,
    /// The order is left to its provider, to be polled again.
    Suspended,
    /// The work is another's: nothing was said.
    Abandoned,
}

impl Outcome {
    /// For spans and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Released => "released",
            Self::Suspended => "suspended",
            Self::Abandoned => "abandoned",
        }
    }
}
