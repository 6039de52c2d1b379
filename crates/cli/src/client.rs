//! The client commands: each is one file below, and talks to the gateway like any other client.
//!
//! Invariant: a command begins one trace, whose id every error shows, so that what happened can be looked up.

mod assets;
mod audit;
mod backoff;
mod bar;
mod dashboard;
mod export;
mod filters;
mod generate;
mod generations;
mod internal;
mod labels;
mod limits;
mod many;
mod mask;
mod models;
mod operator;
mod own_writes;
mod profile;
mod projects;
mod queue;
mod scenes;
mod session;
mod trace;
mod usage;
mod webhooks;

use anyhow::Result;
use clap::Subcommand;
use tracing::Instrument as _;

use crate::client::session::Session;
use crate::connection::Connection;
use crate::failure::Exit;

/// What a client can ask for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the account's dashboard: projects, scenes with their latest generation, credits, notices.
    Dashboard(dashboard::Show),
    /// Create, show, change and delete projects.
    #[command(subcommand)]
    Projects(projects::Command),
    /// Create, show, change, order and delete scenes.
    #[command(subcommand)]
    Scenes(scenes::Command),
    /// Generate a video for a scene and watch it come.
    Generate(Box<generate::Generate>),
    /// Watch generations until they end.
    Watch(generate::Watch),
    /// Show one generation.
    Get(generations::Get),
    /// List generations, newest first.
    List(generations::List),
    /// Stop a generation.
    Cancel(generations::Cancel),
    /// Delete a generation that has ended.
    Delete(generations::Delete),
    /// Upload a picture, a video or a sound to refer to.
    Upload(assets::Upload),
    /// List and delete what the account has in storage.
    #[command(subcommand)]
    Assets(assets::Command),
    /// Render a thumbnail of an asset.
    Thumbnail(assets::Render),
    /// Show what can be asked for a video, and at what price.
    Models(models::Models),
    /// Show the account's credits.
    Credits,
    /// Sum what was used, by day, model and end user.
    Usage(usage::Usage),
    /// Show end users, and limit what they may spend.
    #[command(subcommand)]
    EndUsers(usage::EndUsers),
    /// Create, show, test and delete the endpoints that webhooks are sent to, and show what became of deliveries.
    #[command(subcommand)]
    Webhooks(webhooks::Command),
    /// Print the tree of a recent trace of the local stack.
    Trace(trace::Trace),
    /// Look at where a running service's CPU time goes, and draw a flame graph of it.
    Profile(profile::Profile),
    /// Show limits and their use; for operators: set those of an account.
    #[command(subcommand)]
    Limits(limits::Command),
    /// For operators: show who did what to accounts, keys, credits and queues.
    Audit(audit::Audit),
    /// Export the account of the key; for operators: create accounts and grant credits (on the internal network), show, suspend,
    /// reactivate and erase them.
    #[command(subcommand)]
    Account(operator::Account),
    /// For operators: create, bind and revoke API keys (on the internal network).
    #[command(subcommand)]
    Key(operator::Key),
    /// For operators: look at the queue, pause it, set shares, requeue dead letters (on the internal network).
    #[command(subcommand)]
    Queue(queue::Command),
    /// For operators: settle a generation that waits as SUBMISSION_UNCONFIRMED (on the internal network).
    Resolve(queue::Resolve),
}

impl Command {
    fn name(&self) -> &'static str {
        match self {
            Self::Dashboard(_) => "dashboard",
            Self::Projects(_) => "projects",
            Self::Scenes(_) => "scenes",
            Self::Generate(_) => "generate",
            Self::Watch(_) => "watch",
            Self::Get(_) => "get",
            Self::List(_) => "list",
            Self::Cancel(_) => "cancel",
            Self::Delete(_) => "delete",
            Self::Assets(_) => "assets",
            Self::Upload(_) => "upload",
            Self::Thumbnail(_) => "thumbnail",
            Self::Models(_) => "models",
            Self::Credits => "credits",
            Self::Usage(_) => "usage",
            Self::EndUsers(_) => "end-users",
            Self::Webhooks(_) => "webhooks",
            Self::Trace(_) => "trace",
            Self::Profile(_) => "profile",
            Self::Limits(_) => "limits",
            Self::Audit(_) => "audit",
            Self::Account(_) => "account",
            Self::Key(_) => "key",
            Self::Queue(_) => "queue",
            Self::Resolve(_) => "resolve",
        }
    }
}

/// Runs one command.
pub(crate) async fn run(command: Command, connection: Connection, json: bool) -> Result<Exit> {
    let (stack, telemetry) = session::begin()?;
    let span = tracing::info_span!("command", otel.name = format!("rushes {}", command.name()), otel.kind = "internal");
    let work = async move {
        let session = Session::new(connection, stack, json)?;
        match command {
            Command::Dashboard(show) => show.run(&session).await,
            Command::Projects(command) => command.run(&session).await,
            Command::Scenes(command) => command.run(&session).await,
            Command::Generate(generate) => generate.run(&session).await,
            Command::Watch(watch) => watch.run(&session).await,
            Command::Get(get) => get.run(&session).await,
            Command::List(list) => list.run(&session).await,
            Command::Cancel(cancel) => cancel.run(&session).await,
            Command::Delete(delete) => delete.run(&session).await,
            Command::Assets(command) => command.run(&session).await,
            Command::Upload(upload) => upload.run(&session).await,
            Command::Thumbnail(render) => render.run(&session).await,
            Command::Models(models) => models.run(&session).await,
            Command::Credits => generations::credits(&session).await,
            Command::Usage(usage) => usage.run(&session).await,
            Command::EndUsers(command) => command.run(&session).await,
            Command::Webhooks(command) => command.run(&session).await,
            Command::Trace(trace) => trace.run(&session).await,
            Command::Profile(profile) => profile.run(&session).await,
            Command::Limits(command) => command.run(&session).await,
            Command::Audit(audit) => audit.run(&session).await,
            Command::Account(command) => command.run(&session).await,
            Command::Key(command) => command.run(&session).await,
            Command::Queue(command) => command.run(&session).await,
            Command::Resolve(resolve) => resolve.run(&session).await,
        }
    };
    let outcome = Box::pin(work.instrument(span)).await;
    if let Some(telemetry) = telemetry {
        // It waits for the collector on its own thread, so not on one of ours.
        tokio::task::spawn_blocking(move || telemetry.shutdown()).await?;
    }
    outcome
}
