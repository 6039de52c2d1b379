//! The catalogue: every model that can be ordered, built in or of an operator's file.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use domain::provider::Provider;

use crate::Fault;
use crate::build::{build, limit_references, plain};
use crate::built_in;
use crate::entry::{self, Entry};
use crate::model::Model;
use crate::schema::Schema;
use crate::setting_name::SettingName;
use crate::shipped;
use crate::tree::{Format, Report, Tree};

/// How long the schema of a model's parameters may be: it is one part of an answer, of which clients take 4 MiB.
const MAX_PARAMETERS_BYTES: usize = 1 << 20;

/// Models, in the order in which they are listed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Catalogue(Arc<[Arc<Model>]>);

impl Catalogue {
    /// The models that need no key and no network.
    #[must_use]
    pub fn built_in() -> Self {
        static BUILT_IN: LazyLock<Catalogue> = LazyLock::new(|| {
            let read = |path: &str| built_in::schema(path).map(str::to_owned).ok_or_else(|| "is not there".to_owned());
            // A test reads them.
            Catalogue(models(Format::Toml, built_in::ENTRIES, &read).unwrap_or_default().into())
        });
        BUILT_IN.clone()
    }

    /// The built-in models and those of a file. A model with the id of a built-in one replaces it.
    ///
    /// `read_file` reads a schema by its path as the entry has it.
    ///
    /// # Errors
    /// Everything that is wrong with the file, by its lines.
    pub fn parse(
        format: Format,
        text: &str,
        read_file: &dyn Fn(&str) -> Result<String, String>,
    ) -> Result<Self, Vec<Fault>> {
        let mut all = Self::built_in().0.to_vec();
        for model in models(format, text, read_file)? {
            match all.iter_mut().find(|other| other.id == model.id) {
                Some(other) => *other = model,
                None => all.push(model),
            }
        }
        Ok(Self(all.into()))
    }

    /// The models of providers that a catalogue file can have by a line, `use = ["veo-3.1-i2v"]`.
    #[must_use]
    pub fn shipped() -> &'static [Arc<Model>] {
        static SHIPPED: LazyLock<Vec<Arc<Model>>> = LazyLock::new(|| {
            let read = |path: &str| shipped::schema(path).map(str::to_owned).ok_or_else(|| "is not there".to_owned());
            // A test reads them.
            models(Format::Toml, shipped::ENTRIES, &read).unwrap_or_default()
        });
        &SHIPPED
    }

    /// The model with the name `models/{model}`, by its id or another of its names; the first one for an empty name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Arc<Model>> {
        if name.is_empty() {
            return self.0.first();
        }
        let id = name.strip_prefix("models/")?;
        let by_alias = || self.0.iter().find(|model| model.aliases.iter().any(|alias| alias == id));
        self.by_id(id).or_else(by_alias)
    }

    /// The model with this id.
    #[must_use]
    pub fn by_id(&self, id: &str) -> Option<&Arc<Model>> {
        self.0.iter().find(|model| model.id == id)
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Arc<Model>] {
        &self.0
    }
}

/// The models of a file, in its order.
fn models(
    format: Format,
    text: &str,
    read_file: &dyn Fn(&str) -> Result<String, String>,
) -> Result<Vec<Arc<Model>>, Vec<Fault>> {
    let tree = Tree::parse(format, text)?;
    let mut faults = Vec::new();
    let mut models = used(&tree, &mut faults);
    let entries = entry::read(&tree, &mut faults);
    names(&tree, &models, &entries, &mut faults);
    for entry in entries {
        let mut report = Report::new(&tree, &entry.at, &entry.id, &mut faults);
        models.extend(model(entry, read_file, &mut report).map(Arc::new));
    }
    faults.sort_by_key(|fault| fault.line);
    if faults.is_empty() { Ok(models) } else { Err(faults) }
}

/// The shipped models that a file takes, each once.
fn used(tree: &Tree, faults: &mut Vec<Fault>) -> Vec<Arc<Model>> {
    let mut models: Vec<Arc<Model>> = Vec::new();
    for (n, id) in entry::used(tree, faults).iter().enumerate() {
        let mut fault = |message: String| Report::new(tree, "", "", faults).fault(&format!("use[{n}]"), message);
        match Catalogue::shipped().iter().find(|model| model.id == *id) {
            Some(model) if models.iter().any(|other| other.id == model.id) => fault(format!("has {id:?} twice")),
            Some(model) => models.push(model.clone()),
            None => {
                let all: Vec<_> = Catalogue::shipped().iter().map(|model| model.id.as_str()).collect();
                fault(format!("has {id:?}, and must be of {}", all.join(", ")));
            }
        }
    }
    models
}

/// An id or alias is of one model only.
fn names(tree: &Tree, used: &[Arc<Model>], entries: &[Entry], faults: &mut Vec<Fault>) {
    let mut seen: BTreeMap<&str, &str> = used.iter().map(|model| (model.id.as_str(), "`use`")).collect();
    for entry in entries {
        for (field, name) in
            std::iter::once(("id", &entry.id)).chain(entry.aliases.iter().map(|alias| ("aliases", alias)))
        {
            if let Some(other) = seen.insert(name, &entry.id) {
                let message = format!("must be of one model only; {name:?} is also of {other}");
                Report::new(tree, &entry.at, &entry.id, faults).fault(field, message);
            }
        }
    }
}

fn model(
    mut entry: Entry,
    read_file: &dyn Fn(&str) -> Result<String, String>,
    report: &mut Report<'_, '_>,
) -> Option<Model> {
    let schema = match &entry.schema {
        Some(path) => read_file(path).and_then(|text| Schema::parse(&text)).map_err(|why| format!("{path:?} {why}")),
        None if entry.provider == Provider::Local => inherit(&mut entry),
        None => without_schema(&mut entry, report),
    };
    match schema {
        Ok(schema) => {
            let model = build(entry, schema, report)?;
            let bytes = model.parameters_schema().len();
            if bytes > MAX_PARAMETERS_BYTES {
                let message = format!(
                    "describes parameters in {bytes} bytes, at most {MAX_PARAMETERS_BYTES} are told: `hide` some of them"
                );
                report.fault("schema", message);
                return None;
            }
            Some(model)
        }
        Err(message) => {
            report.fault("schema", message);
            None
        }
    }
}

/// A model without a schema takes a prompt and a seed; what needs a schema is a fault.
fn without_schema(entry: &mut Entry, report: &mut Report<'_, '_>) -> Result<Schema, String> {
    let given = [
        ("map", !entry.map.is_empty()),
        ("media", !entry.media.is_empty()),
        ("fixed", !entry.fixed.is_empty()),
        ("hide", !entry.hide.is_empty()),
        ("files", !entry.files.is_empty()),
        ("rule", !entry.rules.is_empty()),
        ("sizes", !entry.sizes.is_empty()),
    ];
    for (field, _) in given.into_iter().filter(|(_, given)| *given) {
        report.fault(field, "needs the model's schema: without `schema` a model takes a prompt and a seed");
    }
    plain(entry)
}

/// What an entry for a built-in model leaves out is as it is built in.
fn inherit(entry: &mut Entry) -> Result<Schema, String> {
    let tree = Tree::parse(Format::Toml, built_in::ENTRIES).map_err(|_| "is not there".to_owned())?;
    let own = entry::read(&tree, &mut Vec::new()).into_iter().find(|own| own.id == entry.id);
    let own = own.ok_or_else(|| "must be given".to_owned())?;
    entry.kind = entry.kind.or(own.kind);
    if entry.label.is_empty() {
        entry.label = own.label;
    }
    if entry.map.is_empty() {
        entry.map = own.map;
    }
    if entry.media.is_empty() {
        entry.media = own.media;
    }
    if entry.sizes.is_empty() {
        entry.sizes = own.sizes;
    }
    for (field, value) in own.fixed {
        entry.fixed.entry(field).or_insert(value);
    }
    entry.hide.extend(own.hide);
    entry.rules.extend(own.rules);
    if entry.price.is_empty() && entry.price_micros.is_none() {
        entry.price = own.price;
    }
    if entry.seed == Some(false)
        && let Some(field) = entry.map.remove(&SettingName::Seed).and_then(|mapping| mapping.to)
    {
        entry.hide.push(field);
    }
    limit_references(entry);
    let text = own.schema.as_deref().and_then(built_in::schema).ok_or_else(|| "is not there".to_owned())?;
    Schema::parse(text)
}
