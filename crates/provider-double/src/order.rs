//! The records that everything else here points down at: an order, its state, and what was drawn about it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use crate::kinds::{FileFault, Output, PollFault, Safety, Times};

/// Whose protocol an order came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Replicate's predictions.
    Replicate,
    /// fal's queue.
    Fal,
    /// OpenRouter's videos.
    OpenRouter,
    /// A box that speaks Cog's predictions.
    Cog,
}

/// How a file came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// Where in the input, a JSON pointer.
    pub pointer: String,
    /// `data`, `upload` or `url`.
    pub form: String,
    /// SHA-256 of what came.
    pub sha256: String,
}

/// Why an input is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// The field.
    pub(crate) field: String,
    /// What is wrong with it; `None`: the model does not have it.
    pub(crate) message: Option<String>,
}

/// What a model makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Video,
    Image,
    Audio,
}

impl Kind {
    /// By the model's name: `acme/image` makes pictures, `acme/speech` sound, and any other videos.
    pub(crate) fn of(model: &str) -> Self {
        if model.contains("image") && !model.contains("image-to-video") {
            Self::Image
        } else if model.contains("speech") {
            Self::Audio
        } else {
            Self::Video
        }
    }
}

/// The state of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Waiting,
    Working,
    Made,
    Failed,
    /// It broke the provider's rules.
    Unsafe(Safety),
    /// Its input is wrong, and that is said at its end.
    Invalid,
    Stopped,
}

impl State {
    /// Whether nothing changes any more.
    pub(crate) fn is_over(self) -> bool {
        !matches!(self, Self::Waiting | Self::Working)
    }
}

/// One order.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    /// The provider's name for it.
    pub(crate) id: String,
    pub(crate) protocol: Protocol,
    pub(crate) state: State,
    /// Whether it was ever worked on.
    pub(crate) begun: bool,
    /// Whether it is unknown here from now on.
    pub(crate) forgotten: bool,
    pub(crate) fate: Fate,
    /// Where its webhooks go.
    pub(crate) webhook: Option<Url>,
    /// The idempotency key that came with it.
    pub(crate) key: Option<String>,
    /// The place of the token that it was made with.
    pub(crate) token: usize,
    /// What is wrong with its input.
    pub(crate) wrong: Option<Wrong>,
    /// Its input as it is written down, and what of it the model does not have.
    pub(crate) input: Value,
    pub(crate) dropped: Vec<String>,
    /// The files of its input.
    pub(crate) given: Vec<Given>,
    /// What is made, and how many.
    pub(crate) kind: Kind,
    pub(crate) outputs: usize,
    /// How often it was asked about, how often for its result alone, and how often its file was fetched.
    pub(crate) polls: u32,
    pub(crate) results: u32,
    pub(crate) fetches: u32,
    /// The faults that are on the bill.
    pub(crate) faults: Vec<&'static str>,
}

/// What was drawn about an order when it was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fate {
    pub(crate) wait: Duration,
    pub(crate) render: Duration,
    /// The state that it ends in; `None`: it is worked on for ever.
    pub(crate) end: Option<State>,
    /// Whether it costs although it failed.
    pub(crate) charged: bool,
    pub(crate) strict: bool,
    pub(crate) forgotten: bool,
    /// A cancel is accepted, and the video made all the same.
    pub(crate) stubborn: bool,
    pub(crate) unknown_word: bool,
    pub(crate) poll: Option<(PollFault, Times)>,
    pub(crate) output: Option<Output>,
    pub(crate) file: Option<(FileFault, Times)>,
    pub(crate) hook: HookFate,
    /// Its moderation flags the first output, and hands it out all the same.
    pub(crate) flagged: bool,
}

/// What was drawn about an order's webhooks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HookFate {
    pub(crate) lost: bool,
    pub(crate) twice: bool,
    pub(crate) late: Duration,
    pub(crate) forged: bool,
    pub(crate) reordered: bool,
    pub(crate) other_id: bool,
    pub(crate) no_id: bool,
    pub(crate) long: bool,
}
