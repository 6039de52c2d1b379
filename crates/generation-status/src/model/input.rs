//! The input of a generation as its row keeps it, beside prompt and seed, and as a request asks for it before its assets are known.

use catalogue::{Asset, Input, Medium, Role, Settings};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The input but for prompt and seed. Of assets there are the names: what else is known of them is in their own rows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct InputDetails {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) negative_prompt: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) media: Vec<NamedMedium>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) settings: Settings,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub(crate) parameters: Map<String, Value>,
}

fn is_default(settings: &Settings) -> bool {
    *settings == Settings::default()
}

/// A medium by its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NamedMedium {
    pub(crate) role: Role,
    /// `assets/{sha256}`; in a request also `generations/{generation}/outputs/{n}`.
    pub(crate) asset: String,
}

/// What a medium has in the API beside its name.
const MEDIUM_BYTES: usize = 12;
/// What the settings have beside their texts.
const SETTINGS_BYTES: usize = 64;

impl InputDetails {
    /// The input with its assets, each found by the name that it has here. A name that `find` does not know is returned.
    pub(crate) fn with_assets(
        &self,
        prompt: String,
        seed: Option<i64>,
        find: impl Fn(&str) -> Option<Asset>,
    ) -> Result<Input, String> {
        let media = self.media.iter().map(|medium| {
            let asset = find(&medium.asset).ok_or_else(|| medium.asset.clone())?;
            Ok(Medium { role: medium.role, asset })
        });
        Ok(Input {
            prompt,
            negative_prompt: self.negative_prompt.clone(),
            seed,
            media: media.collect::<Result<_, String>>()?,
            settings: self.settings.clone(),
            parameters: self.parameters.clone(),
        })
    }

    /// About how many bytes it has in the API, and never fewer.
    pub(crate) fn max_bytes(&self) -> usize {
        let Settings { aspect_ratio, resolution, size, .. } = &self.settings;
        let texts = [aspect_ratio, resolution, size, &self.negative_prompt];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        let media: usize = self.media.iter().map(|medium| medium.asset.len() + MEDIUM_BYTES).sum();
        SETTINGS_BYTES
            + texts
            + media
            + self.parameters.iter().map(|(key, value)| key.len() + value_bytes(value)).sum::<usize>()
    }
}

/// About how many bytes a value has as `google.protobuf.Value`, with the key before it, and never fewer.
fn value_bytes(value: &Value) -> usize {
    const HEAD: usize = 16;
    HEAD + match value {
        Value::Null | Value::Bool(_) => 2,
        Value::Number(_) => 9,
        Value::String(text) => text.len() + 4,
        Value::Array(values) => values.iter().map(value_bytes).sum::<usize>() + HEAD,
        Value::Object(values) => values.iter().map(|(key, value)| key.len() + value_bytes(value)).sum::<usize>() + HEAD,
    }
}

impl From<&Input> for InputDetails {
    fn from(input: &Input) -> Self {
        let media =
            input.media.iter().map(|medium| NamedMedium { role: medium.role, asset: medium.asset.name.clone() });
        Self {
            negative_prompt: input.negative_prompt.clone(),
            media: media.collect(),
            settings: input.settings.clone(),
            parameters: input.parameters.clone(),
        }
    }
}
