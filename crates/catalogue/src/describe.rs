//! What a model tells of itself, so that a client can draw its form and check an input before it is sent.

use serde_json::{Map, Value, json};

use crate::model::Model;
use crate::schema::escape;
use crate::setting_name::SettingName;
use crate::settings::{Open, Setting};

/// What a setting may be.
#[derive(Clone, Debug, PartialEq)]
pub struct SettingDescription {
    /// Which it is.
    pub name: SettingName,
    /// The values that are listed, as text: `8s`, `16:9`, `true`.
    pub values: Vec<String>,
    /// The minimum of a number beside them: seconds of a duration, the pixels of a side of a size.
    pub min: Option<f64>,
    /// The maximum.
    pub max: Option<f64>,
    /// How far values lie apart, from `min`.
    pub step: Option<f64>,
    /// What it is when left out, as text; empty where the model decides.
    pub default_value: String,
    /// A request must give it.
    pub required: bool,
    /// The maximum length of a text, in characters; 0 for what is none.
    pub max_characters: u32,
}

impl Model {
    /// The settings that it takes, the prompt first. What is not among them is refused.
    #[must_use]
    pub fn setting_descriptions(&self) -> Vec<SettingDescription> {
        self.settings.values().map(|setting| self.describe(setting)).collect()
    }

    fn describe(&self, setting: &Setting) -> SettingDescription {
        let fps = self.setting(SettingName::Fps).and_then(|fps| fps.default.as_ref()?.parse().ok());
        let mut values: Vec<String> = setting.choices.iter().map(|choice| choice.text.clone()).collect();
        if let Some(frames) = setting.in_frames() {
            values.extend(frames.listed_texts(fps));
        }
        let (min, max, step) = match &setting.open {
            Some(Open::Frames(frames)) if !frames.listed.is_empty() => (None, None, None),
            Some(Open::Size { width, height, .. }) => {
                let whole = (width.integer && height.integer).then_some(1.0);
                let both = |of: fn(f64, f64) -> f64, one: Option<f64>, other: Option<f64>| {
                    one.into_iter().chain(other).reduce(of)
                };
                (
                    both(f64::max, width.min, height.min),
                    both(f64::min, width.max, height.max),
                    width.step.or(height.step).or(whole),
                )
            }
            Some(open) => open.range(fps),
            None => (None, None, None),
        };
        let default = setting.default.clone().or_else(|| self.default_frames(setting, fps));
        let needed = setting.required || (self.is_priced(setting.name) && setting.name != SettingName::Seed);
        SettingDescription {
            name: setting.name,
            values,
            min,
            max,
            step,
            required: default.is_none() && needed && setting.name != SettingName::Seed,
            default_value: default.unwrap_or_default(),
            max_characters: setting.max_characters(),
        }
    }

    /// The JSON Schema of `Input.parameters`, as text: the provider's, without what typed fields say and what nobody is offered. Where
    /// a file may stand it has the name of an asset.
    #[must_use]
    pub fn parameters_schema(&self) -> String {
        let root = self.schema.root();
        let mut properties: Map<String, Value> = Map::new();
        for name in self.parameters() {
            if let Some(property) = root.pointer(&format!("/properties/{}", escape(name))) {
                properties.insert(name.to_owned(), property.clone());
            }
        }
        for pattern in &self.files {
            let parts: Vec<&str> = pattern.split('/').skip(1).collect();
            if let Some((first, rest)) = parts.split_first()
                && let Some(property) = properties.get_mut(*first)
            {
                name_assets(property, rest);
            }
        }
        let needed = |name: &&str| {
            let default = self.schema.property(name).and_then(|property| property.default());
            (self.schema.requires(name) || self.prices_ask_for(name)) && default.is_none()
        };
        let required: Vec<&str> = self.parameters().filter(needed).collect();
        let mut schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "additionalProperties": false,
            "properties": properties,
            "required": required,
        });
        for keyword in ["$defs", "definitions"] {
            if let (Some(definitions), Some(schema)) = (root.get(keyword), schema.as_object_mut()) {
                schema.insert(keyword.to_owned(), definitions.clone());
            }
        }
        schema.to_string()
    }
}

/// Texts at a place become names of assets.
fn name_assets(schema: &mut Value, parts: &[&str]) {
    for keyword in ["anyOf", "oneOf", "allOf"] {
        for inner in schema.get_mut(keyword).and_then(Value::as_array_mut).into_iter().flatten() {
            name_assets(inner, parts);
        }
    }
    let inner = match parts.split_first() {
        None => {
            if schema.get("type").and_then(Value::as_str) == Some("string")
                && let Some(fields) = schema.as_object_mut()
            {
                fields.remove("format");
                fields.insert("pattern".to_owned(), Value::from("^assets/[0-9a-f]{64}$"));
            }
            return;
        }
        Some((&"*", rest)) => (schema.get_mut("items"), rest),
        Some((name, rest)) => (schema.get_mut("properties").and_then(|fields| fields.get_mut(*name)), rest),
    };
    if let (Some(inner), rest) = inner {
        name_assets(inner, rest);
    }
}
