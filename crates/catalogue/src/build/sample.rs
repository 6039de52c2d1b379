//! The least that a model takes: an order of it must be in order, and its price is that of the settings left out.

use serde_json::{Map, Value};

use crate::input::Medium;
use crate::model::Model;
use crate::schema::{Limits, Property, enumerated, is_type};
use crate::setting_name::SettingName;
use crate::settings::Open;
use crate::slot::Slot;
use crate::tree::Report;
use crate::{Asset, Input};

/// How deep the parts of a required parameter may lie in each other.
const MAX_DEPTH: usize = 8;

/// The model with its sample and the terms of that, or faults.
pub(super) fn with_sample(mut model: Model, report: &mut Report<'_, '_>) -> Option<Model> {
    let input = sample(&model);
    match model.resolve(&input, 1, &|name| Some(asset(name.to_owned(), "image/png", None))) {
        Ok(resolved) => {
            model.default_terms = resolved.terms;
            model.sample = input;
            Some(model)
        }
        Err(violations) => {
            for violation in violations {
                report.fault("", format!("refuses an order with its own defaults: {violation}"));
            }
            None
        }
    }
}

fn sample(model: &Model) -> Input {
    let mut input = Input::default();
    for (name, setting) in &model.settings {
        if setting.default.is_some() {
            continue;
        }
        // What must be given, and what the price depends on, has to have a value.
        let wanted = setting.required || model.is_priced(*name);
        match (&setting.open, setting.texts().next()) {
            _ if !wanted || *name == SettingName::Seed => {}
            (_, Some(text)) => name.put(text, &mut input),
            (Some(Open::Text { min, .. }), None) => name.put(&"a".repeat((*min).max(1) as usize), &mut input),
            (Some(Open::Ratio), None) => name.put("16:9", &mut input),
            (Some(Open::Size { .. }), None) => name.put("1024x1024", &mut input),
            (Some(open @ (Open::Number { .. } | Open::Frames(_))), None) => {
                let (min, max, _) = open.range(Some(24.0));
                let number = min.or(max).unwrap_or(1.0);
                let unit = if *name == SettingName::Duration { "s" } else { "" };
                name.put(&format!("{number}{unit}"), &mut input);
            }
            (None, None) => {}
        }
    }
    for slot in &model.slots {
        let files = (0..slot.min).map(|_| Medium { role: slot.role, asset: fitting(slot) });
        input.media.extend(files);
    }
    let needed = |field: &&str| model.schema.requires(field) || model.prices_ask_for(field);
    for field in model.parameters().filter(needed) {
        let Some(property) = model.schema.property(field) else { continue };
        if property.default().is_none() {
            let at = format!("/{}", crate::schema::escape(field));
            input.parameters.insert(field.to_owned(), value(model, &property, &at, MAX_DEPTH));
        }
    }
    input
}

fn asset(name: String, mime_type: &str, limits: Option<&Slot>) -> Asset {
    let extension = mime_type.rsplit('/').next().unwrap_or_default().to_owned();
    let limits = limits.map(|slot| slot.limits.clone()).unwrap_or_default();
    let side = |min: Option<u32>, max: Option<u32>| 1_024.min(max.unwrap_or(u32::MAX)).max(min.unwrap_or(1));
    let (mut width, mut height) =
        (side(limits.min_width, limits.max_width), side(limits.min_height, limits.max_height));
    if let Some(min) = limits.min_aspect_ratio.filter(|min| f64::from(width) < min * f64::from(height)) {
        width = (min * f64::from(height)).ceil() as u32;
    }
    if let Some(max) = limits.max_aspect_ratio.filter(|max| f64::from(width) > max * f64::from(height)) {
        height = (f64::from(width) / max).ceil() as u32;
    }
    let seconds = limits.min_seconds.unwrap_or(1.0).max(1.0).min(limits.max_seconds.unwrap_or(f64::MAX));
    let duration_ms = if mime_type.starts_with("image/") { 0 } else { (seconds * 1_000.0).ceil() as u64 };
    if mime_type.starts_with("audio/") {
        (width, height) = (0, 0);
    }
    Asset { name, extension, mime_type: mime_type.to_owned(), size_bytes: 1, width, height, duration_ms }
}

fn fitting(slot: &Slot) -> Asset {
    let mime_type = slot.types.first().map_or("image/png", String::as_str);
    asset(format!("assets/{}", "0".repeat(64)), mime_type, Some(slot))
}

/// A value that a schema admits, of those without patterns.
fn value(model: &Model, property: &Property<'_>, at: &str, depth: usize) -> Value {
    let Some(of) = property.alternatives().first().filter(|_| depth > 0) else { return Value::Null };
    if let Some(first) = enumerated(of).and_then(|values| values.first().copied()) {
        return first.clone();
    }
    let count = |name: &str| of.get(name).and_then(Value::as_u64).unwrap_or_default();
    if is_type(of, "string") {
        let file = model.files.iter().any(|pattern| pattern == at);
        let length = usize::try_from(count("minLength")).unwrap_or_default();
        return Value::String(if file { format!("assets/{}", "0".repeat(64)) } else { "a".repeat(length.max(1)) });
    }
    if is_type(of, "boolean") {
        return Value::Bool(false);
    }
    if is_type(of, "integer") || is_type(of, "number") {
        let limits = Limits::of(of);
        let number = limits.min.or(limits.max.map(|max| max.min(1.0))).unwrap_or(1.0);
        return if number.fract() == 0.0 { Value::from(number as i64) } else { Value::from(number) };
    }
    if is_type(of, "array") {
        let item = || property.items().map_or(Value::Null, |of| value(model, &of, &format!("{at}/*"), depth - 1));
        return (0..count("minItems")).map(|_| item()).collect();
    }
    let required = of.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let fields: Map<String, Value> = required
        .filter_map(|name| {
            let at = format!("{at}/{}", crate::schema::escape(name));
            Some((name.to_owned(), value(model, &property.field(name)?, &at, depth - 1)))
        })
        .collect();
    Value::Object(fields)
}
