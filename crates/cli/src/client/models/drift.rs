//! `rushes models check --catalogue`: what providers changed since a catalogue's schemas were stored.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use catalogue::drift::{Change, changes};
use catalogue::import::UNIT_PRICE;
use catalogue::{Document, Model, Provider};
use serde_json::{Value, json};

use super::published::{Keys, from_file};
use super::validate;
use crate::client::session::Session;
use crate::failure::{Exit, Failure};
use crate::{json, out};

/// Which catalogue is compared with what.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Compare the schemas of this catalogue file with what the providers publish now, instead of asking the stack.
    #[arg(long, value_name = "FILE")]
    pub(super) catalogue: Option<PathBuf>,
    /// Only this model.
    #[arg(long, value_name = "ID", requires = "catalogue")]
    model: Option<String>,
    /// Compare with the document in this file instead.
    #[arg(long, value_name = "FILE", requires = "model")]
    document: Option<PathBuf>,
    #[command(flatten)]
    keys: Keys,
}

/// What was found of one model.
struct Finding {
    id: String,
    provider: Provider,
    /// By hand, and by that only second to the provider's own document.
    by_hand: bool,
    outcome: Result<Vec<Change>, String>,
    /// What a unit cost at the import and costs now, where that differs.
    price: Option<(String, String)>,
}

impl Options {
    pub(super) async fn run(self, session: &Session) -> Result<Exit> {
        let file = self.catalogue.clone().unwrap_or_default();
        let catalogue = validate::load(&file)?.map_err(|faults| {
            let faults: Vec<_> = faults.iter().map(|fault| format!("\n  {fault}")).collect();
            Failure::new(format!("{} does not load{}", file.display(), faults.concat())).exit(Exit::Usage)
        })?;
        let asked = |model: &Model| self.model.as_ref().is_none_or(|id| *id == model.id);
        let models = catalogue.all().iter().filter(|model| model.provider != Provider::Local && asked(model));
        let mut findings = Vec::new();
        for model in models {
            findings.push(self.compare(model).await);
        }
        if let (Some(id), true) = (&self.model, findings.is_empty()) {
            return Err(Failure::new(format!("{} has no model {id}", file.display())).exit(Exit::NotFound).into());
        }
        if session.json() {
            json::print_value(&json!({"models": findings.iter().map(as_json).collect::<Vec<_>>()}))?;
        } else {
            out::print(findings.iter().map(text).collect::<String>())?;
        }
        let drifted =
            |finding: &Finding| finding.outcome.as_ref().is_ok_and(|all| !all.is_empty()) || finding.price.is_some();
        Ok(match (findings.iter().any(drifted), findings.iter().any(|finding| finding.outcome.is_err())) {
            (true, _) => Exit::Refused,
            (false, true) => Exit::Unreachable,
            (false, false) => Exit::Done,
        })
    }

    async fn compare(&self, model: &Model) -> Finding {
        let live = self.live(model).await;
        let schema = model.schema.root();
        let stored_price = schema.get(UNIT_PRICE).and_then(Value::as_str);
        let live_price = live.as_ref().ok().and_then(|document| document.unit_price.as_deref());
        let price = stored_price.zip(live_price).filter(|(before, now)| before != now);
        Finding {
            id: model.id.clone(),
            provider: model.provider,
            by_hand: schema.get("x-rushes-reimport") == Some(&Value::Bool(true)),
            price: price.map(|(before, now)| (before.to_owned(), now.to_owned())),
            outcome: live.map(|document| changes(schema, &document.schema())).map_err(|error| format!("{error:#}")),
        }
    }

    async fn live(&self, model: &Model) -> Result<Document> {
        match &self.document {
            Some(file) => from_file(model.provider, file, Some(&model.remote_name)),
            None => self.keys.fetch(model.provider, &model.remote_name).await,
        }
    }
}

fn text(finding: &Finding) -> String {
    let mut out = String::new();
    let head = match &finding.outcome {
        Err(error) => format!("NOT COMPARED: {}", first_line(error)),
        Ok(changes) if changes.is_empty() && finding.price.is_none() => "as stored".to_owned(),
        Ok(changes) => {
            let breaking = changes.iter().filter(|change| change.breaks()).count();
            format!("CHANGED: {} in all, {breaking} by which orders may be refused or settings lost", changes.len())
        }
    };
    let _ = writeln!(out, "{:<32} {:<10} {head}", finding.id, finding.provider.as_str());
    for change in finding.outcome.as_ref().ok().into_iter().flatten() {
        let _ = writeln!(out, "  {} {change}", if change.breaks() { "!" } else { " " });
    }
    if let Some((before, now)) = &finding.price {
        let _ = writeln!(out, "  ! the price was {before} and is {now}");
    }
    if finding.by_hand && finding.outcome.as_ref().is_ok_and(|changes| !changes.is_empty()) {
        let _ = writeln!(out, "    its schema was written by hand: import the model");
    }
    out
}

/// What went wrong, without what the whole command could do about it.
fn first_line(error: &str) -> &str {
    let line = error.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line)
}

fn as_json(finding: &Finding) -> Value {
    let change =
        |change: &Change| json!({"field": change.field, "breaks": change.breaks(), "text": change.to_string()});
    json!({
        "model": finding.id,
        "provider": finding.provider.as_str(),
        "byHand": finding.by_hand,
        "error": finding.outcome.as_ref().err().map(|error| first_line(error)),
        "changes": finding.outcome.as_ref().map_or(Vec::new(), |all| all.iter().map(change).collect::<Vec<_>>()),
        "price": finding.price.as_ref().map(|(before, now)| json!({"before": before, "now": now})),
    })
}
