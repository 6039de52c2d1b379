//! Reads a setting off the schema of the provider's field.

use serde_json::{Map, Value};

use super::{Choice, Frames, Open, Pixels, Rate, Setting};
use crate::entry::{MAX_PROMPT_CHARACTERS, Mapping, Unit};
use crate::schema::{Limits, Property, Schema, enumerated, is_type, same, shown};
use crate::setting_name::{AUTO, SettingName, milliseconds, seconds_text};
use crate::settings::open::{Written, pixels};

/// No order makes more outputs.
const MAX_OUTPUTS: f64 = 16.0;
/// The largest whole number that every reader of JSON keeps: beyond it many round, and a rounded seed is another seed. Few schemas say
/// which seeds they take.
const MAX_EXACT: f64 = 9_007_199_254_740_991.0;
/// The longest text of a setting whose values are not listed, such as a resolution.
const MAX_TEXT: u32 = 40;

/// What is wrong with a mapping: the part of it, and what it must be.
pub(crate) type Wrong = (&'static str, String);

/// What a setting may be, of the field that the entry maps it to.
pub(crate) fn derive(
    name: SettingName,
    mapping: &Mapping,
    schema: &Schema,
    prompt_characters: Option<u32>,
    has_fps: bool,
) -> Result<Setting, Wrong> {
    if let (Some(width), Some(height)) = (&mapping.width, &mapping.height) {
        return pair(name, [width, height], mapping, schema);
    }
    let (Some(field), None, None) = (&mapping.to, &mapping.width, &mapping.height) else {
        return Err(("", "must say which field it is: `to`, or of a size `width` and `height`".to_owned()));
    };
    let property = schema.property(field).ok_or_else(|| ("", unknown(field)))?;
    let frames = match mapping.unit {
        Some(unit) => unit == Unit::Frames,
        None => name == SettingName::Duration && field.contains("frame"),
    };
    let mut deriving = Deriving { name, mapping, default: property.default(), choices: Vec::new(), open: None };
    if !mapping.values.is_empty() {
        deriving.mapped(field, &property, schema)?;
    } else if frames {
        deriving.frames(&property, has_fps)?;
    } else {
        deriving.alternatives(field, &property, prompt_characters)?;
    }
    let (choices, mut open) = (deriving.choices, deriving.open);
    if name == SettingName::Seed
        && let Some(Open::Number { limits, .. }) = &mut open
    {
        limits.min = Some(limits.min.map_or(-MAX_EXACT, |min| min.max(-MAX_EXACT)));
        limits.max = Some(limits.max.map_or(MAX_EXACT, |max| max.min(MAX_EXACT)));
    }
    narrow(&mut open, mapping)?;
    if choices.is_empty() && open.is_none() {
        return Err(("", format!("names {field:?}, whose schema has no value that this setting can have")));
    }
    let required = schema.requires(field);
    let setting = Setting { name, fields: vec![field.clone()], choices, open, default: None, required };
    Ok(with_default(setting, schema))
}

fn unknown(field: &str) -> String {
    format!("names {field:?}, which the schema does not have")
}

fn pair(name: SettingName, fields: [&String; 2], mapping: &Mapping, schema: &Schema) -> Result<Setting, Wrong> {
    if name != SettingName::Size {
        return Err(("", "must not have a width and a height, since it is no size".to_owned()));
    }
    let mut limits = [Limits::default(); 2];
    for (field, limits) in fields.into_iter().zip(&mut limits) {
        let property = schema.property(field).ok_or_else(|| ("", unknown(field)))?;
        let number = property.alternatives().iter().find(|of| is_type(of, "integer") || is_type(of, "number"));
        *limits =
            number.map(|of| Limits::of(of)).ok_or_else(|| ("", format!("names {field:?}, which is no number")))?;
    }
    let [width, height] = limits;
    let mut open = Some(Open::Size { form: Pixels::Pair, width, height });
    narrow(&mut open, mapping)?;
    let setting = Setting {
        name,
        fields: fields.map(Clone::clone).to_vec(),
        choices: Vec::new(),
        open,
        default: None,
        required: fields.iter().any(|field| schema.requires(field)),
    };
    Ok(with_default(setting, schema))
}

/// The limits of the entry, where they are narrower.
fn narrow(open: &mut Option<Open>, mapping: &Mapping) -> Result<(), Wrong> {
    let (min, max) = (mapping.min, mapping.max);
    if min.is_none() && max.is_none() {
        return Ok(());
    }
    let narrower = |limits: &mut Limits, unit: f64| {
        limits.min = limits.min.into_iter().chain(min.map(|min| min * unit)).reduce(f64::max);
        limits.max = limits.max.into_iter().chain(max.map(|max| max * unit)).reduce(f64::min);
        limits.min.zip(limits.max).is_none_or(|(min, max)| min <= max)
    };
    let some = match open {
        Some(Open::Number { limits, unit, .. }) => narrower(limits, *unit),
        Some(Open::Size { width, height, .. }) => narrower(width, 1.0) && narrower(height, 1.0),
        _ => return Err(("", "must not have a min or a max, since it is no number in limits".to_owned())),
    };
    if some { Ok(()) } else { Err(("", "must not have a min above its max".to_owned())) }
}

/// A text that a person writes has no default: a provider's is an example.
fn with_default(mut setting: Setting, schema: &Schema) -> Setting {
    if ![SettingName::Prompt, SettingName::NegativePrompt, SettingName::Seed].contains(&setting.name) {
        let defaults: Map<String, Value> = setting
            .fields
            .iter()
            .filter_map(|field| Some((field.clone(), schema.property(field)?.default()?.clone())))
            .collect();
        // A number of frames at a rate that a setting says has a length by that setting's default.
        setting.default = setting.decode(&defaults, None);
    }
    setting
}

struct Deriving<'a> {
    name: SettingName,
    mapping: &'a Mapping,
    default: Option<&'a Value>,
    choices: Vec<Choice>,
    open: Option<Open>,
}

impl Deriving<'_> {
    /// The entry says which of our values is which of the provider's; in the order of the provider's.
    fn mapped(&mut self, field: &str, property: &Property<'_>, schema: &Schema) -> Result<(), Wrong> {
        for (text, value) in &self.mapping.values {
            let canonical = text_of(self.name, &Value::String(text.clone()), 1.0);
            let text = canonical.ok_or_else(|| ("values", format!("has {text:?}, which this setting cannot be")))?;
            if !schema.admits(field, value) {
                return Err(("values", format!("has {}, which {field:?} cannot be", shown(value))));
            }
            if self.choices.iter().any(|choice| same(&choice.value, value) || choice.text == text) {
                return Err(("values", format!("has {} twice", shown(value))));
            }
            self.choices.push(Choice { text, value: value.clone() });
        }
        let order = property.values().unwrap_or_default();
        self.choices.sort_by_key(|choice| order.iter().position(|value| same(value, &choice.value)));
        Ok(())
    }

    fn frames(&mut self, property: &Property<'_>, has_fps: bool) -> Result<(), Wrong> {
        let rate = match self.mapping.fps {
            Some(fps) if fps.is_finite() && fps > 0.0 => Rate::Fixed(fps),
            Some(_) => return Err(("fps", "must be more than 0".to_owned())),
            None if has_fps => Rate::Setting,
            None => {
                let why =
                    "must be given, since the field counts frames and no setting says how many there are a second";
                return Err(("fps", why.to_owned()));
            }
        };
        for of in property.alternatives() {
            let values = enumerated(of).unwrap_or_default();
            let text = is_type(of, "string");
            if !text && !is_type(of, "integer") && !is_type(of, "number") {
                continue;
            }
            let written = if text { Written::Text(String::new()) } else { Written::Number };
            let number = |value: &&Value| shown(value).parse::<f64>().ok().map(|number| number as i64);
            let limits = if text { Limits::default() } else { Limits { integer: true, ..Limits::of(of) } };
            let listed = values.iter().filter_map(number).collect();
            self.open = Some(Open::Frames(Frames { limits, listed, written, extra: self.mapping.extra_frames, rate }));
        }
        Ok(())
    }

    fn alternatives(
        &mut self,
        field: &str,
        property: &Property<'_>,
        prompt_characters: Option<u32>,
    ) -> Result<(), Wrong> {
        for of in property.alternatives() {
            if is_type(of, "boolean") {
                if self.name != SettingName::Audio {
                    return Err(("", format!("names {field:?}, which is true or false")));
                }
                self.choose(Value::Bool(true));
                self.choose(Value::Bool(false));
            } else if let Some(values) = enumerated(of) {
                values.into_iter().for_each(|value| self.choose(value.clone()));
            } else if is_type(of, "number") || is_type(of, "integer") {
                self.number(Limits::of(of));
            } else if is_type(of, "string") {
                self.text(of, prompt_characters);
            } else if is_type(of, "object") && self.name == SettingName::Size {
                let side = |name: &str| Some(Limits::of(property.field(name)?.alternatives().first()?));
                if let (Some(width), Some(height)) = (side("width"), side("height")) {
                    self.open = Some(Open::Size { form: Pixels::Object, width, height });
                }
            }
        }
        Ok(())
    }

    fn choose(&mut self, value: Value) {
        let Some(text) = text_of(self.name, &value, self.unit()) else { return };
        if !self.choices.iter().any(|choice| choice.text == text) {
            self.choices.push(Choice { text, value });
        }
    }

    /// How many of the field's units a second has.
    fn unit(&self) -> f64 {
        if self.mapping.unit == Some(Unit::Milliseconds) { 1_000.0 } else { 1.0 }
    }

    fn number(&mut self, mut limits: Limits) {
        match self.name {
            SettingName::Duration => {
                if limits.min == Some(-1.0) {
                    self.choices.push(Choice { text: AUTO.to_owned(), value: Value::from(-1) });
                    limits.min = Some(1.0);
                }
                // A schema without a limit does not mean nothing, or less.
                let lowest = if limits.integer { 1.0 } else { self.unit() / 1_000.0 };
                limits.min = Some(limits.min.unwrap_or(lowest).max(lowest));
            }
            SettingName::Outputs => {
                limits.integer = true;
                limits.min = Some(limits.min.unwrap_or_default().max(1.0));
                limits.max = Some(limits.max.unwrap_or(MAX_OUTPUTS).min(MAX_OUTPUTS));
            }
            SettingName::Fps => {
                let lowest = if limits.integer { 1.0 } else { 0.001 };
                limits.min = Some(limits.min.unwrap_or(lowest).max(lowest));
            }
            SettingName::Seed => {}
            _ => return,
        }
        self.open = Some(Open::Number { limits, unit: self.unit(), written: Written::Number });
    }

    fn text(&mut self, of: &Map<String, Value>, prompt_characters: Option<u32>) {
        let limit = |name: &str| of.get(name).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
        let default = self.default.and_then(Value::as_str).unwrap_or_default();
        let number = |suffix: &str| Open::Number {
            limits: Limits::default(),
            unit: self.unit(),
            written: Written::Text(suffix.to_owned()),
        };
        self.open = Some(match self.name {
            SettingName::Prompt | SettingName::NegativePrompt => {
                let own = prompt_characters.filter(|_| self.name == SettingName::Prompt);
                let max = limit("maxLength").into_iter().chain(own).fold(MAX_PROMPT_CHARACTERS, u32::min);
                Open::Text { min: limit("minLength").unwrap_or_default().min(max), max }
            }
            SettingName::Duration => number(if default.ends_with('s') { "s" } else { "" }),
            SettingName::Fps | SettingName::Outputs | SettingName::Seed => number(""),
            SettingName::AspectRatio => Open::Ratio,
            SettingName::Resolution => Open::Text { min: 1, max: limit("maxLength").unwrap_or(MAX_TEXT).min(MAX_TEXT) },
            SettingName::Size => {
                let between = if default.contains('*') { "*" } else { "x" };
                let side = Limits { integer: true, min: Some(1.0), ..Limits::default() };
                Open::Size { form: Pixels::Text(between.to_owned()), width: side, height: side }
            }
            SettingName::Audio => return,
        });
    }
}

/// Our text for a provider's value; `None` where the setting cannot be that.
fn text_of(name: SettingName, value: &Value, unit: f64) -> Option<String> {
    let text = shown(value);
    match name {
        SettingName::Duration => {
            if [AUTO, "-1"].contains(&text.as_str()) {
                return Some(AUTO.to_owned());
            }
            let number: f64 = text.strip_suffix('s').unwrap_or(&text).parse().ok()?;
            milliseconds(&format!("{}s", number / unit)).map(seconds_text)
        }
        SettingName::Fps => text.parse::<f64>().ok().filter(|fps| *fps > 0.0).map(|fps| fps.to_string()),
        SettingName::Outputs => text.parse::<u32>().ok().filter(|count| *count > 0).map(|count| count.to_string()),
        SettingName::Seed => text.parse::<i64>().ok().map(|seed| seed.to_string()),
        SettingName::Audio => match text.to_lowercase().as_str() {
            "true" | "on" | "yes" | "enable" | "enabled" => Some("true".to_owned()),
            "false" | "off" | "no" | "disable" | "disabled" => Some("false".to_owned()),
            _ => None,
        },
        SettingName::Size => {
            let by_x = text.replacen(['*', '×', 'X'], "x", 1);
            Some(if pixels(&by_x).is_some() { by_x } else { text })
        }
        SettingName::AspectRatio if text == "adaptive" => Some(AUTO.to_owned()),
        SettingName::AspectRatio | SettingName::Resolution if value.is_string() || value.is_number() => Some(text),
        SettingName::AspectRatio | SettingName::Resolution | SettingName::Prompt | SettingName::NegativePrompt => None,
    }
}
