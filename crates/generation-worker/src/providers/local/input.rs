//! What can be asked of the built-in provider: its fields, read from the input that an order has.
//!
//! Invariant: a field is honoured or refused, never dropped and never rounded to an allowed value. All that is wrong is said at
//! one time.

use serde_json::{Map, Value};

use super::size::{self, SHAPES, Size};

/// The fields of videos and of stills.
const COMMON: &[&str] =
    &["kind", "prompt", "negative_prompt", "seed", "aspect_ratio", "resolution", "outputs", "references"];
/// Those of videos alone.
const FILMS: &[&str] = &["duration", "fps", "audio", "first_frame", "last_frame"];
/// That of stills alone.
const STILLS: &[&str] = &["size"];

/// Frames a second.
const RATES: [i64; 5] = [6, 12, 24, 25, 30];
/// The longest prompt, in characters.
const MAX_CHARACTERS: usize = 20_000;
/// The highest number of outputs, and of references.
const MAX_FILES: usize = 4;
/// The edges of a still, in pixels.
const EDGES: std::ops::RangeInclusive<u64> = 64..=2_048;

/// An order of a sketch, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SketchInput {
    pub(super) prompt: String,
    pub(super) negative_prompt: String,
    pub(super) seed: i64,
    pub(super) size: Size,
    pub(super) outputs: usize,
    /// Nothing for a still.
    pub(super) film: Option<FilmInput>,
    /// The name of each picture to go by, where the order says one; else its file has to be there.
    pub(super) references: Vec<Option<String>>,
}

/// The part of an order that only a video has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FilmInput {
    pub(super) frames: usize,
    /// Frames a second.
    pub(super) rate: usize,
    pub(super) audio: bool,
    pub(super) first_frame: bool,
    pub(super) last_frame: bool,
}

impl SketchInput {
    /// Reads the fields of a provider's input. A file's field holds `null` or its name; the file itself comes apart.
    ///
    /// # Errors
    /// One sentence that names every field that is unknown, of a wrong type, or out of its range, with what it may be.
    pub fn parse(input: &Map<String, Value>) -> Result<Self, String> {
        let mut fields = Fields { input, wrong: Vec::new() };
        let kind = fields.read("kind", "video or image", |value| value.as_str().filter(is_kind)).unwrap_or("video");
        let is_still = kind == "image";
        fields.refuse_unknown(is_still);

        let text =
            |value: &Value| value.as_str().filter(|text| text.chars().count() <= MAX_CHARACTERS).map(str::to_owned);
        let text_rule = format!("a text of at most {MAX_CHARACTERS} characters");
        let prompt = fields.read("prompt", &text_rule, text);
        if fields.get("prompt").is_none() {
            fields.wrong.push("prompt: it is required".to_owned());
        }
        let negative_prompt = fields.read("negative_prompt", &text_rule, text).unwrap_or_default();
        let seed = fields.read("seed", "a whole number of 64 bits", whole).unwrap_or_default();
        let outputs = fields.read("outputs", "a whole number from 1 to 4", count).unwrap_or(1);
        let size = fields.size(is_still);
        let film = (!is_still).then(|| fields.film());
        let references = fields.references();
        if !fields.wrong.is_empty() {
            return Err(fields.wrong.join("; "));
        }
        Ok(Self { prompt: prompt.unwrap_or_default(), negative_prompt, seed, size, outputs, film, references })
    }

    /// The seed of one of the outputs.
    pub(super) fn seed_of(&self, take: usize) -> i64 {
        self.seed.wrapping_add(take as i64)
    }

    /// The JSON pointers of the files that may be there, and whether each has to be.
    pub(super) fn files(&self) -> Vec<(String, bool)> {
        let film = self.film.as_ref();
        let frames = [
            ("/first_frame", film.is_some_and(|film| film.first_frame)),
            ("/last_frame", film.is_some_and(|film| film.last_frame)),
        ];
        let frames = frames.into_iter().filter(|(_, asked)| *asked).map(|(pointer, _)| (pointer.to_owned(), true));
        let references = self.references.iter().enumerate().map(|(n, name)| (reference(n), name.is_none()));
        frames.chain(references).collect()
    }
}

/// The JSON pointer of a reference.
pub(super) fn reference(number: usize) -> String {
    format!("/references/{number}")
}

/// The fields while they are read, and what is wrong with them.
struct Fields<'a> {
    input: &'a Map<String, Value>,
    wrong: Vec<String>,
}

impl<'a> Fields<'a> {
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.input.get(name).filter(|value| !value.is_null())
    }

    /// Reads a field; nothing where it is absent, or wrong by `rule`.
    fn read<T>(&mut self, name: &str, rule: &str, read: impl FnOnce(&'a Value) -> Option<T>) -> Option<T> {
        let read = read(self.get(name)?);
        if read.is_none() {
            self.wrong.push(format!("{name}: it has to be {rule}"));
        }
        read
    }

    fn refuse_unknown(&mut self, is_still: bool) {
        let [own, other] = if is_still { [STILLS, FILMS] } else { [FILMS, STILLS] };
        for name in self.input.keys().map(String::as_str) {
            if other.contains(&name) {
                self.wrong.push(format!("{name}: {} has none", if is_still { "a still" } else { "a video" }));
            } else if !COMMON.contains(&name) && !own.contains(&name) {
                self.wrong.push(format!("{name}: there is no such field"));
            }
        }
    }

    fn size(&mut self, is_still: bool) -> Size {
        let resolutions = if is_still { &size::STILLS } else { size::FILMS };
        let shape = one_of("aspect_ratio", &SHAPES, self).unwrap_or([16, 9]);
        let short = one_of("resolution", resolutions, self).unwrap_or(360);
        let size = if is_still {
            let rule = format!("WxH, or a width and a height, from {} to {} pixels", EDGES.start(), EDGES.end());
            self.read("size", &rule, exact_size)
        } else {
            None
        };
        if size.is_some() && (self.get("aspect_ratio").is_some() || self.get("resolution").is_some()) {
            self.wrong
                .push("size: it takes the place of aspect_ratio and resolution, and cannot be beside them".into());
        }
        size.unwrap_or_else(|| Size::of_shape(shape, short))
    }

    fn film(&mut self) -> FilmInput {
        let rate =
            self.read("fps", "one of 6, 12, 24, 25, 30", |value| whole(value).filter(|rate| RATES.contains(rate)));
        let rate = rate.map_or(24, |rate| rate as usize);
        let seconds = |value: &Value| value.as_f64().filter(|seconds| (1.0..=30.0).contains(seconds));
        let seconds = self.read("duration", "a number of seconds from 1 to 30", seconds).unwrap_or(3.0);
        FilmInput {
            frames: (seconds * rate as f64).round() as usize,
            rate,
            audio: self.read("audio", "true or false", Value::as_bool).unwrap_or_default(),
            first_frame: self.is_file("first_frame"),
            last_frame: self.is_file("last_frame"),
        }
    }

    /// Whether a file is in this place; there it is `null` or a name.
    fn is_file(&mut self, name: &str) -> bool {
        self.read(name, "a file", Value::as_str);
        self.input.contains_key(name)
    }

    fn references(&mut self) -> Vec<Option<String>> {
        let name = |value: &Value| match value {
            Value::Null => Some(None),
            other => other.as_str().map(|name| Some(name.to_owned())),
        };
        let names = |value: &Value| {
            let files = value.as_array().filter(|files| files.len() <= MAX_FILES)?;
            files.iter().map(name).collect::<Option<Vec<_>>>()
        };
        self.read("references", "at most four files", names).unwrap_or_default()
    }
}

fn is_kind(kind: &&str) -> bool {
    matches!(*kind, "video" | "image")
}

/// One of a table's values, by its name.
fn one_of<T: Copy>(name: &str, table: &[(&str, T)], fields: &mut Fields<'_>) -> Option<T> {
    let names: Vec<_> = table.iter().map(|(name, _)| *name).collect();
    fields.read(name, &format!("one of {}", names.join(", ")), |value| {
        let asked = value.as_str()?;
        table.iter().find(|(name, _)| *name == asked).map(|(_, value)| *value)
    })
}

/// A whole number, also one that is written as a fraction.
fn whole(value: &Value) -> Option<i64> {
    let exact = |number: f64| (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64);
    value.as_i64().or_else(|| value.as_f64().and_then(exact))
}

fn count(value: &Value) -> Option<usize> {
    whole(value).and_then(|number| usize::try_from(number).ok()).filter(|number| (1..=MAX_FILES).contains(number))
}

fn exact_size(value: &Value) -> Option<Size> {
    let [width, height] = match value {
        Value::String(text) => {
            let (width, height) = text.split_once('x')?;
            [width.parse().ok()?, height.parse().ok()?]
        }
        Value::Object(edges) if edges.len() == 2 => {
            ["width", "height"].map(|name| edges.get(name).and_then(whole)).map(Option::unwrap_or_default)
        }
        _ => return None,
    };
    let edge = |edge: i64| u64::try_from(edge).ok().filter(|edge| EDGES.contains(edge)).map(|edge| edge as usize);
    Some(Size { width: edge(width)?, height: edge(height)? })
}
