//! Which fields carry the common settings.

use serde_json::Value;

use super::field::{self, Field};
use super::names;
use crate::Kind;

/// A common setting and the field that carries it.
pub(super) struct Guess {
    pub(super) setting: &'static str,
    /// One field, or of a size in two the width and the height.
    pub(super) fields: Vec<String>,
    /// Our value and the provider's, where they differ.
    pub(super) values: Vec<(&'static str, String)>,
    /// A length counted in frames: the rate where no setting has it, and the frames beside those of the length.
    pub(super) frames: Option<Frames>,
}

/// How a length is counted in frames.
pub(super) struct Frames {
    pub(super) fps: Option<f64>,
    pub(super) extra: u32,
}

impl Guess {
    fn of(setting: &'static str, field: &Field) -> Self {
        Self { setting, fields: vec![field.name.to_owned()], values: Vec::new(), frames: None }
    }

    /// Whether a length is counted in milliseconds, as the field's name says.
    pub(super) fn in_milliseconds(&self) -> bool {
        self.setting == "duration" && self.fields.iter().any(|field| field.ends_with("_ms"))
    }

    /// The fields, for people.
    pub(super) fn shown(&self) -> String {
        let unit = match (self.frames.is_some(), self.in_milliseconds()) {
            (true, _) => " (in frames)",
            (false, true) => " (in milliseconds)",
            (false, false) => "",
        };
        format!("{}{unit}", self.fields.join(" and "))
    }
}

/// The settings that fields carry, at most one field for each.
pub(super) fn guess(kind: Kind, model: &str, fields: &[&Field]) -> Vec<Guess> {
    let mut found: Vec<Guess> = Vec::new();
    for (setting, known) in names::SETTINGS {
        // Beside a text that is spoken, a prompt says how.
        let known = if kind == Kind::Speech && setting == "prompt" { &names::SPOKEN[..] } else { known };
        let mut named = known.iter().filter_map(|name| fields.iter().find(|field| field.name == *name));
        found.extend(named.find(|field| fits(setting, field)).map(|field| Guess::of(setting, field)));
    }
    let has = |found: &[Guess], setting: &str| found.iter().any(|guess| guess.setting == setting);
    if !has(&found, "resolution") {
        found.extend(fields.iter().find_map(|field| mode(model, field)));
    }
    if !has(&found, "duration") {
        let has_fps = found.iter().find(|guess| guess.setting == "fps").map(|guess| guess.fields[0].clone());
        let fps = fields.iter().find(|field| Some(field.name) == has_fps.as_deref());
        let counted = names::FRAMES.iter().find_map(|name| fields.iter().find(|field| field.name == *name));
        found.extend(counted.and_then(|field| in_frames(field, fps.copied())));
    }
    found.extend(size(fields));
    found
}

/// Whether a field is of the form that a setting can have.
fn fits(setting: &str, field: &Field) -> bool {
    let listed = field.values();
    let texts: Vec<&str> = listed.iter().filter_map(|value| value.as_str()).collect();
    match setting {
        "prompt" | "negative_prompt" => field.is_free_text() && !field.is_file(),
        "seed" | "outputs" => field.is("integer"),
        "duration" => match listed.is_empty() {
            true => field.is_number(),
            false => listed.iter().all(|value| is_length(value)),
        },
        "aspect_ratio" => {
            !texts.is_empty() && texts.iter().all(|text| is_ratio(text)) || listed.is_empty() && field.is("string")
        }
        "resolution" => !listed.is_empty() || field.is("string"),
        "audio" => field.is("boolean"),
        "fps" => field.is_number(),
        _ => false,
    }
}

/// `5`, `"5"`, `"5s"`, `"auto"`.
fn is_length(value: &Value) -> bool {
    match value {
        Value::Number(_) => true,
        Value::String(text) => text == "auto" || text.strip_suffix('s').unwrap_or(text).parse::<f64>().is_ok(),
        _ => false,
    }
}

/// `16:9`, or a word for what the model makes of it.
fn is_ratio(text: &str) -> bool {
    let number = |part: &str| part.parse::<f64>().is_ok_and(|number| number > 0.0);
    text.split_once(':').is_some_and(|(width, height)| number(width) && number(height))
        || ["auto", "adaptive"].contains(&text)
        || !text.contains(':')
}

/// Kling says a resolution by what it calls a mode.
fn mode(model: &str, field: &Field) -> Option<Guess> {
    let values = field.values();
    let value = |names: &[&str]| {
        let found = values.iter().filter_map(|value| value.as_str()).find(|value| names.contains(value));
        found.map(str::to_owned)
    };
    if field.name != "mode" || !model.contains("kling") {
        return None;
    }
    let known = [("720p", value(&["std", "standard"])), ("1080p", value(&["pro"])), ("4k", value(&["4k"]))];
    let known: Vec<_> = known.into_iter().filter_map(|(ours, theirs)| Some((ours, theirs?))).collect();
    (known.len() == values.len() && values.len() > 1).then(|| Guess { values: known, ..Guess::of("resolution", field) })
}

/// A length counted in frames, where the rate is known.
fn in_frames(field: &Field, fps: Option<&Field>) -> Option<Guess> {
    let default = |field: &Field| field.default().and_then(Value::as_f64);
    let fixed = match fps {
        Some(_) => None,
        None => Some(documented_rate(field.description())?),
    };
    // Without a rate of its own an order could not say how long it is.
    let rate = fixed.or_else(|| fps.and_then(default)).filter(|rate| *rate > 0.0)?;
    // A video of five seconds at sixteen frames a second has 80 frames for most, and 81 for those that count the first picture.
    let extra = match default(field) {
        Some(frames) if frames % rate != 0.0 => u32::from((frames - 1.0) % rate == 0.0 || (frames - 1.0) % 8.0 == 0.0),
        _ => 0,
    };
    Some(Guess { frames: Some(Frames { fps: fixed, extra }), ..Guess::of("duration", field) })
}

/// The rate of `at 24 fps`, in a description.
fn documented_rate(text: &str) -> Option<f64> {
    let text = text.to_ascii_lowercase();
    let before = ["fps", "frames per second"].iter().find_map(|words| text.split_once(words))?.0.trim_end();
    let digits = before.rfind(|c: char| !c.is_ascii_digit()).map_or(before, |at| &before[at + 1..]);
    digits.parse().ok().filter(|rate| (1.0..=120.0).contains(rate))
}

/// A size in one field, or in two.
fn size(fields: &[&Field]) -> Option<Guess> {
    let named = |name: &str| fields.iter().find(|field| field.name == name);
    let is_size = |field: &&&Field| {
        let object = |name: &str| {
            let mut branches = field::branches(field.schema).into_iter();
            branches.any(|node| node.get("properties").is_some_and(|of| of.get(name).is_some()))
        };
        object("width") && object("height") || !field.values().is_empty() && field.is("string")
    };
    if let Some(field) = names::SIZES.iter().filter_map(|name| named(name)).find(is_size) {
        return Some(Guess::of("size", field));
    }
    let (width, height) = (named("width")?, named("height")?);
    let fields = vec![width.name.to_owned(), height.name.to_owned()];
    (width.is_number() && height.is_number()).then(|| Guess { fields, ..Guess::of("size", width) })
}
