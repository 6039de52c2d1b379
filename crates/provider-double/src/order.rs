//! The records that everything else here points down at: an order, its state, and what was drawn about it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

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
    Unsafe,
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
}

/// What was drawn about an order when it was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fate {
    pub(crate) wait: Duration,
    pub(crate) render: Duration,
    /// The state that it ends in; `None`: it is worked on for ever.
    pub(crate) end: Option<State>,
    pub(crate) forgotten: bool,
    /// A cancel is accepted, and the video made all the same.
    pub(crate) stubborn: bool,
    pub(crate) unknown_word: bool,
    pub(crate) hook_lost: bool,
    pub(crate) hook_twice: bool,
    pub(crate) hook_late: Duration,
    pub(crate) hook_forged: bool,
    pub(crate) hook_reordered: bool,
}

/// What becomes of a request for an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reception {
    Fine,
    CutBefore,
    CutAfter,
    ErrorAfter,
    Late(Duration),
    Throttled,
}
