//! Orders of a model: one for each value that a document lists, and others by chance.

use fastrand::Rng;
use rushes_catalogue::{Input, Length, Medium, Model, SettingName};
use serde_json::{Map, Value};

use super::{Case, address};
use crate::{asset, lines};

/// What the provider is sent, with an address in the place of each file; or the violations, a line each.
pub(super) fn resolve(model: &Model, input: &Input) -> Result<Map<String, Value>, String> {
    let resolved = crate::resolve(model, input).map_err(|violations| lines(&violations))?;
    let mut order = Value::Object(resolved.order.input);
    for file in &resolved.order.files {
        *order.pointer_mut(&file.pointer).expect("the place of a file") = address();
    }
    match order {
        Value::Object(order) => Ok(order),
        _ => unreachable!("an object stays one"),
    }
}

/// For each listed value of each field that is offered: the field, the value, and the input that asks for it.
pub(super) fn each_listed(case: &Case, model: &Model) -> Vec<(String, Value, Input)> {
    let mut all = Vec::new();
    for (field, schema) in fields(case) {
        let Some(values) = schema.get("enum").and_then(Value::as_array) else { continue };
        for value in values.iter().filter(|value| !value.is_null()) {
            let mut input = model.sample().clone();
            if put(case, &mut input, field, value) {
                all.push((field.clone(), value.clone(), input));
            }
        }
    }
    all
}

/// For a length that is counted in frames: the field, its least, greatest and usual number, and the input that asks for each.
pub(super) fn in_frames(case: &Case, model: &Model) -> Vec<(String, Value, Input)> {
    let entry: toml::Table = toml::from_str(&case.imported.entry).expect("TOML");
    let Some(map) = entry["model"][0].get("map") else { return Vec::new() };
    let Some(duration) = map.get("duration").and_then(toml::Value::as_table) else { return Vec::new() };
    if duration.get("unit").and_then(toml::Value::as_str) != Some("frames") {
        return Vec::new();
    }
    let field = duration["to"].as_str().expect("a field");
    let schemas = &case.document.input["properties"];
    let fixed = duration.get("fps").and_then(|fps| fps.as_float().or(fps.as_integer().map(|fps| fps as f64)));
    let usual = || schemas[map.get("fps")?.as_str()?]["default"].as_f64();
    let fps = fixed.or_else(usual).expect("a rate");
    let extra = duration.get("extra_frames").and_then(toml::Value::as_integer).unwrap_or_default() as f64;
    let schema = &schemas[field];
    let numbers = ["minimum", "maximum", "default"].into_iter().filter_map(|name| schema.get(name));
    let listed = schema["enum"].as_array().into_iter().flatten();
    let case_of = |frames: &Value| {
        let count: f64 = frames.as_f64().or_else(|| frames.as_str()?.parse().ok())?;
        // A single frame is a picture, and no length.
        if count <= extra {
            return None;
        }
        let mut input = model.sample().clone();
        input.settings.fps = fixed.is_none().then_some(fps);
        input.settings.length = Some(Length::Milliseconds(((count - extra) * 1_000.0 / fps).round() as u64));
        Some((field.to_owned(), frames.clone(), input))
    };
    numbers.chain(listed).filter_map(case_of).collect()
}

fn fields(case: &Case) -> impl Iterator<Item = (&String, &Value)> {
    case.document.input["properties"].as_object().expect("fields").iter()
}

/// Asks for a value of the provider's field, in the terms of an input; `false` where the field is not offered as a value.
fn put(case: &Case, input: &mut Input, field: &str, value: &Value) -> bool {
    let report = &case.imported.report;
    if report.parameters.iter().any(|name| name == field) {
        input.parameters.insert(field.to_owned(), value.clone());
        return true;
    }
    let Some((setting, carried)) =
        report.mapped.iter().find(|(_, carried)| carried.split(' ').any(|name| name == field))
    else {
        return false;
    };
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let settings = &mut input.settings;
    match SettingName::parse(setting).expect("a setting") {
        SettingName::Prompt => input.prompt = text,
        SettingName::NegativePrompt => input.negative_prompt = Some(text),
        SettingName::Seed => input.seed = value.as_i64(),
        SettingName::Duration => {
            let Ok(number) = text.trim_end_matches('s').parse::<f64>() else {
                settings.length = Some(Length::Auto);
                return text == "auto";
            };
            // A length in frames is a time only with its rate.
            if carried.contains("frames") {
                return false;
            }
            settings.length = Some(Length::Milliseconds((number * 1_000.0).round() as u64));
        }
        SettingName::AspectRatio => {
            settings.aspect_ratio = Some(if text == "adaptive" { "auto".to_owned() } else { text });
        }
        SettingName::Resolution => settings.resolution = Some(text),
        SettingName::Size => settings.size = Some(text),
        SettingName::Audio => settings.audio = value.as_bool(),
        SettingName::Fps => settings.fps = value.as_f64(),
        SettingName::Outputs => settings.outputs = value.as_u64().and_then(|count| u32::try_from(count).ok()),
    }
    true
}

/// An input of some fields, with values that are mostly right.
pub(super) fn by_chance(case: &Case, model: &Model, chance: &mut Rng) -> Input {
    let mut input = model.sample().clone();
    for (field, schema) in fields(case) {
        if chance.u8(..) < 100 {
            let value = value(schema, chance);
            put(case, &mut input, field, &value);
        }
    }
    if let Some(fps) = input.settings.fps.or(Some(16.0)).filter(|_| chance.u8(..) < 60) {
        input.settings.length =
            Some(Length::Milliseconds((f64::from(chance.u16(1..200)) * 1_000.0 / fps).round() as u64));
    }
    for slot in &model.slots {
        if chance.bool() {
            continue;
        }
        let kind = slot.types.first().expect("a type");
        input.media.push(Medium { role: slot.role, asset: asset(chance.u8(0..4), kind) });
    }
    input
}

/// A value by a schema: of a list, at a limit, within it, and now and then beyond it.
fn value(schema: &Value, chance: &mut Rng) -> Value {
    let branches = ["anyOf", "oneOf"].iter().find_map(|keyword| schema.get(*keyword)?.as_array());
    if let Some(branches) = branches {
        return value(&branches[chance.usize(..branches.len())], chance);
    }
    if let Some(values) = schema["enum"].as_array() {
        return if chance.u8(..) < 8 { Value::from("nonsense") } else { values[chance.usize(..values.len())].clone() };
    }
    let limit = |name: &str| schema.get(name).and_then(Value::as_f64);
    let kind = match &schema["type"] {
        Value::Array(names) => names[0].as_str().unwrap_or_default(),
        name => name.as_str().unwrap_or_default(),
    };
    match kind {
        "boolean" => Value::Bool(chance.bool()),
        "integer" | "number" => {
            let min = limit("minimum").or(limit("exclusiveMinimum")).unwrap_or(0.0);
            let max = limit("maximum").or(limit("exclusiveMaximum")).unwrap_or(min + 100.0);
            let beyond = if chance.u8(..) < 8 { max.abs() + 1.0 } else { 0.0 };
            let number = min + (max - min) * f64::from(chance.u8(0..=4)) / 4.0 + beyond;
            if kind == "integer" { Value::from(number.round() as i64) } else { Value::from(number) }
        }
        "string" => {
            let length = limit("minLength").unwrap_or(1.0).max(1.0) as usize;
            Value::from("a".repeat(length))
        }
        "array" => {
            let min = limit("minItems").unwrap_or(0.0) as usize;
            let count = min + chance.usize(0..3);
            (0..count).map(|_| value(&schema["items"], chance)).collect()
        }
        "object" => {
            let required =
                |name: &str| schema["required"].as_array().is_some_and(|names| names.iter().any(|one| one == name));
            let fields = schema["properties"].as_object().into_iter().flatten();
            let mut all = Map::new();
            for (name, field) in fields {
                if required(name) && chance.u8(..) > 8 || chance.bool() {
                    all.insert(name.clone(), value(field, chance));
                }
            }
            if chance.u8(..) < 8 {
                all.insert("colour_of_the_sky".to_owned(), Value::from("green"));
            }
            Value::Object(all)
        }
        _ => Value::Null,
    }
}
