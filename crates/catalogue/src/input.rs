//! What a client asks for, in terms that all models share.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Asset;

/// The input of a generation: as it was asked for, or as it was resolved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Input {
    /// Empty where there is none.
    pub prompt: String,
    /// What is not to be seen.
    pub negative_prompt: Option<String>,
    /// Makes a repetition come out alike.
    pub seed: Option<i64>,
    /// What it is made from; of several with one role the order counts.
    pub media: Vec<Medium>,
    /// What the output is to be like.
    pub settings: Settings,
    /// The model's own settings.
    pub parameters: Map<String, Value>,
}

/// A file with its role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Medium {
    /// What it is for.
    pub role: Role,
    /// The file.
    pub asset: Asset,
}

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Role {
    /// The video begins with this picture.
    FirstFrame,
    /// The video ends with this picture.
    LastFrame,
    /// The output is to resemble this.
    Reference,
    /// This is changed, extended or enlarged.
    Source,
    /// The sound that is spoken or played.
    Audio,
    /// Where the source is changed.
    Mask,
}

/// What an output is to be like; `None` leaves it to the model's default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// How long it plays.
    pub length: Option<Length>,
    /// `16:9`, `auto`.
    pub aspect_ratio: Option<String>,
    /// `720p`, `1080p`, `4k`.
    pub resolution: Option<String>,
    /// `1280x720`, instead of the two above.
    pub size: Option<String>,
    /// Whether it has sound.
    pub audio: Option<bool>,
    /// Frames a second.
    pub fps: Option<f64>,
    /// How many outputs are made.
    pub outputs: Option<u32>,
}

/// How long an output plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Length {
    /// As long as the model thinks right.
    Auto,
    /// So many milliseconds.
    Milliseconds(u64),
}
