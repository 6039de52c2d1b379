//! Orders at providers: what is ordered, what a provider can do, and what it says of an order.

use uuid::Uuid;

/// What is ordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The job's id: the idempotency key, and our reference at the provider.
    pub key: Uuid,
    /// The prompt, 1 to 2,000 characters.
    pub prompt: String,
    /// Makes a repetition come out alike; nothing for a model that takes none.
    pub seed: Option<i64>,
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
    /// It says how far an order is.
    pub progress: bool,
    /// It says the place in its own queue.
    pub queue_position: bool,
    /// It sends webhooks, which it can verify.
    pub webhook: bool,
    /// Its orders live in the worker's own process: they are waited for under the lease.
    pub in_process: bool,
}

/// What a provider says of an order that is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderStatus {
    /// It waits in the provider's own queue.
    Waiting {
        /// The place in that queue, from 1, where the provider says it.
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
}

/// What was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Where the output lies, as the provider says; empty where it is fetched by the order's reference.
    pub address: String,
    /// What the provider charges, in micro-credits; nothing for the price that is held.
    pub cost_micros: Option<i64>,
}

/// What became of a request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopping {
    /// It stops; a later poll says what came of it.
    Asked,
    /// The provider cannot stop an order.
    Unable,
}

/// A provider that is called over the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemoteProvider {
    /// <https://replicate.com>
    Replicate,
    /// <https://fal.ai>
    Fal,
}

impl RemoteProvider {
    /// The name in the catalogue, in webhooks' addresses, in spans and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Replicate => "replicate",
            Self::Fal => "fal",
        }
    }
}

/// A model of the catalogue that a remote provider serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteModel {
    /// `models/{model}`, as the catalogue has it.
    pub name: String,
    /// Whose it is.
    pub provider: RemoteProvider,
    /// The provider's name for it.
    pub model: String,
    /// Words by which it refuses for safety, beside those that are known of its provider.
    pub refusals: Vec<String>,
    /// Where in its answer the output's address lies, a JSON pointer; nothing: it is looked for.
    pub output: Option<String>,
}
