//! What a model takes, by the flags of `rushes generate`, and what it costs.

use std::fmt::Write as _;

use proto::generations::v1::media::Role;
use proto::models::v1::Model;
use proto::models::v1::model::{MediaSlot, Price, Setting};
use serde_json::Value;

use crate::show::{self, flag};

/// A model on several lines.
pub(super) fn text(model: &Model) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut out, model);
    out
}

fn write(out: &mut String, model: &Model) -> std::fmt::Result {
    writeln!(out, "{} by {}: {}", model.name, model.provider, model.kind)?;
    if !model.aliases.is_empty() {
        writeln!(out, "  also {}", model.aliases.join(", "))?;
    }
    let limits = model.input_limits.unwrap_or_default();
    if limits.prompt_characters > 0 {
        writeln!(out, "  --prompt  up to {} characters", limits.prompt_characters)?;
    }
    if limits.seed {
        writeln!(out, "  --seed  a whole number")?;
    }
    model.settings.iter().try_for_each(|setting| write_setting(out, setting))?;
    model.media.iter().try_for_each(|slot| write_slot(out, slot))?;
    write_parameters(out, &model.parameters_schema)?;
    writeln!(out, "  costs {} credits as it is", show::credits(model.price_micros))?;
    model.prices.iter().try_for_each(|price| write_price(out, price))?;
    if !model.source.is_empty() {
        writeln!(out, "  by {} ({})", model.source, model.checked)?;
    }
    Ok(())
}

fn write_setting(out: &mut String, setting: &Setting) -> std::fmt::Result {
    let values = match (setting.values.is_empty(), setting.min, setting.max) {
        (false, ..) => setting.values.join(", "),
        (true, Some(min), Some(max)) => format!("{min} to {max}"),
        (true, Some(min), None) => format!("at least {min}"),
        (true, None, Some(max)) => format!("at most {max}"),
        (true, None, None) if setting.max_characters > 0 => format!("up to {} characters", setting.max_characters),
        (true, None, None) => "any".to_owned(),
    };
    let default = match (&*setting.default_value, setting.required) {
        ("", true) => ", required".to_owned(),
        ("", false) => String::new(),
        (default, _) => format!(" (else {default})"),
    };
    writeln!(out, "  {}  {values}{default}", flag(&setting.name))
}

fn write_slot(out: &mut String, slot: &MediaSlot) -> std::fmt::Result {
    let flag = match slot.role() {
        Role::FirstFrame => "--first-frame",
        Role::LastFrame => "--last-frame",
        Role::Reference => "--reference",
        Role::Source => "--source",
        Role::Audio => "--sound",
        Role::Mask => "--mask",
        Role::Unspecified => return Ok(()),
    };
    let count = match (slot.min, slot.max) {
        (1, 1) => "required".to_owned(),
        (0, 1) => "optional".to_owned(),
        (min, max) => format!("{min} to {max}"),
    };
    let size = if slot.max_bytes > 0 { format!(", up to {}", show::bytes(slot.max_bytes)) } else { String::new() };
    writeln!(out, "  {flag}  {count}: {}{size}", slot.mime_types.join(", "))
}

fn write_parameters(out: &mut String, schema: &str) -> std::fmt::Result {
    let schema: Value = serde_json::from_str(schema).unwrap_or_default();
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Ok(()) };
    for (name, property) in properties {
        let what = property.get("description").or_else(|| property.get("title")).and_then(Value::as_str);
        let values = property.get("enum").map(Value::to_string).unwrap_or_default();
        let of = property.get("type").map(Value::to_string).unwrap_or_default().replace('"', "");
        let default = property.get("default").map(|value| format!(" (else {value})")).unwrap_or_default();
        writeln!(out, "  {}  {of} {values}{default}  {}", flag(name), show::short(what.unwrap_or_default(), 100))?;
    }
    Ok(())
}

fn write_price(out: &mut String, price: &Price) -> std::fmt::Result {
    for row in &price.rows {
        let when: Vec<_> =
            row.when.iter().map(|condition| format!("{} {}", condition.name, condition.values.join(" or "))).collect();
        let when = if when.is_empty() { String::new() } else { format!("  where {}", when.join(", ")) };
        writeln!(out, "    {} for each {}{when}", row.credits, price.per.replace('_', " "))?;
    }
    Ok(())
}
