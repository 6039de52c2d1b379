//! Orders at providers: what is ordered, what a provider can do, and what it says of an order.

use std::time::Duration;

use bytes::Bytes;
use chassis::blobs::Name;
use serde_json::{Map, Value};
use uuid::Uuid;

/// What is ordered: frozen when the generation was started, and the same over all attempts.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// The job's id: the idempotency key, and our reference at the provider.
    pub key: Uuid,
    /// The name of the provider that is asked.
    pub provider: String,
    /// What the provider calls the model.
    pub model: String,
    /// The provider's input, with `null` in the place of each file.
    pub input: Map<String, Value>,
    /// The files of the input.
    pub files: Vec<InputFile>,
    /// Where in the result the outputs lie, a JSON pointer; nothing: they are looked for.
    pub output: Option<String>,
    /// Words by which the model refuses for safety, beside those that are known of its provider.
    pub refusals: Vec<String>,
    /// Where the answer says what the provider's moderation thought of the outputs.
    pub moderation: Vec<ModerationRule>,
    /// The fields of the input that no user asked for, whose refusal is no user's fault.
    pub unasked: Vec<String>,
    /// What is made; a file of another kind is no output.
    pub output_kinds: Vec<MediaKind>,
    /// How many outputs there may be; more are not fetched.
    pub max_outputs: usize,
    /// The time on the provider's machine that is paid for at most.
    pub max_run_time: Option<Duration>,
}

/// A file of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputFile {
    /// Where its address stands in the input, a JSON pointer.
    pub pointer: String,
    /// The stored object.
    pub name: Name,
    /// Its type, by its bytes.
    pub mime_type: String,
    /// In bytes.
    pub size_bytes: u64,
    /// How it may be given; empty: as the provider takes it.
    pub forms: Vec<Form>,
}

/// How a file is given to a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// In the input itself, as a `data:` URI.
    Data,
    /// In the provider's own storage.
    Upload,
    /// At an address of ours, which is signed and runs out.
    Url,
}

impl Form {
    /// The form of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "data" => Some(Self::Data),
            "upload" => Some(Self::Upload),
            "url" => Some(Self::Url),
            _ => None,
        }
    }
}

/// An order's input as it is sent.
#[derive(Clone, Default, PartialEq)]
pub struct Input {
    /// The input with the files' addresses in their places; with `null` still where the files are in [`Input::files`].
    pub json: Map<String, Value>,
    /// The bytes of the files, in the order's own order, for a provider in this process.
    pub files: Vec<Bytes>,
}

/// In which forms a provider takes files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileForms {
    /// The largest that it takes in the input itself, in bytes; 0: none.
    pub max_data: u64,
    /// The largest that it takes into its own storage, in bytes; 0: none.
    pub max_upload: u64,
    /// Whether it fetches from an address of ours.
    pub link: bool,
}

/// A file in a provider's storage.
#[derive(Clone, PartialEq, Eq)]
pub struct Upload {
    /// Where the provider finds it.
    pub address: String,
    /// For how long.
    pub lasts: Duration,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaKind {
    /// Moving pictures.
    Video,
    /// A picture.
    Image,
    /// Sound.
    Audio,
}

impl MediaKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Video, Self::Image, Self::Audio];

    /// The name in an order, and the first part of a media type.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Image => "image",
            Self::Audio => "audio",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The kind of a media type such as `video/mp4`.
    #[must_use]
    pub fn of(mime_type: &str) -> Option<Self> {
        Self::parse(mime_type.split_once('/')?.0)
    }
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
    /// The outputs are there to be fetched.
    Done(Made),
}

/// What was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// Where the outputs lie, as the provider says, in its order; at least one.
    pub addresses: Vec<String>,
    /// How many of them, from the end, the provider did not name: what was ordered lies there, but for what was not made.
    pub unnamed: usize,
    /// What it took.
    pub usage: Usage,
    /// What the provider's moderation said of each output, in their order; fewer where it said nothing of the others.
    pub moderation: Vec<Option<Moderation>>,
}

/// A place in an answer at which moderation is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModerationRule {
    /// A JSON pointer into the whole answer.
    pub at: String,
    /// For a text: the words by which it flags the outputs.
    pub contains: Option<String>,
    /// What is flagged.
    pub category: String,
    /// What the provider does with a flagged output; empty: not known.
    pub effect: String,
}

/// What a provider's own moderation said of an output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moderation {
    /// Whether it flagged the output; false where it looked at it and did not.
    pub flagged: bool,
    /// What as.
    pub categories: Vec<String>,
    /// What it does with one that it flags; empty: not known.
    pub effect: String,
}

/// What an order took at its provider, as far as the provider says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The time on the provider's machine.
    pub run_time: Option<Duration>,
    /// The provider's own price in millionths of its currency.
    pub cost_micros: Option<i64>,
    /// What the provider counted, as it says it; empty where it does not.
    pub units: String,
}

/// What became of a request to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopping {
    /// It stops; a later poll says what came of it.
    Asked,
    /// The provider cannot stop an order.
    Unable,
}

/// A model of the catalogue that a provider elsewhere serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteModel {
    /// `models/{model}`, as the catalogue has it.
    pub name: String,
    /// The name of its provider.
    pub provider: String,
    /// The provider's name for it.
    pub model: String,
    /// What its orders cost lately, as generation-status knows it; told to operators as it is.
    pub cost: Option<ModelCost>,
}

/// What a model's orders cost at its provider, beside what its entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelCost {
    /// What the entry says, in millionths of the provider's currency.
    pub expected_micros: i64,
    /// What the provider says.
    pub cost_micros: i64,
    /// How many outputs were made.
    pub outputs: i64,
    /// Whether the two differ by too much.
    pub drifted: bool,
}
