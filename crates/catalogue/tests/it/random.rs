//! Random inputs, made of nothing but what a model tells of itself.

use fastrand::Rng;
use rushes_catalogue::{Asset, Input, Length, Medium, Model, SettingDescription, SettingName};
use serde_json::{Map, Value};

use crate::asset;

/// Puts a setting's text into an input, as a client would.
pub(crate) fn put(input: &mut Input, name: SettingName, text: &str) {
    let settings = &mut input.settings;
    match name {
        SettingName::Prompt => text.clone_into(&mut input.prompt),
        SettingName::NegativePrompt => input.negative_prompt = Some(text.to_owned()),
        SettingName::Seed => input.seed = Some(text.parse().unwrap()),
        SettingName::Duration if text == "auto" => settings.length = Some(Length::Auto),
        SettingName::Duration => {
            let seconds: f64 = text.trim_end_matches('s').parse().unwrap();
            settings.length = Some(Length::Milliseconds((seconds * 1_000.0).round() as u64));
        }
        SettingName::AspectRatio => settings.aspect_ratio = Some(text.to_owned()),
        SettingName::Resolution => settings.resolution = Some(text.to_owned()),
        SettingName::Size => settings.size = Some(text.to_owned()),
        SettingName::Audio => settings.audio = Some(text.parse().unwrap()),
        SettingName::Fps => settings.fps = Some(text.parse().unwrap()),
        SettingName::Outputs => settings.outputs = Some(text.parse().unwrap()),
    }
}

fn number(description: &SettingDescription, rng: &mut Rng) -> f64 {
    let min = description.min.unwrap_or(if description.name == SettingName::Seed { 0.0 } else { 1.0 });
    let max = description.max.unwrap_or(min + 50.0);
    match description.step {
        Some(step) => min + step * f64::from(rng.u32(0..=((max - min) / step + 1e-9).floor().min(1e9) as u32)),
        None => min + ((max - min) * rng.f64() * 1_000.0).floor() / 1_000.0,
    }
}

/// One of the values that a description allows.
pub(crate) fn text(description: &SettingDescription, rng: &mut Rng) -> String {
    if !description.values.is_empty() && (description.max.is_none() || rng.bool()) {
        return rng.choice(&description.values).unwrap().clone();
    }
    match description.name {
        SettingName::Prompt | SettingName::NegativePrompt => {
            (0..rng.u32(20..60).min(description.max_characters)).map(|_| rng.char('a'..='ö')).collect()
        }
        SettingName::AspectRatio => "16:9".to_owned(),
        SettingName::Resolution => "720p".to_owned(),
        SettingName::Size if description.max.is_none() => "1024x1024".to_owned(),
        SettingName::Size => format!("{}x{}", number(description, rng), number(description, rng)),
        SettingName::Duration => format!("{}s", number(description, rng)),
        _ => number(description, rng).to_string(),
    }
}

/// A value that a schema of a parameter admits, if it is simple enough.
fn parameter(root: &Value, schema: &Value, rng: &mut Rng, depth: usize) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        return parameter(root, root.pointer(target.strip_prefix('#')?)?, rng, depth);
    }
    if let Some(inner) = ["anyOf", "oneOf", "allOf"].iter().find_map(|keyword| schema.get(*keyword)?.as_array()) {
        return parameter(root, rng.choice(inner)?, rng, depth);
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return rng.choice(values).cloned();
    }
    let of = |name: &str| schema.get(name).and_then(Value::as_f64);
    match schema.get("type")?.as_str()? {
        "boolean" => Some(Value::Bool(rng.bool())),
        "null" => Some(Value::Null),
        "integer" | "number" => {
            let min = of("minimum").or(of("exclusiveMinimum").map(|min| min + 1.0)).unwrap_or(1.0);
            let max = of("maximum").or(of("exclusiveMaximum").map(|max| max - 1.0)).unwrap_or(min + 10.0);
            let step = of("multipleOf").unwrap_or(1.0);
            let first = (min / step).ceil() * step;
            let number = first + step * f64::from(rng.u32(0..=((max - first) / step).clamp(0.0, 1e6) as u32));
            let number = (number * 1e6).round() / 1e6;
            // A client's numbers are doubles, of a struct.
            (number <= max).then(|| Value::from(number))
        }
        "string" if schema.get("pattern").is_some() => Some(Value::String(asset(rng.u8(0..4), "image/png").name)),
        "string" => {
            let (min, max) = (of("minLength").unwrap_or(0.0) as u32, of("maxLength").unwrap_or(40.0) as u32);
            Some(Value::String((0..rng.u32(min..=max.min(min + 40))).map(|_| rng.alphanumeric()).collect()))
        }
        "array" => {
            let (min, max) = (of("minItems").unwrap_or(0.0) as u32, of("maxItems").unwrap_or(3.0) as u32);
            let items = schema.get("items")?;
            let all = (0..rng.u32(min..=max.min(min + 3))).map(|_| parameter(root, items, rng, depth));
            let mut all: Vec<Value> = all.collect::<Option<_>>()?;
            if schema.get("uniqueItems").is_some() {
                let mut seen = Vec::new();
                all.retain(|item| {
                    !seen.contains(item) && {
                        seen.push(item.clone());
                        true
                    }
                });
            }
            (all.len() >= min as usize).then_some(Value::Array(all))
        }
        "object" => {
            let required: Vec<_> = schema.get("required").and_then(Value::as_array).into_iter().flatten().collect();
            let mut fields = Map::new();
            for (name, field) in schema.get("properties").and_then(Value::as_object)? {
                let needed = required.iter().any(|one| *one == name);
                if needed || rng.bool() {
                    match parameter(root, field, rng, depth) {
                        Some(value) => drop(fields.insert(name.clone(), value)),
                        None if needed => return None,
                        None => {}
                    }
                }
            }
            Some(Value::Object(fields))
        }
        _ => None,
    }
}

fn fitting(types: &[String], n: u8, rng: &mut Rng) -> Asset {
    asset(n % 4, rng.choice(types).unwrap())
}

/// An input of values that the model says it takes.
pub(crate) fn input(model: &Model, rng: &mut Rng) -> Input {
    let mut input = Input::default();
    let by_size = rng.bool();
    let descriptions = model.setting_descriptions();
    let both = |name: SettingName| descriptions.iter().any(|one| one.name == name);
    for description in &descriptions {
        let shape = [SettingName::AspectRatio, SettingName::Resolution].contains(&description.name);
        let size = description.name == SettingName::Size;
        let has_both = both(SettingName::Size) && (both(SettingName::AspectRatio) || both(SettingName::Resolution));
        if has_both && (shape && by_size || size && !by_size) {
            continue;
        }
        // Which length a number of frames has depends on the rate that is asked for.
        let frames = description.name == SettingName::Duration && both(SettingName::Fps) && !description.required;
        if description.required || (rng.bool() && !frames) {
            put(&mut input, description.name, &text(description, rng));
        }
    }
    for slot in &model.slots {
        for n in 0..rng.u32(slot.min..=slot.max) {
            let asset = fitting(&slot.types, n as u8, rng);
            input.media.push(Medium { role: slot.role, asset });
        }
    }
    let schema: Value = serde_json::from_str(&model.parameters_schema()).unwrap();
    let required: Vec<_> = schema["required"].as_array().unwrap().iter().collect();
    let properties = schema["properties"].as_object().unwrap();
    let chosen: Vec<&String> = properties.keys().filter(|_| rng.u8(0..4) == 0).collect();
    for (name, property) in properties {
        let needed = required.iter().any(|one| *one == name);
        // What is too much for chance is as the model's own sample has it.
        let mut value =
            || parameter(&schema, property, rng, 8).or_else(|| model.sample().parameters.get(name).cloned());
        if needed || chosen.contains(&name) {
            input.parameters.extend(value().map(|value| (name.clone(), value)));
        }
    }
    input
}
