//! A place for files in a provider's input, and what may lie in it.

use serde_json::Value;

use crate::entry::FileLimits;
use crate::schema::escape;
use crate::{Asset, MediaKind, Role};

const IMAGES: [&str; 3] = ["image/jpeg", "image/png", "image/webp"];
const VIDEOS: [&str; 3] = ["video/mp4", "video/webm", "video/quicktime"];
const SOUNDS: [&str; 3] = ["audio/wav", "audio/mpeg", "audio/mp4"];

/// A place for files with one role.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// What the files are for.
    pub role: Role,
    /// The provider's field.
    pub field: String,
    /// Whether the field is a list.
    pub list: bool,
    /// What is put into the list for a file, where that is more than its address. Several slots may share such a list.
    pub item: Option<Item>,
    /// How many there must be.
    pub min: u32,
    /// How many there may be.
    pub max: u32,
    /// The media types that it takes.
    pub types: Vec<String>,
    /// How a file may be given; empty: each that the provider takes.
    pub forms: Vec<String>,
    /// The limits of each file.
    pub limits: FileLimits,
}

/// What stands for a file in a list: an object with its address somewhere in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    template: Value,
    /// Where the address is, as a JSON pointer.
    at: String,
}

/// What stands for the address in an entry.
const FILE: &str = "{file}";

impl Item {
    /// Reads an entry's template; `None` unless it has one place for an address.
    pub(crate) fn parse(template: &Value) -> Option<Self> {
        let mut places = Vec::new();
        find(template, "", &mut places);
        match places.as_slice() {
            [at] if !at.is_empty() => Some(Self { template: template.clone(), at: at.clone() }),
            _ => None,
        }
    }

    /// The item without its address, and where that belongs.
    pub(crate) fn empty(&self) -> (Value, &str) {
        (self.template.clone(), &self.at)
    }
}

/// The places of `{file}` in a template.
fn find(value: &Value, at: &str, places: &mut Vec<String>) {
    match value {
        Value::String(text) if text == FILE => places.push(at.to_owned()),
        Value::Array(items) => items.iter().enumerate().for_each(|(n, item)| find(item, &format!("{at}/{n}"), places)),
        Value::Object(of) => of.iter().for_each(|(name, field)| find(field, &format!("{at}/{}", escape(name)), places)),
        _ => {}
    }
}

impl Slot {
    /// The media types of what an entry says: `image`, or `image/png`. Without a word: what the role, or the field's name, is for.
    pub(crate) fn types(said: &[String], role: Role, field: &str) -> Vec<String> {
        let by_name = |name: &str| field.contains(name);
        let of_role = match role {
            Role::Audio => MediaKind::Audio,
            Role::Source | Role::Reference | Role::Mask if by_name("video") => MediaKind::Video,
            Role::Reference if by_name("audio") => MediaKind::Audio,
            Role::Source if !by_name("image") => MediaKind::Video,
            _ => MediaKind::Image,
        };
        let said: Vec<&str> =
            if said.is_empty() { vec![of_role.as_str()] } else { said.iter().map(String::as_str).collect() };
        said.into_iter().flat_map(expand).collect()
    }

    /// What is wrong with a file of a right type, if anything.
    pub(crate) fn refuses(&self, asset: &Asset) -> Option<String> {
        let limits = &self.limits;
        let (width, height) = (asset.width, asset.height);
        let sized = width > 0 && height > 0;
        let ratio = f64::from(width) / f64::from(height.max(1));
        let seconds = asset.duration_ms as f64 / 1_000.0;
        let plays = asset.duration_ms > 0;
        if let Some(max) = limits.max_bytes.filter(|max| asset.size_bytes > *max) {
            return Some(format!("must have at most {max} bytes, and has {}", asset.size_bytes));
        }
        let too_small =
            limits.min_width.is_some_and(|min| width < min) || limits.min_height.is_some_and(|min| height < min);
        if sized && too_small {
            let (min_width, min_height) = (limits.min_width.unwrap_or(1), limits.min_height.unwrap_or(1));
            return Some(format!("must be at least {min_width}x{min_height} pixels, and is {width}x{height}"));
        }
        if let Some(max) = limits.max_width.filter(|max| sized && width > *max) {
            return Some(format!("must be at most {max} pixels wide, and is {width}x{height}"));
        }
        if let Some(max) = limits.max_height.filter(|max| sized && height > *max) {
            return Some(format!("must be at most {max} pixels high, and is {width}x{height}"));
        }
        if let Some(min) = limits.min_aspect_ratio.filter(|min| sized && ratio < *min) {
            return Some(format!("must be at least {min} times as wide as high, and is {width}x{height}"));
        }
        if let Some(max) = limits.max_aspect_ratio.filter(|max| sized && ratio > *max) {
            return Some(format!("must be at most {max} times as wide as high, and is {width}x{height}"));
        }
        if let Some(min) = limits.min_seconds.filter(|min| plays && seconds < *min) {
            return Some(format!("must play at least {min} seconds, and plays {seconds}"));
        }
        if let Some(max) = limits.max_seconds.filter(|max| plays && seconds > *max) {
            return Some(format!("must play at most {max} seconds, and plays {seconds}"));
        }
        None
    }
}

fn expand(said: &str) -> Vec<String> {
    let all: &[&str] = match said {
        "image" => &IMAGES,
        "video" => &VIDEOS,
        "audio" => &SOUNDS,
        one => &[one],
    };
    all.iter().map(|one| (*one).to_owned()).collect()
}

/// Whether an entry may name this media type.
pub(crate) fn type_is_known(said: &str) -> bool {
    matches!(said, "image" | "video" | "audio") || [IMAGES, VIDEOS, SOUNDS].iter().flatten().any(|one| *one == said)
}
