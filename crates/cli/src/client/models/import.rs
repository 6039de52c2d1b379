//! `rushes models import`: a provider's document becomes an entry of a catalogue file, and the schema beside it.
//!
//! Invariant: nothing that a person may have changed is written over: a schema that is there stays unless that is asked for, and an
//! entry always.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use catalogue::import::{Imported, Options, import};
use catalogue::{Fault, Format, Provider};
use serde_json::json;

use super::published::{Keys, from_file};
use super::validate;
use crate::client::session::Session;
use crate::failure::{Exit, Failure};
use crate::{json, out};

/// What a catalogue file begins with.
const HEADING: &str = "# The models of this installation: RUSHES_MODELS names this file.\n";

/// Imports a model.
#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// fal, replicate, openrouter or cog.
    #[arg(value_parser = provider)]
    provider: Provider,
    /// What the provider calls the model, such as fal-ai/veo3.1/image-to-video or google/veo-3.1; or a file with its document.
    #[arg(value_name = "MODEL|FILE")]
    from: String,
    /// What the provider calls the model, where a file does not say it or tells of several.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// The entry's id, by which customers order; made of the model's name if left out.
    #[arg(long)]
    id: Option<String>,
    /// The folder of the catalogue: `models.toml` in it gets the entry, `schemas/` the schema.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    out: PathBuf,
    /// Write over a schema that is there.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    keys: Keys,
}

fn provider(name: &str) -> Result<Provider, String> {
    let known = Provider::parse(name).filter(|provider| *provider != Provider::Local);
    known.ok_or_else(|| "must be fal, replicate, openrouter or cog".to_owned())
}

impl Import {
    pub(super) async fn run(self, session: &Session) -> Result<Exit> {
        let file = Path::new(&self.from);
        let is_file = file.is_file() || file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
        let mut document = if is_file {
            from_file(self.provider, file, self.model.as_deref())?
        } else {
            self.keys.fetch(self.provider, self.model.as_deref().unwrap_or(&self.from)).await?
        };
        if let (Provider::Cog, None) = (self.provider, &self.model) {
            // A box is called as the operator calls it, not as its software does.
            document.model = if is_file { "box".to_owned() } else { self.from.clone() };
        }
        let today = time::OffsetDateTime::now_utc().date().to_string();
        let imported = import(&document, &Options { id: self.id.clone(), checked: today, source: None });
        if !imported.report.is_whole() {
            let mut message = format!("{} cannot be offered as its document is", document.model);
            for why in &imported.report.lost {
                let _ = write!(message, "\n  {why}");
            }
            return Err(Failure::new(message)
                .todo("describe these fields in a copy of the document, and import that")
                .exit(Exit::Refused)
                .into());
        }
        let files = Files::of(&self, &imported)?;
        files.write(&imported)?;
        let faults = validate::faults(&files.catalogue)?;
        if session.json() {
            json::print_value(&as_json(&imported, &files, &faults))?;
        } else {
            out::print(text(&document.model, self.provider, &imported, &files, &faults))?;
        }
        Ok(Exit::Done)
    }
}

/// What is written where.
struct Files {
    schema: PathBuf,
    catalogue: PathBuf,
    /// The catalogue file with the entry; `None` where it has one of this id already.
    entry: Option<String>,
}

impl Files {
    /// Looks at everything before anything is written.
    fn of(import: &Import, imported: &Imported) -> Result<Self> {
        let (schema, catalogue) = (import.out.join(&imported.schema_path), import.out.join("models.toml"));
        let same = std::fs::read_to_string(&schema).is_ok_and(|text| text == imported.schema);
        if schema.exists() && !same && !import.force {
            return Err(Failure::new(format!("{} is there already", schema.display()))
                .todo("see what the provider changed with `rushes models check --catalogue`; --force writes it anew, --id beside it")
                .exit(Exit::Refused)
                .into());
        }
        let before = match std::fs::read_to_string(&catalogue) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => HEADING.to_owned(),
            Err(error) => return Err(Failure::new(format!("{} cannot be read: {error}", catalogue.display())).into()),
        };
        let ids = catalogue::import::ids(Format::Toml, &before).map_err(|faults| {
            let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
            Failure::new(format!("{} is no catalogue: {}", catalogue.display(), faults.join("; "))).exit(Exit::Usage)
        })?;
        let entry = (!ids.contains(&imported.id)).then(|| format!("{}\n\n{}", before.trim_end(), imported.entry));
        Ok(Self { schema, catalogue, entry })
    }

    fn write(&self, imported: &Imported) -> Result<()> {
        let write = |path: &Path, text: &str| {
            let folder = path.parent().unwrap_or(Path::new("."));
            let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(path, text));
            written.with_context(|| format!("{} cannot be written", path.display()))
        };
        // The schema first, so that no service reads an entry whose schema is not there.
        write(&self.schema, &imported.schema)?;
        self.entry.as_ref().map_or(Ok(()), |entry| write(&self.catalogue, entry))
    }
}

fn text(model: &str, provider: Provider, imported: &Imported, files: &Files, faults: &[Fault]) -> String {
    let report = &imported.report;
    let kind = report.kind.and_then(|kind| serde_json::to_value(kind).ok());
    let kind = kind.as_ref().and_then(|kind| kind.as_str()).unwrap_or_default().to_owned();
    let mut out = format!("{}: {kind}, {model} of {}\n", imported.id, provider.as_str());
    let mut line = |what: &str, text: String| {
        if !text.is_empty() {
            let _ = writeln!(out, "  {what:<11}{text}");
        }
    };
    let same =
        |ours: &str, theirs: &String| if ours == theirs { ours.to_owned() } else { format!("{ours} = {theirs}") };
    line("settings", report.mapped.iter().map(|(ours, theirs)| same(ours, theirs)).collect::<Vec<_>>().join(", "));
    let role =
        |role| serde_json::to_value(role).ok().and_then(|role| role.as_str().map(str::to_owned)).unwrap_or_default();
    let media = report.media.iter().map(|(of, to)| format!("{} = {to}", role(*of)));
    line("media", media.collect::<Vec<_>>().join(", "));
    line("parameters", report.parameters.join(", "));
    line("files in", report.files.join(", "));
    for (name, why) in &report.hidden {
        line("hidden", format!("{name}: {why}"));
    }
    for note in &report.notes {
        line("note", note.clone());
    }
    let _ = writeln!(out, "wrote {}", files.schema.display());
    let _ = match &files.entry {
        Some(_) => writeln!(out, "wrote the entry at the end of {}", files.catalogue.display()),
        None => {
            writeln!(out, "{} has an entry {} already, which stays as it is", files.catalogue.display(), imported.id)
        }
    };
    let todo: &[String] = if files.entry.is_some() { &report.todo } else { &[] };
    for todo in todo {
        let _ = writeln!(out, "to do: {todo}");
    }
    if faults.is_empty() {
        let _ = writeln!(out, "{} is in order; read the entry before it is used", files.catalogue.display());
    } else {
        let _ = writeln!(out, "until then {} does not load:", files.catalogue.display());
        for fault in faults {
            let _ = writeln!(out, "  {fault}");
        }
    }
    out
}

fn as_json(imported: &Imported, files: &Files, faults: &[Fault]) -> serde_json::Value {
    let report = &imported.report;
    let pairs = |pairs: &[(String, String)]| -> serde_json::Value {
        pairs.iter().map(|(name, why)| json!({"field": name, "why": why})).collect()
    };
    json!({
        "id": imported.id,
        "kind": report.kind,
        "schema": files.schema,
        "catalogue": files.catalogue,
        "entryWritten": files.entry.is_some(),
        "settings": report.mapped.iter().map(|(ours, theirs)| json!({"setting": ours, "field": theirs})).collect::<Vec<_>>(),
        "media": report.media.iter().map(|(role, to)| json!({"role": role, "field": to})).collect::<Vec<_>>(),
        "parameters": report.parameters,
        "files": report.files,
        "hidden": pairs(&report.hidden),
        "notes": report.notes,
        "todo": report.todo,
        "faults": validate::faults_as_json(faults),
    })
}
