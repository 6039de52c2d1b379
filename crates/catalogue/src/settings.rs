//! What each common field may be for a model, read off its schema through the entry's map.
//!
//! A value goes as text from the request to the provider's field, and back for a default. Invariant: a text has one value of the
//! provider, and that value this text, so that nothing is rounded or taken for something near.

mod derive;
mod open;
mod words;

use serde_json::{Map, Value};

use crate::schema::same;
use crate::setting_name::{AUTO, SettingName};

pub(crate) use derive::derive;
pub(crate) use open::{Frames, Open, Pixels, Rate, Written, pixels};

/// A setting whose numbers are more has none that a price can tell apart.
const MAX_LISTED: f64 = 1_000.0;

/// A common field as a model takes it.
#[derive(Clone, Debug)]
pub struct Setting {
    pub(crate) name: SettingName,
    /// The provider's field; two of a size in two fields, the width first.
    pub(crate) fields: Vec<String>,
    /// The values that are listed.
    pub(crate) choices: Vec<Choice>,
    /// The values beside them.
    pub(crate) open: Option<Open>,
    /// What it is when left out, by the schema.
    pub(crate) default: Option<String>,
    /// The provider's field must be given.
    pub(crate) required: bool,
}

/// One of the listed values.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Choice {
    pub(crate) text: String,
    pub(crate) value: Value,
}

impl Setting {
    /// Whether the provider's fields of it are all among these.
    #[must_use]
    pub fn is_of(&self, fields: &[String]) -> bool {
        self.fields.iter().all(|field| fields.contains(field))
    }

    /// The provider's fields with their values for a text.
    ///
    /// # Errors
    /// What it must be.
    pub(crate) fn encode(&self, text: &str, fps: Option<f64>) -> Result<Vec<(String, Value)>, String> {
        if let Some(choice) = self.choices.iter().find(|choice| choice.text == text) {
            return Ok(vec![(self.fields[0].clone(), choice.value.clone())]);
        }
        let values = self.open.as_ref().and_then(|open| open.encode(self.name, text, fps));
        match values {
            Some(values) => Ok(self.fields.iter().cloned().zip(values).collect()),
            None => Err(format!("must be {}", self.allowed(fps))),
        }
    }

    /// The text of what a provider's input says.
    pub(crate) fn decode(&self, input: &Map<String, Value>, fps: Option<f64>) -> Option<String> {
        let values: Vec<&Value> = self.fields.iter().map(|field| input.get(field)).collect::<Option<_>>()?;
        if let [value] = values[..]
            && let Some(choice) = self.choices.iter().find(|choice| same(&choice.value, value))
        {
            return Some(choice.text.clone());
        }
        self.open.as_ref()?.decode(self.name, &values, fps)
    }

    /// The longest text, in characters; 0 for what is no text of one's own.
    pub(crate) const fn max_characters(&self) -> u32 {
        match self.open {
            Some(Open::Text { max, .. }) => max,
            _ => 0,
        }
    }

    /// Whether the model may decide it.
    pub(crate) fn can_be_auto(&self) -> bool {
        self.choices.iter().any(|choice| choice.text == AUTO)
    }

    /// Every listed value but `auto`.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        self.choices.iter().map(|choice| choice.text.as_str()).filter(|text| *text != AUTO)
    }

    /// Every value that it may have but `auto`, where those are so few that they can be listed.
    pub(crate) fn finite_texts(&self) -> Option<Vec<String>> {
        let mut all: Vec<String> = self.texts().map(str::to_owned).collect();
        match &self.open {
            None => {}
            Some(Open::Number { written: Written::Number, .. }) => {
                let (Some(min), Some(max), Some(step)) = self.open.as_ref()?.range(None) else { return None };
                let count = ((max - min) / step).floor();
                if !(0.0..MAX_LISTED).contains(&count) {
                    return None;
                }
                let unit = if self.name == SettingName::Duration { "s" } else { "" };
                all.extend((0..=count as u32).map(|n| format!("{}{unit}", min + f64::from(n) * step)));
            }
            Some(_) => return None,
        }
        Some(all)
    }

    /// Whether it is a duration that is sent as a number of frames.
    pub(crate) const fn in_frames(&self) -> Option<&Frames> {
        match &self.open {
            Some(Open::Frames(frames)) => Some(frames),
            _ => None,
        }
    }

    /// The longest duration, in seconds; `None` where there is no limit.
    pub(crate) fn longest(&self, fps: Option<f64>) -> Option<f64> {
        let listed = self.texts().filter_map(|text| text.strip_suffix('s')?.parse::<f64>().ok()).reduce(f64::max);
        match &self.open {
            None => listed,
            Some(open) => open.range(fps).1.map(|max| listed.map_or(max, |listed| listed.max(max))),
        }
    }
}
