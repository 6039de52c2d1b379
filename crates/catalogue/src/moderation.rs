//! Where a provider's finished answer says what its own moderation thought of the outputs.
//!
//! Invariant: nothing is inferred. What an answer does not say at the place of a rule is said of no output.

use serde::{Deserialize, Serialize};

/// One place at which an answer says it. Frozen with the order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModerationRule {
    /// In the whole answer, as a JSON pointer: a boolean, or a list of them by output; a list of the texts that it was flagged as; or a
    /// text, with `contains`.
    pub at: String,
    /// The outputs are flagged where the text has this; a text without it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contains: Option<String>,
    /// What is flagged then: `nsfw`.
    pub category: String,
    /// What the provider does with a flagged output, as it documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
}

/// What a provider does with an output that it flags, and hands out all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// It is made unrecognizable.
    Blurred,
    /// Another one is handed out, such as a black picture.
    Replaced,
}

impl Effect {
    /// The name in an entry and in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Blurred => "blurred",
            Self::Replaced => "replaced",
        }
    }
}
