//! `rushes models validate`: everything that is wrong with a catalogue file, before a service reads it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use catalogue::{Catalogue, Fault, Format};
use serde_json::{Value, json};

use crate::client::session::Session;
use crate::failure::{Exit, Failure};
use crate::{json, out, show};

/// Validates a catalogue file.
#[derive(Debug, clap::Args)]
pub(super) struct Validate {
    /// The file that RUSHES_MODELS names; schemas are looked for beside it.
    file: PathBuf,
}

impl Validate {
    pub(super) fn run(self, session: &Session) -> Result<Exit> {
        let parsed = load(&self.file)?;
        let faults = parsed.as_ref().err().map_or(&[][..], Vec::as_slice);
        if session.json() {
            let models = parsed.as_ref().map_or(Vec::new(), |all| all.all().iter().map(|model| model.name()).collect());
            json::print_value(&json!({"faults": faults_as_json(faults), "models": models}))?;
        } else {
            out::print(text(&self.file, &parsed))?;
        }
        Ok(if faults.is_empty() { Exit::Done } else { Exit::Failed })
    }
}

/// The catalogue of a file, or its faults.
pub(super) fn load(file: &Path) -> Result<Result<Catalogue, Vec<Fault>>> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Failure::new(format!("{} cannot be read: {error}", file.display())).exit(Exit::Usage))?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let read = |beside: &str| std::fs::read_to_string(folder.join(beside)).map_err(|error| error.to_string());
    Ok(Catalogue::parse(Format::of_path(&file.to_string_lossy()), &text, &read))
}

/// The faults of a file.
pub(super) fn faults(file: &Path) -> Result<Vec<Fault>> {
    Ok(load(file)?.err().unwrap_or_default())
}

pub(super) fn faults_as_json(faults: &[Fault]) -> Value {
    let one = |fault: &Fault| json!({"line": fault.line, "model": fault.model, "field": fault.field, "message": fault.message});
    faults.iter().map(one).collect()
}

fn text(file: &Path, parsed: &Result<Catalogue, Vec<Fault>>) -> String {
    let mut out = String::new();
    match parsed {
        Err(faults) => {
            for fault in faults {
                let _ = writeln!(out, "{}: {fault}", file.display());
            }
        }
        Ok(catalogue) => {
            for model in catalogue.all() {
                let credits = show::credits(model.default_terms().quote().total.get());
                let by = format!("{} {}", model.provider.as_str(), model.remote_name);
                let _ = writeln!(out, "{:<32} {credits:>10} credits  {by}", model.name());
            }
            let _ = writeln!(out, "{} is in order", file.display());
        }
    }
    out
}
