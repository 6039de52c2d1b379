//! The records that everything else here points down at: an order, its state, and what was drawn about it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
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
    /// It has input that the model does not have; fal says so at the result.
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
    /// A field of its input that a strict model does not have.
    pub(crate) stray: Option<String>,
    /// How often it was asked about, and how often its file was fetched.
    pub(crate) polls: u32,
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
