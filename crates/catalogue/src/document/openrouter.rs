//! OpenRouter's list of video models: what is supported becomes a schema of the fields of `POST /api/v1/videos`.

use domain::provider::Provider;
use serde_json::{Map, Value, json};

use super::{Document, Error};
use crate::price::openrouter;
use crate::{Per, Role, Row, Rule};

use std::collections::BTreeMap;

const EXPECTED: &str = "OpenRouter's list of video models";

pub(super) fn read(published: &Value, model: Option<&str>) -> Result<Document, Error> {
    let entry = one_of(published, model)?;
    let id = entry.get("id").and_then(Value::as_str).ok_or_else(|| missing("id"))?;
    let mut properties = Map::from_iter([("prompt".to_owned(), json!({"type": "string", "x-order": 0}))]);
    let mut notes = Vec::new();
    for (field, schema) in fields(entry) {
        let mut schema = schema;
        schema.insert("x-order".to_owned(), properties.len().into());
        properties.insert(field.to_owned(), schema.into());
    }
    let keys = |key: &str| strings(entry, key);
    if !keys("allowed_passthrough_parameters").is_empty() {
        let names = keys("allowed_passthrough_parameters").join(", ");
        notes.push(format!(
            "what the model's own provider takes beside these has no schema, and is not offered: {names}"
        ));
    }
    let prices = prices(entry, &mut notes);
    let input = json!({
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
        "required": ["prompt"],
    });
    let Value::Object(input) = input else { return Err(Error::NoFields) };
    Ok(Document {
        provider: Provider::OpenRouter,
        model: id.to_owned(),
        category: None,
        input,
        output: None,
        gaps: Vec::new(),
        prices,
        unit_price: None,
        notes,
    })
}

/// The fields that the model supports, each with its schema.
fn fields(entry: &Value) -> Vec<(&'static str, Map<String, Value>)> {
    let mut fields = Vec::new();
    let mut field = |name, schema: Value| {
        if let Value::Object(schema) = schema {
            fields.push((name, schema));
        }
    };
    let mut durations: Vec<&Value> =
        list(entry, "supported_durations").iter().filter(|value| value.is_number()).collect();
    durations.sort_by(|a, b| a.as_f64().unwrap_or(0.0).total_cmp(&b.as_f64().unwrap_or(0.0)));
    if !durations.is_empty() {
        let whole = durations.iter().all(|value| value.is_u64());
        field("duration", json!({"type": if whole { "integer" } else { "number" }, "enum": durations}));
    }
    for (name, key) in [
        ("aspect_ratio", "supported_aspect_ratios"),
        ("resolution", "supported_resolutions"),
        ("size", "supported_sizes"),
    ] {
        let values = strings(entry, key);
        if !values.is_empty() {
            field(name, json!({"type": "string", "enum": values}));
        }
    }
    if entry.get("generate_audio") == Some(&Value::Bool(true)) {
        field("generate_audio", json!({"type": "boolean"}));
    }
    if entry.get("seed") == Some(&Value::Bool(true)) {
        field("seed", json!({"type": "integer"}));
    }
    let frames = strings(entry, "supported_frame_images");
    if !frames.is_empty() {
        let picture = json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["type", "image_url", "frame_type"],
            "properties": {
                "type": {"type": "string", "enum": ["image_url"]},
                "image_url": {
                    "type": "object",
                    "additionalProperties": false,
                    "required": ["url"],
                    "properties": {"url": {"type": "string", "format": "uri"}},
                },
                "frame_type": {"type": "string", "enum": frames},
            },
        });
        field("frame_images", json!({"type": "array", "items": picture, "maxItems": frames.len()}));
    }
    let range = entry.get("upscale_factor").and_then(|range| range.get("min").zip(range.get("max")));
    if let Some((min, max)) = range.filter(|(min, max)| min.is_number() && max.is_number()) {
        field("upscale_factor", json!({"type": "number", "minimum": min, "maximum": max}));
    }
    let creativity: Vec<&Value> = list(entry, "creativity").iter().filter(|value| value.is_number()).collect();
    if !creativity.is_empty() {
        field("creativity", json!({"type": "number", "enum": creativity}));
    }
    fields
}

/// The price, without the rows for what cannot be ordered here.
fn prices(entry: &Value, notes: &mut Vec<String>) -> Vec<Rule> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let skus = entry.get("pricing_skus").and_then(Value::as_object).into_iter().flatten();
    let skus: BTreeMap<String, String> = skus.take(100).map(|(key, value)| (key.clone(), text(value))).collect();
    let resolutions: Vec<String> = strings(entry, "supported_resolutions").into_iter().map(str::to_owned).collect();
    let rules = match openrouter::rules(&skus, &resolutions) {
        Ok(rules) => rules,
        Err(error) => {
            notes.push(format!("its price is to be written by hand: {error}"));
            return Vec::new();
        }
    };
    let mut kept = Vec::new();
    for mut rule in rules {
        if rule.per == Per::InputImage && rule.of == Some(Role::Reference) {
            notes.push("it has a price for references, which its list has no field for".to_owned());
            continue;
        }
        rule.rows = rule.rows.into_iter().filter_map(|row| within_reach(row, entry)).collect();
        // What follows a row that always holds is never found.
        if let Some(last) = rule.rows.iter().position(|row| row.when.is_empty()) {
            rule.rows.truncate(last + 1);
        }
        if !rule.rows.is_empty() {
            kept.push(rule);
        }
    }
    kept
}

/// A row without the conditions that always hold; `None` where one of them never does.
fn within_reach(mut row: Row, entry: &Value) -> Option<Row> {
    let values = |name: &str| -> Vec<&str> {
        match name {
            "resolution" => strings(entry, "supported_resolutions"),
            "audio" if entry.get("generate_audio") == Some(&Value::Bool(true)) => vec!["false", "true"],
            "audio" => vec!["false"],
            "creativity" => vec!["0", "1"],
            "first_frame" if strings(entry, "supported_frame_images").contains(&"first_frame") => {
                vec!["absent", "present"]
            }
            // A video cannot be given: its list has no field for one.
            _ => vec!["absent"],
        }
    };
    let holds = |(name, any): (&String, &Vec<String>)| any.iter().any(|value| values(name).contains(&value.as_str()));
    let reachable = row.when.iter().all(holds);
    row.when.retain(|name, any| any.len() < values(name).len());
    reachable.then_some(row)
}

fn list<'a>(entry: &'a Value, key: &str) -> &'a [Value] {
    entry.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn strings<'a>(entry: &'a Value, key: &str) -> Vec<&'a str> {
    list(entry, key).iter().take(100).filter_map(Value::as_str).collect()
}

fn missing(what: &str) -> Error {
    Error::Form { expected: EXPECTED, missing: what.to_owned() }
}

/// The one that is meant of a list, which may be wrapped in `data`.
fn one_of<'a>(published: &'a Value, model: Option<&str>) -> Result<&'a Value, Error> {
    let list = published.get("data").unwrap_or(published);
    let id = |entry: &'a Value| entry.get("id").and_then(Value::as_str);
    match (list, model) {
        (Value::Array(entries), Some(model)) => {
            entries.iter().find(|entry| id(entry) == Some(model)).ok_or_else(|| Error::Other(model.to_owned()))
        }
        (Value::Array(entries), None) => match entries.as_slice() {
            [one] => Ok(one),
            [] => Err(missing("data")),
            several => Err(Error::Several(several.iter().take(40).filter_map(id).collect::<Vec<_>>().join(", "))),
        },
        (one @ Value::Object(_), model) => match model {
            Some(model) if id(one) != Some(model) => Err(Error::Other(model.to_owned())),
            _ => Ok(one),
        },
        _ => Err(missing("data")),
    }
}
