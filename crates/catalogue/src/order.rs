//! What a provider is sent, frozen when a generation is started.

use domain::provider::Provider;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Asset, MediaKind, ModerationRule};

/// What a provider is sent. Whoever sends it maps nothing: it puts the files in their places, and sends the rest as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// Who is asked.
    pub provider: Provider,
    /// What the provider calls the model.
    pub model: String,
    /// The provider's input, with `null` in the place of each file.
    pub input: Map<String, Value>,
    /// The files of the input.
    #[serde(default)]
    pub files: Vec<File>,
    /// Where in the result the outputs lie, as a JSON pointer; `None`: the first addresses of files in it.
    #[serde(default)]
    pub output: Option<String>,
    /// Substrings of the provider's error by which it refuses for safety, beside those that its adapter knows.
    #[serde(default)]
    pub refusals: Vec<String>,
    /// Where the answer says what the provider's moderation thought of the outputs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moderation: Vec<ModerationRule>,
    /// The fields of the input that no user asked for: those that the entry fixes, and that of a seed that was drawn. A refusal of
    /// these alone is no fault of the user's. Defaults are not among them: the user may give another value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unasked: Vec<String>,
    /// What is made.
    pub output_kinds: Vec<MediaKind>,
    /// How many outputs there may be.
    pub max_outputs: u32,
    /// The time on the provider's machine that is paid for at most, where that is what is paid for.
    #[serde(default)]
    pub max_run_ms: Option<u64>,
}

/// A file of the input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Where its address stands in the input, as a JSON pointer.
    pub pointer: String,
    /// The file.
    pub asset: Asset,
    /// How it may be given, of `data`, `upload` and `url`; empty: each that the provider takes.
    #[serde(default)]
    pub forms: Vec<String>,
}
