//! What an entry of a catalogue file says.

use std::collections::BTreeMap;
use std::time::Duration;

use domain::provider::Provider;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::date::Date;
use crate::price::{Decimal, Rule};
use crate::setting_name::SettingName;
use crate::{Kind, MediaKind, ModerationRule, Role};

/// The longest prompt of a model whose schema has no limit, in characters.
pub(crate) const MAX_PROMPT_CHARACTERS: u32 = 20_000;
/// The longest prompt of a model without a schema, in characters.
pub(crate) const PLAIN_PROMPT_CHARACTERS: u32 = 2_000;

/// The id of the model that every installation has: it draws videos.
pub const LOCAL_SKETCH: &str = "local-sketch";
/// The id of its sister, which draws stills.
pub const LOCAL_STILL: &str = "local-still";

/// An entry.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Where it is in its file, as a JSON pointer.
    pub(crate) at: String,
    pub(crate) id: String,
    /// All that decides what its provider is sent, as it is written.
    pub(crate) sent: Value,
    pub(crate) aliases: Vec<String>,
    pub(crate) label: String,
    pub(crate) provider: Provider,
    pub(crate) remote_name: String,
    pub(crate) kind: Option<Kind>,
    pub(crate) source: String,
    pub(crate) checked: Option<Date>,
    pub(crate) retire: Option<Date>,
    pub(crate) schema: Option<String>,
    pub(crate) map: BTreeMap<SettingName, Mapping>,
    pub(crate) media: Vec<MediaEntry>,
    pub(crate) fixed: Map<String, Value>,
    pub(crate) hide: Vec<String>,
    pub(crate) files: Vec<String>,
    pub(crate) output: Output,
    pub(crate) price: Vec<Rule>,
    pub(crate) cost: Cost,
    pub(crate) markup: Option<Decimal>,
    pub(crate) sizes: BTreeMap<String, Sizes>,
    pub(crate) rules: Vec<FieldRule>,
    pub(crate) max_attempts: i32,
    pub(crate) start_deadline: Duration,
    pub(crate) total_deadline: Duration,
    pub(crate) max_run: Option<Duration>,
    pub(crate) refusals: Vec<String>,
    pub(crate) moderation: Vec<ModerationRule>,
    pub(crate) prompt_characters: Option<u32>,
    /// The price of a model without rows.
    pub(crate) price_micros: Option<i64>,
    /// How many pictures the built-in model takes, where its entry has no schema.
    pub(crate) reference_assets: Option<u32>,
    /// Whether a model without a schema takes a seed.
    pub(crate) seed: Option<bool>,
}

/// What the provider itself asks for an order.
#[derive(Clone, Debug, Default)]
pub(crate) enum Cost {
    /// It is not compared.
    #[default]
    Unknown,
    /// The rates of `price`, before the markup.
    Price,
    /// These.
    Rules(Vec<Rule>),
}

/// Which field of the provider carries a common one, and how.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mapping {
    /// The field.
    pub(crate) to: Option<String>,
    /// The two fields of a size.
    pub(crate) width: Option<String>,
    pub(crate) height: Option<String>,
    /// The provider's value for each of ours, where they differ.
    #[serde(default)]
    pub(crate) values: Map<String, Value>,
    /// Limits narrower than the schema's: of a number, of the seconds of a duration, of the sides of a size.
    pub(crate) min: Option<f64>,
    pub(crate) max: Option<f64>,
    /// What a number of a duration counts.
    pub(crate) unit: Option<Unit>,
    /// Frames a second, where the unit is frames and no setting says it.
    pub(crate) fps: Option<f64>,
    /// Frames beside those of the length, where the unit is frames.
    #[serde(default)]
    pub(crate) extra_frames: u32,
}

/// What a number of a duration counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unit {
    Seconds,
    Milliseconds,
    Frames,
}

/// A place for files.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MediaEntry {
    pub(crate) role: Role,
    pub(crate) to: String,
    /// What is put into the list `to` for a file, where that is more than its address: `{file}` stands for the address.
    pub(crate) item: Option<Value>,
    pub(crate) min: Option<u32>,
    pub(crate) max: Option<u32>,
    /// `image`, `video`, `audio`, or media types such as `image/png`.
    #[serde(default)]
    pub(crate) types: Vec<String>,
    /// How a file may be given: `data`, `upload`, `url`.
    #[serde(default)]
    pub(crate) forms: Vec<String>,
    #[serde(flatten)]
    pub(crate) limits: FileLimits,
}

/// The limits of a file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct FileLimits {
    /// The maximum size in bytes.
    pub max_bytes: Option<u64>,
    /// In pixels.
    pub min_width: Option<u32>,
    /// In pixels.
    pub min_height: Option<u32>,
    /// In pixels.
    pub max_width: Option<u32>,
    /// In pixels.
    pub max_height: Option<u32>,
    /// Width by height.
    pub min_aspect_ratio: Option<f64>,
    /// Width by height.
    pub max_aspect_ratio: Option<f64>,
    /// Of a video or sound.
    pub min_seconds: Option<f64>,
    /// Of a video or sound.
    pub max_seconds: Option<f64>,
}

/// Where a result has its outputs, and what they are.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Output {
    pub(crate) at: Option<String>,
    #[serde(default)]
    pub(crate) kinds: Vec<MediaKind>,
}

/// The sizes of a resolution by aspect ratio, or of a size that has a name.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Sizes {
    Named(String),
    ByRatio(BTreeMap<String, String>),
}

/// A rule across fields of the provider's input.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FieldRule {
    /// The path that is named when it is broken.
    pub(crate) field: String,
    pub(crate) message: String,
    #[serde(rename = "if")]
    pub(crate) condition: Value,
    pub(crate) then: Option<Value>,
    #[serde(rename = "else")]
    pub(crate) otherwise: Option<Value>,
}
