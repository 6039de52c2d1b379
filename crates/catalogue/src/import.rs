//! From a provider's document to an entry of the catalogue, and the schema beside it.
//!
//! The map is guessed by the names that providers give to the same things; a person reads the entry before it is used. Invariant:
//! each field of the document is mapped, a place for files, a parameter, or hidden with its reason; what is none of these, and what
//! the document does not say, is a line of the report and never left out.

mod draft;
mod field;
mod kind;
mod media;
mod names;
mod output;
mod settings;
mod toml;

use serde_json::Value;

use crate::document::{Document, Open};
use crate::tree::Tree;
use crate::{Fault, Format, Kind, Role};
use draft::Draft;
use field::Field;
pub use output::Output;

/// Where a schema's file keeps what a unit cost at its import.
pub const UNIT_PRICE: &str = "x-rushes-unit-price";

/// What an entry is to be called, and what it says of its origin.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The entry's id; made from the model's name where it is not given.
    pub id: Option<String>,
    /// The day of the import, as `2026-11-28`.
    pub checked: String,
    /// The page that describes the model; the provider's own where it is not given.
    pub source: Option<String>,
}

/// A model as it was imported.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The entry's id.
    pub id: String,
    /// Where the schema belongs, beside the catalogue file: `schemas/fal/veo-3.1.json`.
    pub schema_path: String,
    /// The schema's file.
    pub schema: String,
    /// The entry, as TOML.
    pub entry: String,
    /// What was made of each field.
    pub report: Report,
}

/// What became of the fields of a document.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// What the model does.
    pub kind: Option<Kind>,
    /// Common fields, with the provider's field and how it is carried.
    pub mapped: Vec<(&'static str, String)>,
    /// Places for files: the role and the field.
    pub media: Vec<(Role, String)>,
    /// Places for files within parameters, as pointers with `*`.
    pub files: Vec<String>,
    /// What only this model has.
    pub parameters: Vec<String>,
    /// What is not offered, and why.
    pub hidden: Vec<(String, String)>,
    /// What is left to do before the entry can be used.
    pub todo: Vec<String>,
    /// What else should be known.
    pub notes: Vec<String>,
    /// Why the model cannot be offered as it is: a field that must be given is not described.
    pub lost: Vec<String>,
}

impl Report {
    /// Whether each field has its place.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.lost.is_empty()
    }
}

/// Makes an entry of a document.
#[must_use]
pub fn import(document: &Document, options: &Options) -> Imported {
    let id = options.id.clone().unwrap_or_else(|| id_of(&document.model));
    let fields = field::of(document);
    let kind = kind::guess(document, &fields);
    let mut report = Report { kind: Some(kind), notes: document.notes.clone(), ..Report::default() };

    let hidden: Vec<(String, String)> =
        fields.iter().filter_map(|field| Some((field.name.to_owned(), field.hidden(document)?))).collect();
    let shown: Vec<&Field> = fields.iter().filter(|field| hidden.iter().all(|(name, _)| name != field.name)).collect();
    let settings = settings::guess(kind, &document.model, &shown);
    let carried = |field: &Field| settings.iter().any(|guess| guess.fields.iter().any(|name| name == field.name));
    let rest: Vec<&Field> = shown.into_iter().filter(|field| !carried(field)).collect();
    let (media, rest) = media::slots(kind, &rest);
    let mut files = Vec::new();
    for field in &rest {
        field.files(&mut files);
    }
    for field in fields.iter().filter(|field| field.required) {
        for gap in document.gaps_of(field.name).filter(|gap| gap.open != Open::Default) {
            report.lost.push(format!("{} must be given, and {gap}", field.name));
        }
        if let Some((name, why)) = hidden.iter().find(|(name, _)| name == field.name) {
            report.lost.push(format!("{name} must be given, and is hidden: {why}"));
        }
    }
    report.notes.extend(document.gaps.iter().map(ToString::to_string));
    report.mapped = settings.iter().map(|guess| (guess.setting, guess.shown())).collect();
    report.media = media.iter().map(|slot| (slot.role, slot.to.clone())).collect();
    report.parameters = rest.iter().map(|field| field.name.to_owned()).collect();
    report.files.clone_from(&files);
    report.hidden.clone_from(&hidden);

    let schema_path = format!("schemas/{}/{id}.json", document.provider.as_str());
    let source = options.source.clone().unwrap_or_else(|| source_of(document));
    let output = Output::guess(document, kind);
    if document.prices.is_empty() {
        report
            .todo
            .push(format!("the price: write [[model.price]] rows from {source}; without one the entry does not load"));
    }
    if output.kinds.is_empty() && document.output.as_ref().is_some_and(|result| result.get("properties").is_some()) {
        report.lost.push("its result has no video, picture or sound".to_owned());
    } else if output.kinds.is_empty() {
        report.todo.push("the output: its document does not say what is made; write output = { at, kinds }".to_owned());
    }
    let checked = options.checked.as_str();
    let moderation = output::moderation(document);
    let draft =
        Draft { id, document, kind, schema_path, checked, source, settings, media, files, hidden, output, moderation };
    let entry = toml::entry(&draft);
    let mut schema = document.schema();
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("x-rushes-source".to_owned(), draft.source.clone().into());
        schema.insert("x-rushes-checked".to_owned(), options.checked.clone().into());
        if let Some(price) = &document.unit_price {
            schema.insert(UNIT_PRICE.to_owned(), price.clone().into());
        }
    }
    let Draft { id, schema_path, .. } = draft;
    Imported { id, schema_path, schema: pretty(&schema), entry, report }
}

/// The ids of a catalogue file: of its entries, and of the shipped models that it uses; as far as they can be read.
///
/// # Errors
/// When it is neither TOML nor JSON.
pub fn ids(format: Format, text: &str) -> Result<Vec<String>, Vec<Fault>> {
    let tree = Tree::parse(format, text)?;
    let entries = ["model", "models"].into_iter().filter_map(|name| tree.root.get(name)?.as_array()).flatten();
    let used = tree.root.get("use").and_then(Value::as_array).into_iter().flatten();
    let ids = entries.filter_map(|entry| entry.get("id")).chain(used);
    Ok(ids.filter_map(Value::as_str).map(str::to_owned).collect())
}

/// The text of a schema's file.
#[must_use]
pub fn pretty(schema: &Value) -> String {
    // A value of strings, numbers and lists can always be written.
    let mut text = serde_json::to_string_pretty(schema).unwrap_or_default();
    text.push('\n');
    text
}

/// An id of a model's name: without whom it belongs to, in the letters that an id may have.
fn id_of(model: &str) -> String {
    let name = model.split(':').next().unwrap_or(model);
    let name = name.split_once('/').map_or(name, |(_, name)| name);
    let mut id = String::new();
    for c in name.chars().map(|c| c.to_ascii_lowercase()) {
        if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' {
            id.push(c);
        } else if !id.is_empty() && !id.ends_with('-') {
            id.push('-');
        }
    }
    id.truncate(63);
    let id = id.trim_matches('-');
    if id.is_empty() { "model".to_owned() } else { id.to_owned() }
}

/// The page that describes a model.
fn source_of(document: &Document) -> String {
    use domain::provider::Provider;
    let model = document.model.split(':').next().unwrap_or(&document.model);
    match document.provider {
        Provider::Fal => format!("https://fal.ai/models/{model}"),
        Provider::Replicate => format!("https://replicate.com/{model}"),
        Provider::OpenRouter => format!("https://openrouter.ai/{model}"),
        Provider::Cog | Provider::Local => String::new(),
    }
}

#[cfg(test)]
mod tests;
