//! OpenRouter's `pricing_skus` as rows of a price.
//!
//! The keys hide their conditions in their names, and which of several that fit wins is said nowhere. Invariant: of two that fit,
//! one with more conditions that include the other's wins, else the dearer, so that a price is never too low for what is billed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::{Decimal, Per, Row, Rule};

/// One key, understood.
struct Sku {
    per: Per,
    /// By setting or role, the value for which it holds.
    when: BTreeMap<&'static str, String>,
    credits: Decimal,
}

/// The rules, and a sentence for each key that none tells.
pub(super) fn rules(entry: &Value) -> (Vec<Rule>, Vec<String>) {
    let has = |key: &str, value: &str| strings(entry.get(key)).contains(&value);
    let offered = Offered {
        resolutions: strings(entry.get("supported_resolutions")),
        first_frame: has("supported_frame_images", "first_frame"),
        audio: entry.get("generate_audio") == Some(&Value::Bool(true)),
    };
    let mut skus = Vec::new();
    let mut minimum = None;
    let mut notes = Vec::new();
    for (key, value) in entry.get("pricing_skus").and_then(Value::as_object).into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match (key.as_str(), parse(key, &text, &offered)) {
            ("minimum_cents_per_generation", _) if scaled(&text, -2).is_some() => minimum = scaled(&text, -2),
            (_, Some(Some(sku))) => skus.push(sku),
            (_, Some(None)) => {}
            ("reference_images", None) => {
                notes.push(format!("its price {key} = {text} is for references, which its list has no field for"));
            }
            (_, None) => notes.push(format!("its price {key} = {text} is not understood; write it as rows by hand")),
        }
    }
    let mut rules = Vec::new();
    for per in [Per::Second, Per::Kilotoken, Per::InputImage] {
        let of: Vec<&Sku> = skus.iter().filter(|sku| sku.per == per).collect();
        if !of.is_empty() {
            rules.push(rule(per, rows(&of, &offered), minimum.take_if(|_| per != Per::InputImage)));
        }
    }
    (rules, notes)
}

fn rule(per: Per, rows: Vec<Row>, minimum: Option<Decimal>) -> Rule {
    // What OpenRouter counts in tokens is made at 24 frames a second, and billed with the frame that ends it.
    let fps = (per == Per::Kilotoken).then(|| "24".parse().ok()).flatten();
    let extra_frames = u32::from(per == Per::Kilotoken);
    Rule { per, rows, step: None, minimum, of: None, most: None, fps, extra_frames }
}

fn strings(value: Option<&Value>) -> Vec<&str> {
    value.and_then(Value::as_array).into_iter().flatten().take(20).filter_map(Value::as_str).collect()
}

/// A decimal times a power of ten, exact.
fn scaled(text: &str, places: i32) -> Option<Decimal> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{fraction}");
    let point = i32::try_from(whole.len()).ok()? + places;
    let moved = if let Ok(point) = usize::try_from(point) {
        let digits = format!("{digits:0<point$}");
        let (whole, fraction) = digits.split_at(point);
        format!("{}.{}", if whole.is_empty() { "0" } else { whole }, if fraction.is_empty() { "0" } else { fraction })
    } else {
        format!("0.{}{digits}", "0".repeat(usize::try_from(-point).ok()?))
    };
    moved.parse().ok()
}

/// What a key says it is for, beside the resolution: the words in it, and the condition.
const CONDITIONS: [(&str, &str, &str); 3] = [
    ("_without_audio", "audio", "false"),
    ("_with_audio", "audio", "true"),
    ("_with_video_input", "source", "present"),
];

/// What a key counts: the words in it, and the power of ten that its number is for.
const BASES: [(&str, Per, i32); 6] = [
    ("video_output_second", Per::Second, 0),
    ("duration_seconds", Per::Second, 0),
    ("second_output", Per::Second, 0),
    ("second_video_continuation", Per::Second, 0),
    ("video_tokens", Per::Kilotoken, 3),
    ("image_input", Per::InputImage, 0),
];

/// A key as a price; `Some(None)` where it is for what the model is not offered with, `None` where it is not understood.
fn parse(key: &str, text: &str, offered: &Offered) -> Option<Option<Sku>> {
    let mut when = BTreeMap::new();
    let (mut rest, mut places) = (key, 0);
    if let Some(after) = rest.strip_prefix("cents_per_") {
        (rest, places) = (after, -2);
    }
    for (prefix, present) in [("text_to_video_", "absent"), ("image_to_video_", "present")] {
        if let Some(after) = rest.strip_prefix(prefix) {
            when.insert("first_frame", present.to_owned());
            rest = after;
        }
    }
    let (base, per, thousand) = BASES.into_iter().find(|(base, _, _)| rest.starts_with(base))?;
    rest = &rest[base.len()..];
    if base == "second_video_continuation" {
        when.insert("source", "present".to_owned());
    }
    while !rest.is_empty() {
        if let Some((word, name, value)) = CONDITIONS.into_iter().find(|(word, _, _)| rest.starts_with(word)) {
            when.insert(name, value.to_owned());
            rest = &rest[word.len()..];
            continue;
        }
        let word = rest.strip_prefix('_')?.split('_').next()?;
        let (number, unit) = word.split_at_checked(word.len().checked_sub(1)?)?;
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) || !["p", "k"].contains(&unit) {
            return None;
        }
        let known = offered.resolutions.iter().find(|known| known.eq_ignore_ascii_case(word));
        // A resolution that the model does not have is no condition that could hold.
        when.insert("resolution", known.map_or_else(|| word.to_owned(), |known| (*known).to_owned()));
        rest = &rest[word.len() + 1..];
    }
    let credits = scaled(text, places + thousand)?;
    let holds = when.iter().all(|(name, value)| offered.values(name).contains(&value.as_str()));
    when.retain(|name, _| offered.values(name).len() > 1);
    Some(holds.then_some(Sku { per, when, credits }))
}

/// What an order can say.
struct Offered<'a> {
    resolutions: Vec<&'a str>,
    first_frame: bool,
    audio: bool,
}

impl<'a> Offered<'a> {
    /// The values that a condition can be about.
    fn values(&self, name: &str) -> Vec<&'a str> {
        match name {
            "resolution" => self.resolutions.clone(),
            "audio" if self.audio => vec!["false", "true"],
            "audio" => vec!["false"],
            "first_frame" if self.first_frame => vec!["absent", "present"],
            // A video is no input here: its list has no field for one.
            _ => vec!["absent"],
        }
    }
}

/// Every combination of what the keys depend on, with the price of each.
fn rows(skus: &[&Sku], offered: &Offered) -> Vec<Row> {
    let names: BTreeSet<&str> = skus.iter().flat_map(|sku| sku.when.keys().copied()).collect();
    let mut combinations: Vec<BTreeMap<&str, &str>> = vec![BTreeMap::new()];
    for name in &names {
        let mut next = Vec::new();
        for combination in &combinations {
            for value in offered.values(name) {
                let mut with = combination.clone();
                with.insert(*name, value);
                next.push(with);
            }
        }
        combinations = next;
    }
    let mut rows: Vec<Row> = Vec::new();
    for combination in combinations {
        let holds = |sku: &&&Sku| sku.when.iter().all(|(name, value)| combination.get(name) == Some(&value.as_str()));
        let fitting: Vec<&&Sku> = skus.iter().filter(holds).collect();
        let closest = fitting.iter().filter(|sku| !fitting.iter().any(|other| includes(other, sku)));
        let Some(credits) = closest.map(|sku| sku.credits).max() else { continue };
        let when = combination.iter().map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()])).collect();
        rows.push(Row { when, credits });
    }
    while let Some((one, other)) = alike(&rows) {
        let other = rows.remove(other);
        for (name, values) in other.when {
            let own = rows[one].when.entry(name).or_default();
            own.extend(values.into_iter().filter(|value| !own.contains(value)).collect::<Vec<_>>());
        }
    }
    for row in &mut rows {
        row.when.retain(|name, values| values.len() < offered.values(name).len());
    }
    rows
}

/// Whether one key has every condition of another, and more.
fn includes(one: &Sku, other: &Sku) -> bool {
    one.when.len() > other.when.len() && other.when.iter().all(|(name, value)| one.when.get(name) == Some(value))
}

/// The places of two rows of one price that differ in a single condition.
fn alike(rows: &[Row]) -> Option<(usize, usize)> {
    let different =
        |one: &Row, other: &Row| one.when.iter().filter(|(name, values)| other.when.get(*name) != Some(values)).count();
    let pairs = (0..rows.len()).flat_map(|one| (one + 1..rows.len()).map(move |other| (one, other)));
    pairs
        .into_iter()
        .find(|(one, other)| rows[*one].credits == rows[*other].credits && different(&rows[*one], &rows[*other]) == 1)
}
