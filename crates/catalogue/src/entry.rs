//! An entry of a catalogue file as it is written, each field read for itself, so that one fault does not hide the next.
//!
//! Whether the fields fit the model's schema, and each other, is for whoever makes a model of them.

mod checks;
mod date;
mod fields;
mod form;

use std::collections::BTreeMap;

use domain::provider::Provider;
use serde_json::Value;

use crate::Fault;
use crate::price::{Decimal, Rule};
use crate::schema::shown;
use crate::setting_name::SettingName;
use crate::tree::{Report, Tree};
use fields::Fields;

pub(crate) use checks::pointer_is_valid;
pub use date::Date;
pub(crate) use form::{
    Cost, Entry, MAX_PROMPT_CHARACTERS, Mapping, MediaEntry, Output, PLAIN_PROMPT_CHARACTERS, Sizes, Unit,
};
pub use form::{FileLimits, LOCAL_SKETCH, LOCAL_STILL};

/// The shipped models that a file takes by their ids, in its order.
pub(crate) fn used(tree: &Tree, faults: &mut Vec<Fault>) -> Vec<String> {
    Fields::new(Report::new(tree, "", "", faults), &tree.root).optional("use").unwrap_or_default()
}

/// Reads every entry of a file. Those that cannot be read are left out, with a fault.
pub(crate) fn read(tree: &Tree, faults: &mut Vec<Fault>) -> Vec<Entry> {
    let mut file = Fields::new(Report::new(tree, "", "", faults), &tree.root);
    let lists = ["model", "models"].map(|name| (name, file.count(name)));
    let uses = file.raw("use").is_some();
    file.end();
    if !uses && lists.iter().all(|(_, count)| count.is_none()) {
        faults.push(Fault {
            line: 1,
            model: String::new(),
            field: "model".to_owned(),
            message: "must be a list".to_owned(),
        });
    }
    let mut entries = Vec::new();
    for (name, count) in lists {
        for n in 0..count.unwrap_or_default() {
            let at = format!("/{name}/{n}");
            let value = tree.root.pointer(&at).unwrap_or(&Value::Null);
            let id = value.get("id").and_then(Value::as_str).unwrap_or_default();
            let called = if id.is_empty() { format!("{name}[{n}]") } else { id.to_owned() };
            let mut fields = Fields::new(Report::new(tree, &at, &called, faults), value);
            entries.extend(entry(&mut fields, at, value));
        }
    }
    entries
}

/// The fields of an entry that decide what its provider is sent. The schema is one too; it counts by its text.
const SENT: [&str; 9] = ["provider", "model", "map", "media", "fixed", "hide", "files", "sizes", "seed"];

fn entry(fields: &mut Fields<'_, '_>, at: String, written: &Value) -> Option<Entry> {
    let id: Option<String> = fields.required("id");
    let provider: Option<String> = fields.required("provider");
    let provider = provider.and_then(|name| match Provider::parse(&name) {
        Some(provider) => Some(provider),
        None => {
            let names = Provider::ALL.map(Provider::as_str).join(", ");
            fields.fault("provider", format!("must be one of {names}"));
            None
        }
    });
    let start_deadline = fields.checked("start_deadline", checks::deadline);
    let total_deadline = fields.checked("total_deadline", checks::deadline).unwrap_or(checks::TOTAL_DEADLINE);
    let read = Entry {
        at,
        id: id.clone().unwrap_or_default(),
        sent: SENT.iter().filter_map(|name| Some(((*name).to_owned(), written.get(name)?.clone()))).collect(),
        aliases: fields.optional("aliases").unwrap_or_default(),
        label: fields.optional("label").unwrap_or_default(),
        provider: provider.unwrap_or(Provider::Local),
        remote_name: fields.optional("model").unwrap_or_default(),
        kind: fields.optional("kind"),
        source: fields.optional("source").unwrap_or_default(),
        checked: fields.checked("checked", Date::parse),
        retire: fields.checked("retire", Date::parse),
        schema: fields.optional("schema"),
        map: mappings(fields),
        media: fields.list("media"),
        fixed: fields.optional("fixed").unwrap_or_default(),
        hide: fields.optional("hide").unwrap_or_default(),
        files: fields.optional("files").unwrap_or_default(),
        output: output(fields),
        price: rules(fields, "price"),
        cost: cost(fields),
        markup: markup(fields),
        sizes: fields.optional("sizes").unwrap_or_default(),
        rules: fields.list("rule"),
        max_attempts: fields.optional("max_attempts").unwrap_or(3),
        // Whoever gives the end alone means that the start may take as long.
        start_deadline: start_deadline.unwrap_or(checks::START_DEADLINE.min(total_deadline)),
        total_deadline,
        max_run: fields.checked("max_run", checks::deadline),
        refusals: fields.optional("refusals").unwrap_or_default(),
        moderation: fields.list("moderation"),
        prompt_characters: fields.optional("prompt_characters"),
        price_micros: fields.optional("price_micros"),
        reference_assets: fields.optional("reference_assets"),
        seed: fields.optional("seed"),
    };
    fields.end();
    // What is left of an entry without these two would only bring faults that are none.
    (id.is_some() && provider.is_some()).then(|| {
        checks::check(&read, fields);
        read
    })
}

fn mappings(fields: &mut Fields<'_, '_>) -> BTreeMap<SettingName, Mapping> {
    let mut all = BTreeMap::new();
    for (key, value) in fields.table("map") {
        let Some(name) = SettingName::parse(&key) else {
            let names = SettingName::ALL.map(SettingName::as_str).join(", ");
            fields.fault(&format!("map.{key}"), format!("must be one of {names}"));
            continue;
        };
        let mapping = match value {
            Value::String(to) => Some(Mapping { to: Some(to), ..Mapping::default() }),
            other => fields.value(&format!("map.{key}"), other),
        };
        all.extend(mapping.map(|mapping: Mapping| (name, mapping)));
    }
    all
}

/// `output = { at, kinds }`, or the pointer alone.
fn output(fields: &mut Fields<'_, '_>) -> Output {
    match fields.raw("output") {
        None => Output::default(),
        Some(Value::String(at)) => Output { at: Some(at), kinds: Vec::new() },
        Some(other) => fields.value("output", other).unwrap_or_default(),
    }
}

fn markup(fields: &mut Fields<'_, '_>) -> Option<Decimal> {
    let value = fields.raw("markup")?;
    fields.value("markup", if value.is_number() { Value::String(shown(&value)) } else { value })
}

/// `cost = "price"`, or rules as a price has them.
fn cost(fields: &mut Fields<'_, '_>) -> Cost {
    match fields.raw("cost") {
        None => Cost::Unknown,
        Some(Value::String(word)) if word == "price" => Cost::Price,
        Some(Value::Array(_)) => Cost::Rules(rules(fields, "cost")),
        Some(_) => {
            fields.fault("cost", "must be \"price\", or a list as a price is one");
            Cost::Unknown
        }
    }
}

/// The parts of a price or a cost; the values of a row's conditions become texts: `true`, `8`, and of a duration `8s`.
fn rules(fields: &mut Fields<'_, '_>, field: &str) -> Vec<Rule> {
    let texts = |name: &str, value: &Value| -> Value {
        let text = shown(value);
        let seconds = name == SettingName::Duration.as_str() && text.parse::<f64>().is_ok();
        Value::String(if seconds { format!("{text}s") } else { text })
    };
    fields.list_of(field, |part| {
        numbers(part, &["step", "minimum", "max_seconds", "fps"]);
        for row in part.get_mut("rows").and_then(Value::as_array_mut).into_iter().flatten() {
            numbers(row, &["credits"]);
            for (name, values) in row.get_mut("when").and_then(Value::as_object_mut).into_iter().flatten() {
                *values = match &*values {
                    Value::Array(several) => several.iter().map(|value| texts(name, value)).collect(),
                    one => Value::Array(vec![texts(name, one)]),
                };
            }
        }
    })
}

/// A number may be written as one: what it is in decimal is what its text says.
fn numbers(table: &mut Value, names: &[&str]) {
    for name in names {
        if let Some(value) = table.get_mut(*name).filter(|value| value.is_number()) {
            *value = Value::String(shown(value));
        }
    }
}
