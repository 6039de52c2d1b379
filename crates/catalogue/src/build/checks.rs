//! Whether the fields that an entry names are those of its schema, each with one owner.

use crate::entry::{Sizes, pointer_is_valid};
use crate::model::Model;
use crate::schema::{Property, shown};
use crate::setting_name::SettingName;
use crate::settings::pixels;
use crate::tree::Report;

pub(super) fn check(model: &Model, report: &mut Report<'_, '_>) {
    fields(model, report);
    for (n, pattern) in model.files.iter().enumerate() {
        if let Err(message) = file_place(model, pattern) {
            report.fault(&format!("files[{n}]"), message);
        }
    }
    sizes(model, report);
}

fn fields(model: &Model, report: &mut Report<'_, '_>) {
    let mapped = |field: &str| {
        model.settings.values().any(|setting| setting.fields.iter().any(|own| own == field))
            || model.slots.iter().any(|slot| slot.field == field)
    };
    for (n, slot) in model.slots.iter().enumerate() {
        if model.settings.values().any(|setting| setting.fields.contains(&slot.field)) {
            report.fault(&format!("media[{n}].to"), format!("names {:?}, which `map` names as well", slot.field));
        }
    }
    for (field, value) in &model.fixed {
        let place = format!("fixed.{field}");
        if model.schema.property(field).is_none() {
            report.fault(&place, "is not in the schema");
        } else if mapped(field) || model.hidden.contains(field) {
            report.fault(&place, "has another use as well: in `map`, `media` or `hide`");
        } else if !model.schema.admits(field, value) {
            report.fault(&place, format!("cannot be {}", shown(value)));
        }
    }
    for field in &model.hidden {
        match model.schema.property(field) {
            None => report.fault("hide", format!("names {field:?}, which the schema does not have")),
            Some(_) if mapped(field) => {
                report.fault("hide", format!("names {field:?}, which is offered by `map` or `media`"));
            }
            Some(property) if model.schema.requires(field) && property.default().is_none() => {
                let message = format!(
                    "names {field:?}, which the provider requires and which has no default: put it into `fixed`"
                );
                report.fault("hide", message);
            }
            Some(_) => {}
        }
    }
    for field in model.schema.required().filter(|field| model.schema.property(field).is_none()) {
        report.fault("schema", format!("requires {field:?}, which is none of its properties"));
    }
}

/// Whether a pattern leads to texts of a parameter.
fn file_place(model: &Model, pattern: &str) -> Result<(), String> {
    let missing = || format!("{pattern:?} leads to nothing in the schema");
    if !pointer_is_valid(pattern) {
        return Err("must be a JSON pointer, with * for each entry of a list: /elements/*/image_url".to_owned());
    }
    let mut parts = pattern.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~"));
    let first = parts.next().unwrap_or_default();
    let mut at: Property<'_> = model.schema.property(&first).ok_or_else(missing)?;
    if model.owner(&first).is_some() {
        return Err(format!("{pattern:?} is in {first:?}, which is no parameter"));
    }
    for part in parts {
        at = if part == "*" { at.items() } else { at.field(&part) }.ok_or_else(missing)?;
    }
    if at.has_type("string") { Ok(()) } else { Err(format!("{pattern:?} leads to what is no text")) }
}

fn sizes(model: &Model, report: &mut Report<'_, '_>) {
    let offers = |name: SettingName, text: &str| {
        model.setting(name).is_some_and(|setting| setting.texts().any(|one| one == text))
    };
    for (name, sizes) in &model.sizes {
        let place = format!("sizes.{name}");
        if !offers(SettingName::Resolution, name) && !offers(SettingName::Size, name) {
            report.fault(&place, "is neither a resolution nor a size of this model");
        }
        let all: Vec<&String> = match sizes {
            Sizes::Named(size) => vec![size],
            Sizes::ByRatio(sizes) => sizes.values().collect(),
        };
        for size in all.into_iter().filter(|size| pixels(size).is_none()) {
            report.fault(&place, format!("has {size:?}, and must have sizes such as 1280x720"));
        }
    }
}
