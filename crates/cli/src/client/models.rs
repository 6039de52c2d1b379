//! `rushes models`: what can be asked for a video, whether its providers are set up rightly, and the catalogue's files.

mod description;
mod drift;
mod import;
mod published;
mod validate;

use std::fmt::Write as _;

use anyhow::Result;
use clap::Subcommand;
use proto::models::v1::model::MediaSlot;
use proto::models::v1::model::unavailability::Reason;
use proto::models::v1::model_service_client::ModelServiceClient;
use proto::models::v1::{GetModelRequest, ListModelsRequest, Model};
use proto::work::v1::model_check::Finding;
use proto::work::v1::provider_service_client::ProviderServiceClient;
use proto::work::v1::{CheckModelsRequest, ModelCheck, ModelCost};

use crate::client::internal::Internal;
use crate::client::session::Session;
use crate::failure::Exit;
use crate::show;

/// The model of a request that names none.
const BUILT_IN: &str = "models/local-sketch";

/// Lists models, or has them checked.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Models {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

/// What else can be done with models.
#[derive(Debug, Subcommand)]
enum Command {
    /// Show what one model takes, by the flags of `rushes generate`, and what it costs.
    Show {
        /// models/….
        model: String,
    },
    /// For operators: ask each model's provider whether it takes the key and knows the model (on the internal network), or with
    /// --catalogue whether it still takes what the stored schemas say.
    Check {
        #[command(flatten)]
        internal: Internal,
        #[command(flatten)]
        drift: Box<drift::Options>,
    },
    /// For operators: make a catalogue's entry and schema of a provider's document.
    Import(Box<import::Import>),
    /// For operators: tell everything that is wrong with a catalogue file, by its lines.
    Validate(validate::Validate),
}

impl Models {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        match self.command {
            None => self.list.run(session).await,
            Some(Command::Show { model }) => {
                session.show("rushes.models.v1.Model", &get(session, &model).await?, description::text)
            }
            Some(Command::Check { drift, .. }) if drift.catalogue.is_some() => drift.run(session).await,
            Some(Command::Check { internal, .. }) => check(session, &internal).await,
            Some(Command::Import(import)) => import.run(session).await,
            Some(Command::Validate(validate)) => validate.run(session),
        }
    }
}

/// One model; the built-in one for an empty name.
pub(crate) async fn get(session: &Session, name: &str) -> Result<Model> {
    let name = if name.is_empty() { BUILT_IN } else { name };
    let mut client = ModelServiceClient::new(session.gateway()?);
    let answer = client.get_model(session.request(GetModelRequest { name: name.to_owned() })?).await;
    Ok(answer.map_err(|status| session.failed(&status))?.into_inner())
}

async fn check(session: &Session, internal: &Internal) -> Result<Exit> {
    let channel = session.internal("generation-worker", internal)?;
    let mut client = ProviderServiceClient::new(channel);
    let answer = client.check_models(session.internal_request(CheckModelsRequest {})?).await;
    let answer = answer.map_err(|status| session.failed(&status))?;
    let served = |check: &ModelCheck| check.finding() == Finding::Served;
    let all_served = answer.get_ref().checks.iter().all(served);
    session.show("rushes.work.v1.CheckModelsResponse", answer.get_ref(), |response| {
        let checks = &response.checks;
        if checks.is_empty() {
            return "no model of a provider is switched on: RUSHES_MODELS names the file that does it\n".to_owned();
        }
        // A model has a line for each key, and its cost one below the last.
        let last = |at: usize| checks.get(at + 1).is_none_or(|next| next.model != checks[at].model);
        let lines = checks.iter().enumerate().map(|(at, check)| {
            let cost = check.cost.as_ref().filter(|cost| cost.drifted && last(at));
            check_line(check) + &cost.map(cost_line).unwrap_or_default()
        });
        lines.collect()
    })?;
    let drifted = answer.get_ref().checks.iter().any(|check| check.cost.is_some_and(|cost| cost.drifted));
    Ok(if all_served && !drifted { Exit::Done } else { Exit::Refused })
}

fn check_line(check: &ModelCheck) -> String {
    let found = match check.finding() {
        Finding::Served => "served".to_owned(),
        Finding::KeyMissing => format!("NO KEY: set the key of {} in generation-worker's environment", check.provider),
        Finding::KeyRefused => format!("KEY REFUSED: {}", check.detail),
        Finding::ModelUnknown => format!("UNKNOWN THERE: {}", check.detail),
        Finding::Unreachable => format!("NOT REACHED: {}", check.detail),
        Finding::Unspecified => check.detail.clone(),
    };
    // The key's public name begins with the provider's.
    let asked = if check.provider_key.is_empty() { &check.provider } else { &check.provider_key };
    format!("{:<32} {asked:<20} {found}\n", check.model)
}

/// What a model costs beside what its entry says.
fn cost_line(cost: &ModelCost) -> String {
    let ModelCost { expected_micros, cost_micros, outputs, .. } = *cost;
    let part = (cost_micros as f64 / expected_micros.max(1) as f64 - 1.0) * 100.0;
    let (seen, expected) = (show::credits(cost_micros), show::credits(expected_micros));
    format!(
        "  COSTS {:.0} % {}: its provider asked {seen} for {outputs} outputs of the last day, and the entry's cost is {expected}\n",
        part.abs(),
        if part > 0.0 { "MORE" } else { "LESS" },
    )
}

/// Lists models.
#[derive(Debug, clap::Args)]
struct List {
    /// How many, at most 100.
    #[arg(long, default_value_t = 100)]
    page_size: i32,
    /// Where the page before ended.
    #[arg(long, default_value = "")]
    page_token: String,
}

impl List {
    async fn run(self, session: &Session) -> Result<Exit> {
        let Self { page_size, page_token } = self;
        let mut client = ModelServiceClient::new(session.gateway()?);
        let request = session.request(ListModelsRequest { page_size, page_token })?;
        let answer = client.list_models(request).await.map_err(|status| session.failed(&status))?;
        session.show("rushes.models.v1.ListModelsResponse", answer.get_ref(), |page| {
            let mut out: String = page.models.iter().map(line).collect();
            if !page.next_page_token.is_empty() {
                let _ = writeln!(out, "more: rushes models --page-token {}", page.next_page_token);
            }
            out
        })
    }
}

fn line(model: &Model) -> String {
    let characters = model.input_limits.map_or(0, |limits| limits.prompt_characters);
    let pace = model.pace.as_ref().map_or_else(String::new, |pace| {
        let seconds = |time: Option<prost_types::Duration>| time.map_or(0, |time| time.seconds);
        format!(", half within {} s, four in five within {} s", seconds(pace.p50), seconds(pace.p80))
    });
    let waits = model.unavailability.as_ref().map_or_else(String::new, |unavailability| {
        let why = match unavailability.reason() {
            Reason::AccountRefused => "its provider refuses the installation's account",
            Reason::Outage => "its provider does not answer",
            Reason::Misconfigured => "its provider refuses it as it is set up here",
            Reason::NoWorker => "no worker serves it; is there a key for its provider?",
            Reason::Unspecified => "its provider takes no orders",
        };
        format!("; UNAVAILABLE: {why}; orders wait, and go on by themselves")
    });
    format!(
        "{:<32} {:>10} credits  by {}; {characters} characters{}{pace}{waits}\n",
        model.name,
        show::credits(model.price_micros),
        model.provider,
        model.media.iter().map(slot).collect::<String>(),
    )
}

/// What goes into a place for media: `, first frame (required)`, `, 0 to 3 reference`.
fn slot(slot: &MediaSlot) -> String {
    let role = slot.role().as_str_name().to_lowercase().replace('_', " ");
    match (slot.min, slot.max) {
        (0, 1) => format!(", {role}"),
        (1, 1) => format!(", {role} (required)"),
        (min, max) => format!(", {min} to {max} {role}"),
    }
}
