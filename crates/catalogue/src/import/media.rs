//! Places for files, by the names of fields.

use serde_json::Value;

use super::field::Field;
use super::names;
use crate::{Kind, MediaKind, Role};

/// A place for files.
pub(super) struct Slot {
    pub(super) role: Role,
    pub(super) to: String,
    /// What stands for a file in the list, where that is more than its address, as TOML.
    pub(super) item: Option<String>,
    /// What the files are, where the role does not say it.
    pub(super) types: Vec<MediaKind>,
    /// How many there must be, where a list says it.
    pub(super) min: Option<u64>,
    /// How many there may be, where it is a list that says it.
    pub(super) max: Option<u64>,
    /// The maximum size in bytes, and of pictures their sides and shapes: as an entry calls them.
    pub(super) limits: Vec<(&'static str, String)>,
}

/// The places for files, and the fields that are none. Of several fields with one role the best fitting has it; the others are
/// parameters with files in them.
pub(super) fn slots<'a, 'f>(kind: Kind, fields: &[&'a Field<'f>]) -> (Vec<Slot>, Vec<&'a Field<'f>>) {
    let named = |field: &Field| names::role(field.name, field.items().is_some()).filter(|_| field.is_file());
    let mut frames = Vec::new();
    let has_source = fields.iter().any(|field| field.required && named(field) == Some(Role::Source));
    let role = |field: &Field| match (named(field)?, kind) {
        (Role::FirstFrame, Kind::ImageToImage | Kind::Upscale) => Some(Role::Source),
        (Role::FirstFrame, Kind::TextToImage | Kind::Speech) => Some(Role::Reference),
        // Beside a video that must be given, a picture is what it is changed to.
        (Role::FirstFrame, _) if has_source => Some(Role::Reference),
        (role, _) => Some(role),
    };
    let mut best: Vec<(Role, &'a Field<'f>)> = Vec::new();
    for field in fields {
        frames.extend(self::frames(field));
        let Some(role) = role(field) else { continue };
        let rank = |field: &Field| (names::rank(field.name, role), field.items().is_none());
        // Pictures and videos with one role have a place each.
        match best.iter_mut().find(|(of, other)| *of == role && medium(role, other) == medium(role, field)) {
            Some((_, rival)) if rank(field) < rank(rival) => *rival = field,
            Some(_) => {}
            None => best.push((role, field)),
        }
    }
    best.sort_by_key(|(role, _)| *role);
    let mut slots: Vec<Slot> = best.into_iter().map(|(role, field)| slot(role, field)).collect();
    slots.extend(frames);
    let rest = fields.iter().filter(|field| slots.iter().all(|slot| slot.to != field.name)).copied().collect();
    (slots, rest)
}

/// The places in OpenRouter's list of frames, of which each item says which frame it is.
pub(super) fn frames(field: &Field) -> Vec<Slot> {
    let names = field.items().and_then(|items| items.get("properties")?.get("frame_type")?.get("enum")?.as_array());
    let known = [("first_frame", Role::FirstFrame), ("last_frame", Role::LastFrame)];
    let of = |(name, role): (&str, Role)| Slot {
        role,
        to: field.name.to_owned(),
        item: Some(format!(
            "{{ type = \"image_url\", frame_type = \"{name}\", image_url = {{ url = \"{{file}}\" }} }}"
        )),
        types: Vec::new(),
        min: None,
        max: None,
        limits: Vec::new(),
    };
    known
        .into_iter()
        .filter(|(name, _)| names.is_some_and(|names| names.iter().any(|one| one == name)))
        .map(of)
        .collect()
}

/// What files of a role usually are.
fn usual(role: Role) -> MediaKind {
    match role {
        Role::FirstFrame | Role::LastFrame | Role::Reference | Role::Mask => MediaKind::Image,
        Role::Source => MediaKind::Video,
        Role::Audio => MediaKind::Audio,
    }
}

/// What the files of a field are, by its name, else by its role.
fn medium(role: Role, field: &Field) -> MediaKind {
    let stem = names::stem(field.name);
    let named =
        [MediaKind::Video, MediaKind::Audio, MediaKind::Image].into_iter().find(|kind| stem.contains(kind.as_str()));
    named.unwrap_or_else(|| usual(role))
}

fn slot(role: Role, field: &Field) -> Slot {
    let types = Some(medium(role, field)).filter(|kind| *kind != usual(role)).into_iter().collect();
    let min = field.schema.get("minItems").and_then(Value::as_u64).filter(|min| *min > 1 && field.required);
    let list = field.schema.get("maxItems").and_then(Value::as_u64);
    let max = list.or_else(|| field.items().and_then(|_| up_to(field.description())));
    Slot { role, to: field.name.to_owned(), item: None, types, min, max, limits: limits(field) }
}

/// The number of `up to 4 images`.
fn up_to(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let after = ["up to ", "maximum of ", "at most ", "maximum "].iter().find_map(|words| text.split_once(words))?.1;
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok().filter(|max| (1..=100).contains(max))
}

/// What the document says of the files: fal's numbers, or the same in the description.
fn limits(field: &Field) -> Vec<(&'static str, String)> {
    const NUMBERS: [(&str, &str); 9] = [
        ("max_file_size", "max_bytes"),
        ("min_width", "min_width"),
        ("min_height", "min_height"),
        ("max_width", "max_width"),
        ("max_height", "max_height"),
        ("min_aspect_ratio", "min_aspect_ratio"),
        ("max_aspect_ratio", "max_aspect_ratio"),
        ("min_duration", "min_seconds"),
        ("max_duration", "max_seconds"),
    ];
    let of = field.items().and_then(|items| items.get("x-limits")).or_else(|| field.schema.get("x-limits"));
    let mut limits = Vec::new();
    for (theirs, ours) in NUMBERS {
        let Some(number) = of.and_then(|of| of.get(theirs)).and_then(Value::as_f64) else { continue };
        let whole = !ours.ends_with("ratio") && !ours.ends_with("seconds");
        if number > 0.0 && number < 1e12 {
            limits.push((ours, if whole { format!("{number:.0}") } else { decimal(number) }));
        }
    }
    if !limits.iter().any(|(name, _)| *name == "max_bytes")
        && let Some(bytes) = megabytes(field.description())
    {
        limits.push(("max_bytes", bytes.to_string()));
    }
    limits
}

/// A number with a point, as TOML's floats have it.
fn decimal(number: f64) -> String {
    if number.fract() == 0.0 { format!("{number:.1}") } else { number.to_string() }
}

/// The bytes of `Max file size: 10.0MB`.
fn megabytes(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let after = text.split_once("file size: ").or_else(|| text.split_once("file size is "))?.1;
    let number: String = after.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    let unit = after[number.len()..].trim_start();
    let number: f64 = number.parse().ok().filter(|number| *number > 0.0 && *number < 10_000.0)?;
    unit.starts_with("mb").then_some((number * 1_000_000.0) as u64)
}
