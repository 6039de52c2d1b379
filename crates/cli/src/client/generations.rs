//! `rushes get`, `list`, `cancel`, `delete` and `credits`, and how a generation looks.

use std::fmt::Write as _;

use anyhow::Result;
use proto::credits::v1::GetCreditAccountRequest;
use proto::credits::v1::credit_service_client::CreditServiceClient;
use proto::generations::v1::charge::Line;
use proto::generations::v1::generation_service_client::GenerationServiceClient;
use proto::generations::v1::output::Moderation;
use proto::generations::v1::{
    CancelGenerationRequest, DeleteGenerationRequest, Generation, GetGenerationRequest, ListGenerationsRequest, State,
    WaitReason,
};

use crate::client::filters::Filters;
use crate::client::projects::deleted;
use crate::client::session::Session;
use crate::failure::Exit;
use crate::show;

/// The full name of a generation's message.
pub(crate) const GENERATION: &str = "rushes.generations.v1.Generation";

/// Shows one generation.
#[derive(Debug, clap::Args)]
pub struct Get {
    /// generations/….
    name: String,
    /// Wait for this version or a later one.
    #[arg(long, default_value_t = 0)]
    min_version: i64,
    /// When it cannot be read now, show how it was at most a minute ago.
    #[arg(long)]
    allow_stale: bool,
}

/// Lists generations.
#[derive(Debug, clap::Args)]
pub struct List {
    /// projects/… or projects/…/scenes/…; without it, the whole account's.
    #[arg(long, default_value = "")]
    parent: String,
    /// How many, at most 100.
    #[arg(long, default_value_t = 20)]
    page_size: i32,
    /// Where the page before ended.
    #[arg(long, default_value = "")]
    page_token: String,
    #[command(flatten)]
    filters: Filters,
}

/// Stops a generation.
#[derive(Debug, clap::Args)]
pub struct Cancel {
    /// generations/….
    name: String,
}

/// Deletes a generation that has ended.
#[derive(Debug, clap::Args)]
pub struct Delete {
    /// generations/….
    name: String,
    /// That there is none is no error.
    #[arg(long)]
    allow_missing: bool,
}

impl Get {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        let request = GetGenerationRequest { name: self.name, min_version: self.min_version };
        let generation = get(session, request, self.allow_stale).await?;
        session.show(GENERATION, &generation, text)
    }
}

/// Reads one generation.
pub(crate) async fn get(session: &Session, request: GetGenerationRequest, allow_stale: bool) -> Result<Generation> {
    let mut client = GenerationServiceClient::new(session.gateway()?);
    let answer = client.get_generation(session.lenient(request, allow_stale)?).await;
    let answer = answer.map_err(|status| session.failed(&status))?;
    session.warn_of_age(answer.metadata());
    Ok(answer.into_inner())
}

impl List {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        let Self { parent, page_size, page_token, filters } = self;
        let request = ListGenerationsRequest {
            parent: parent.clone(),
            page_size,
            page_token,
            ..ListGenerationsRequest::default()
        };
        let request = filters.of(request)?;
        let mut client = GenerationServiceClient::new(session.gateway()?);
        let answer = client.list_generations(session.request(request)?).await;
        let answer = answer.map_err(|status| session.failed(&status))?;
        session.show("rushes.generations.v1.ListGenerationsResponse", answer.get_ref(), |page| {
            let mut out: String = page.generations.iter().map(line).collect();
            if !page.next_page_token.is_empty() {
                let parent = if parent.is_empty() { parent } else { format!(" --parent {parent}") };
                let _ =
                    writeln!(out, "more: rushes list{parent}{} --page-token {}", filters.text(), page.next_page_token);
            }
            out
        })
    }
}

impl Cancel {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        let mut client = GenerationServiceClient::new(session.gateway()?);
        let request = session.request(CancelGenerationRequest { name: self.name })?;
        let answer = client.cancel_generation(request).await.map_err(|status| session.failed(&status))?;
        session.show(GENERATION, answer.get_ref(), text)
    }
}

impl Delete {
    pub(crate) async fn run(self, session: &Session) -> Result<Exit> {
        let Self { name, allow_missing } = self;
        let mut client = GenerationServiceClient::new(session.gateway()?);
        let request = session.request(DeleteGenerationRequest { name: name.clone(), allow_missing })?;
        client.delete_generation(request).await.map_err(|status| session.failed(&status))?;
        deleted(session, &name)
    }
}

/// Shows the balance.
pub(crate) async fn credits(session: &Session) -> Result<Exit> {
    let mut client = CreditServiceClient::new(session.gateway()?);
    let answer = client.get_credit_account(session.request(GetCreditAccountRequest {})?).await;
    let answer = answer.map_err(|status| session.failed(&status))?;
    session.show("rushes.credits.v1.CreditAccount", answer.get_ref(), |account| {
        format!(
            "{} free, {} held, {} spent\n",
            show::credits(account.available_micros),
            show::credits(account.held_micros),
            show::credits(account.spent_micros)
        )
    })
}

/// A generation on several lines: what became of it, where its video is, what it cost, and its trace.
pub(crate) fn text(generation: &Generation) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut out, generation);
    out
}

fn write(out: &mut String, generation: &Generation) -> std::fmt::Result {
    writeln!(out, "{}", generation.name)?;
    let progress = generation.progress.clone().unwrap_or_default();
    write!(out, "  {} {} %", show::state(generation.state), progress.percent)?;
    if !progress.stage.is_empty() && !show::is_terminal(generation.state) {
        write!(out, ", {}", progress.stage)?;
    }
    match wait_reason(generation) {
        None => writeln!(out)?,
        Some(reason) => writeln!(out, ", waits: {reason}")?,
    }
    if let Some(input) = &generation.input {
        write!(out, "  prompt   {}", show::short(&input.prompt, 100))?;
        match input.seed {
            Some(seed) => writeln!(out, " (seed {seed})")?,
            None => writeln!(out)?,
        }
    }
    for output in &generation.outputs {
        let (width, height, size) = (output.width, output.height, show::bytes(output.size_bytes));
        let kind = output.mime_type.split('/').next().unwrap_or("output");
        writeln!(out, "  {kind:<8} {}  ({}, {width}x{height}, {size})", output.url, output.mime_type)?;
        if output.poster_url.is_empty() {
            writeln!(out, "  poster   none: {}", output.poster_missing_reason)?;
        } else {
            writeln!(out, "  poster   {}", output.poster_url)?;
        }
        if let Some(said) = &output.moderation {
            writeln!(out, "  checked  {}", moderated(said))?;
        }
    }
    if let Some(error) = &generation.error {
        writeln!(out, "  error    {}", error.message)?;
    }
    if let Some(charge) = &generation.charge {
        write!(out, "  cost     {} credits", show::credits(charge.captured_micros))?;
        if charge.released_micros > 0 {
            write!(out, ", {} given back", show::credits(charge.released_micros))?;
        }
        if !show::is_terminal(generation.state) {
            write!(out, ", {} held", show::credits(charge.held_micros))?;
        }
        writeln!(out)?;
        for line in &charge.lines {
            write!(out, "  {}", price_line(line))?;
        }
    }
    if let Some(trace) = trace(generation) {
        writeln!(out, "  trace    {trace}")?;
    }
    Ok(())
}

/// What it waits for, where it waits.
pub(crate) fn wait_reason(generation: &Generation) -> Option<&'static str> {
    let reason = WaitReason::try_from(generation.wait_reason).ok()?;
    (reason != WaitReason::Unspecified).then(|| reason.as_str_name())
}

/// The stage that it is in, and what it waits for; empty once it has ended.
pub(crate) fn step(generation: &Generation) -> String {
    if show::is_terminal(generation.state) {
        return String::new();
    }
    let doing = generation.progress.as_ref().map(|progress| progress.stage.as_str()).unwrap_or_default();
    let waits = wait_reason(generation).map(|reason| format!("waits: {reason}"));
    [doing, waits.as_deref().unwrap_or_default()]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(", ")
}

/// What the provider's own moderation said of an output.
fn moderated(said: &Moderation) -> String {
    let Moderation { provider, flagged, categories, effect } = said;
    match (flagged, effect.as_str()) {
        (false, _) => format!("by {provider}, and not flagged"),
        (true, "") => format!("by {provider}: flagged as {}", categories.join(", ")),
        (true, effect) => format!("by {provider}: flagged as {}, and {effect}", categories.join(", ")),
    }
}

/// One line of a price.
pub(crate) fn price_line(line: &Line) -> String {
    let Line { per, quantity, unit_price, micros } = line;
    let (per, credits) = (per.replace('_', " "), micros_as_credits(micros));
    format!("  {quantity:>8} {per} at {unit_price} = {credits}\n")
}

/// Micro-credits with decimal places as credits.
fn micros_as_credits(micros: &str) -> String {
    let whole = micros.split('.').next().unwrap_or_default();
    whole.parse().map_or_else(|_| format!("{micros} micro-credits"), show::credits)
}

/// The id of the trace that a generation was started in.
pub(crate) fn trace(generation: &Generation) -> Option<&str> {
    generation.traceparent.split('-').nth(1)
}

/// How a command ends that waited for these generations.
pub(crate) fn exit<'a>(generations: impl IntoIterator<Item = &'a Generation>) -> Exit {
    let completed = generations.into_iter().all(|generation| generation.state == State::Completed as i32);
    if completed { Exit::Done } else { Exit::Incomplete }
}

fn line(generation: &Generation) -> String {
    let prompt = generation.input.as_ref().map(|input| show::short(&input.prompt, 60)).unwrap_or_default();
    let percent = generation.progress.as_ref().map_or(0, |progress| progress.percent);
    format!("{:<10} {percent:>3} %  {}  {prompt}\n", show::state(generation.state), generation.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_provider_said_is_a_sentence() {
        let said = |flagged, effect: &str| Moderation {
            provider: "fal".to_owned(),
            flagged,
            categories: if flagged { vec!["nsfw".to_owned(), "gore".to_owned()] } else { Vec::new() },
            effect: effect.to_owned(),
        };
        assert_eq!(moderated(&said(false, "")), "by fal, and not flagged");
        assert_eq!(moderated(&said(true, "")), "by fal: flagged as nsfw, gore");
        assert_eq!(moderated(&said(true, "blurred")), "by fal: flagged as nsfw, gore, and blurred");
    }
}
