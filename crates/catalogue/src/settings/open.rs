//! Values that no list has: a number in limits, a text, a number of frames, a size.

use serde_json::{Number, Value, json};

use crate::schema::Limits;
use crate::setting_name::{SettingName, seconds_text};

/// Values that no list has.
#[derive(Clone, Debug)]
pub(crate) enum Open {
    /// A number; a duration in seconds, or in milliseconds.
    Number { limits: Limits, unit: f64, written: Written },
    /// A text of so many characters.
    Text { min: u32, max: u32 },
    /// `16:9`, of any two numbers.
    Ratio,
    /// A duration as a number of frames.
    Frames(Frames),
    /// A width and a height.
    Size { form: Pixels, width: Limits, height: Limits },
}

/// How a number is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    Number,
    /// A text with this behind the number.
    Text(String),
}

/// A duration as a number of frames.
#[derive(Clone, Debug)]
pub(crate) struct Frames {
    pub(crate) limits: Limits,
    /// The numbers that may be, where they are listed.
    pub(crate) listed: Vec<i64>,
    pub(crate) written: Written,
    pub(crate) extra: u32,
    pub(crate) rate: Rate,
}

/// Where the frames a second come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rate {
    Fixed(f64),
    /// The setting `fps`.
    Setting,
}

/// How a size is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pixels {
    /// `{"width": 1280, "height": 720}`
    Object,
    /// Two fields.
    Pair,
    /// A text with this between the numbers.
    Text(String),
}

impl Written {
    fn value(&self, number: f64) -> Value {
        match self {
            Self::Number => number_value(number),
            Self::Text(suffix) => Value::String(format!("{number}{suffix}")),
        }
    }

    fn number(&self, value: &Value) -> Option<f64> {
        match self {
            Self::Number => value.as_f64(),
            Self::Text(suffix) => value.as_str()?.strip_suffix(suffix.as_str())?.parse().ok(),
        }
    }
}

fn number_value(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() < 9e15 {
        Value::Number(Number::from(number as i64))
    } else {
        Number::from_f64(number).map_or(Value::Null, Value::Number)
    }
}

/// A plain decimal number, without an exponent, `inf` or `NaN`.
fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-'));
    text.parse().ok().filter(|_| plain)
}

/// The numbers of `1280x720`.
pub(crate) fn pixels(text: &str) -> Option<(u32, u32)> {
    let (width, height) = text.split_once('x')?;
    let number = |text: &str| {
        let plain = !text.starts_with('0') && text.len() <= 6 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u32>().ok().filter(|_| plain)
    };
    Some((number(width)?, number(height)?))
}

impl Open {
    pub(super) fn encode(&self, name: SettingName, text: &str, fps: Option<f64>) -> Option<Vec<Value>> {
        let one = match self {
            // A seed has more digits than a double.
            Self::Number { limits, written: Written::Number, .. } if limits.integer && name == SettingName::Seed => {
                let seed: i64 = text.parse().ok()?;
                limits.admit(seed as f64).then(|| Value::Number(Number::from(seed)))?
            }
            Self::Number { limits, unit, written } => {
                let text = if name == SettingName::Duration { text.strip_suffix('s')? } else { text };
                // Milliseconds are the finest that a request says: 0.1 s × 1000 is 100 of them and nothing near it.
                let number = (decimal(text)? * unit * 1e6).round() / 1e6;
                limits.admit(number).then(|| written.value(number))?
            }
            Self::Text { min, max } => {
                let characters = u32::try_from(text.chars().count()).ok()?;
                (*min..=*max).contains(&characters).then(|| Value::String(text.to_owned()))?
            }
            Self::Ratio => {
                let (width, height) = text.split_once(':')?;
                let right = [width, height].iter().all(|part| decimal(part).is_some_and(|number| number > 0.0));
                right.then(|| Value::String(text.to_owned()))?
            }
            Self::Frames(frames) => frames.encode(text, fps)?,
            Self::Size { form, width, height } => {
                let size = pixels(text)?;
                if !width.admit(f64::from(size.0)) || !height.admit(f64::from(size.1)) {
                    return None;
                }
                match form {
                    Pixels::Object => json!({"width": size.0, "height": size.1}),
                    Pixels::Pair => return Some(vec![Value::from(size.0), Value::from(size.1)]),
                    Pixels::Text(between) => Value::String(format!("{}{between}{}", size.0, size.1)),
                }
            }
        };
        Some(vec![one])
    }

    pub(super) fn decode(&self, name: SettingName, values: &[&Value], fps: Option<f64>) -> Option<String> {
        let text = match (self, values) {
            (Self::Number { .. }, [value]) if name == SettingName::Seed => value.as_i64()?.to_string(),
            (Self::Number { unit, written, .. }, [value]) => {
                let number = written.number(value)? / unit;
                if name == SettingName::Duration { format!("{number}s") } else { number.to_string() }
            }
            (Self::Text { .. } | Self::Ratio, [value]) => value.as_str()?.to_owned(),
            (Self::Frames(frames), [value]) => frames.text(frames.written.number(value)?, fps)?,
            (Self::Size { form: Pixels::Object, .. }, [value]) => {
                format!("{}x{}", value.get("width")?.as_f64()?, value.get("height")?.as_f64()?)
            }
            (Self::Size { form: Pixels::Text(between), .. }, [value]) => value.as_str()?.replacen(between, "x", 1),
            (Self::Size { form: Pixels::Pair, .. }, [width, height]) => {
                format!("{}x{}", width.as_f64()?, height.as_f64()?)
            }
            _ => return None,
        };
        // What the schema names as its default and does not admit is no default.
        self.encode(name, &text, fps)?;
        Some(text)
    }

    /// The least and the greatest number in our unit, and how far numbers lie apart.
    pub(crate) fn range(&self, fps: Option<f64>) -> (Option<f64>, Option<f64>, Option<f64>) {
        match self {
            Self::Number { limits, unit, .. } => {
                let step = limits.step.or_else(|| limits.integer.then_some(1.0));
                (limits.min.map(|min| min / unit), limits.max.map(|max| max / unit), step.map(|step| step / unit))
            }
            Self::Frames(frames) => {
                let Some(fps) = frames.fps(fps) else { return (None, None, None) };
                let seconds = |frames_count: f64| (frames_count - f64::from(frames.extra)) / fps;
                let listed = |pick: fn(f64, f64) -> f64| frames.listed.iter().map(|n| *n as f64).reduce(pick);
                let (min, max) =
                    (frames.limits.min.or_else(|| listed(f64::min)), frames.limits.max.or_else(|| listed(f64::max)));
                (min.map(seconds), max.map(seconds), Some(frames.limits.step.unwrap_or(1.0) / fps))
            }
            Self::Text { .. } | Self::Ratio | Self::Size { .. } => (None, None, None),
        }
    }
}

impl Frames {
    pub(crate) fn fps(&self, setting: Option<f64>) -> Option<f64> {
        match self.rate {
            Rate::Fixed(fps) => Some(fps),
            Rate::Setting => setting,
        }
        .filter(|fps| *fps > 0.0)
    }

    /// The number of frames of a duration, if it has one: that whose time, to the millisecond, it is.
    pub(crate) fn count(&self, text: &str, fps: Option<f64>) -> Option<i64> {
        // One frame alone is a picture, and no length of a video.
        let seconds = decimal(text.strip_suffix('s')?).filter(|seconds| *seconds > 0.0)?;
        let frames = (seconds * self.fps(fps)?).round() + f64::from(self.extra);
        let listed = self.listed.is_empty() || self.listed.contains(&(frames as i64));
        let exact = self.text(frames, fps)? == seconds_text((seconds * 1_000.0).round() as u64);
        (exact && listed && self.limits.admit(frames)).then_some(frames as i64)
    }

    fn encode(&self, text: &str, fps: Option<f64>) -> Option<Value> {
        self.count(text, fps).map(|frames| self.written.value(frames as f64))
    }

    /// The time of a number of frames, to the millisecond.
    fn text(&self, frames: f64, fps: Option<f64>) -> Option<String> {
        let ms = ((frames - f64::from(self.extra)) * 1_000.0 / self.fps(fps)?).round();
        (ms >= 0.0).then(|| seconds_text(ms as u64))
    }

    /// The times of the listed numbers.
    pub(crate) fn listed_texts(&self, fps: Option<f64>) -> Vec<String> {
        self.listed.iter().filter_map(|frames| self.text(*frames as f64, fps)).collect()
    }
}
