//! What a setting may be, in words.

use super::{Open, Pixels, Setting};
use crate::schema::{Limits, list};
use crate::setting_name::{AUTO, SettingName};

impl Setting {
    /// What it may be: `one of 4, 6, 8 seconds, or auto`.
    #[must_use]
    pub fn allowed(&self, fps: Option<f64>) -> String {
        let in_seconds = self.name == SettingName::Duration;
        let mut texts: Vec<String> = self.texts().map(str::to_owned).collect();
        if let Some(frames) = self.in_frames() {
            texts.extend(frames.listed_texts(fps));
        }
        if in_seconds {
            texts.iter_mut().for_each(|text| text.truncate(text.trim_end_matches('s').len()));
        }
        let unit = if in_seconds { " seconds" } else { "" };
        let mut all = Vec::new();
        if !texts.is_empty() {
            all.push(format!("{}{unit}", list(&texts)));
        }
        all.extend(self.open.as_ref().and_then(|open| self.open_words(open, fps)));
        if self.can_be_auto() {
            all.push(AUTO.to_owned());
        }
        all.join(", or ")
    }

    fn open_words(&self, open: &Open, fps: Option<f64>) -> Option<String> {
        Some(match open {
            Open::Frames(frames) if !frames.listed.is_empty() => return None,
            Open::Number { .. } | Open::Frames(_) => self.number_words(open, fps),
            Open::Text { max, min: 0 } => format!("at most {max} characters"),
            Open::Text { max, min } => format!("{min} to {max} characters"),
            Open::Ratio => "two numbers such as 16:9".to_owned(),
            Open::Size { form, width, height } => {
                let (width, height) = (bounds("width", width), bounds("height", height));
                let example = if *form == Pixels::Object { "1280x720" } else { "1024x1024" };
                format!("a size such as {example}{width}{height}")
            }
        })
    }

    fn number_words(&self, open: &Open, fps: Option<f64>) -> String {
        let (min, max, step) = open.range(fps);
        let (what, unit) = match self.name {
            SettingName::Duration => ("", " seconds"),
            _ if step == Some(1.0) => ("a whole number ", ""),
            _ => ("a number ", ""),
        };
        let range = match (min.map(short), max.map(short)) {
            (Some(min), Some(max)) => format!("{what}from {min} to {max}{unit}"),
            (Some(min), None) => format!("{what}of at least {min}{unit}"),
            (None, Some(max)) => format!("{what}of at most {max}{unit}"),
            (None, None) if self.name == SettingName::Duration => "a number of seconds".to_owned(),
            (None, None) => what.trim_end().to_owned(),
        };
        match (self.name, open, step) {
            (SettingName::Duration, Open::Frames(frames), Some(_)) => match frames.fps(fps) {
                Some(fps) => format!("{range}, in whole frames of {fps} a second"),
                None => range,
            },
            (SettingName::Duration, _, Some(1.0)) => format!("{range}, whole ones"),
            (_, _, Some(step)) if step != 1.0 => format!("{range} in steps of {}", short(step)),
            _ => range,
        }
    }
}

/// At most three places; what is too large for that has none.
fn short(number: f64) -> String {
    if number.fract() == 0.0 {
        return number.to_string();
    }
    ((number * 1_000.0).round() / 1_000.0).to_string()
}

fn bounds(what: &str, limits: &Limits) -> String {
    let step = limits.step.map_or(String::new(), |step| format!(" in steps of {step}"));
    match (limits.min, limits.max) {
        (Some(min), Some(max)) => format!(", {what} from {min} to {max}{step}"),
        (Some(min), None) => format!(", {what} at least {min}{step}"),
        (None, Some(max)) => format!(", {what} at most {max}{step}"),
        (None, None) => String::new(),
    }
}
