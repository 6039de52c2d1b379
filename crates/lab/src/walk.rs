//! `cargo rushes walk`: the mistakes and mishaps that an operator of a provider meets, one after another on real processes, and for
//! each what the commands, the logs and a generation say. It prints a page, which is `docs/operating.md`.
//!
//! Invariant: a step whose generation does not show what is promised, or does not go on once the cause is gone, is a failure.

mod shown;
mod steps;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use cli::failure::Exit;
use cli::out;
use sqlx::PgPool;

use self::steps::Walk;
use crate::Progress;
use crate::cluster::{Cluster, Plan};
use crate::customer::Customer;
use crate::folder::folder_of_run;
use crate::provider::Provider;

/// A generation's deadlines: none of what happens here is to be ended by time.
const DEADLINE: Duration = Duration::from_secs(24 * 3_600);

/// What the page begins with.
const PREFACE: &str = "# What an operator sees

Each mistake or mishap with a provider, what the commands and the logs say of it, and what happens when its cause is gone. Written by
`cargo rushes walk > docs/operating.md`, which does all of it with real processes beside the simulated provider, and fails where a
generation does not show what is promised. Ids, addresses and times are left out as `…`; of a log line, JSON in the files, its message and
fields are shown, of one that repeats the first.
What follows from which answer is in [work.md](work.md#what-follows-from-an-answer).
";

/// Where to keep what the run leaves.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Where to keep the logs, the bill and the videos; else they go with the run.
    #[arg(long, value_name = "DIRECTORY")]
    logs: Option<PathBuf>,
    /// Only steps whose title has this.
    #[arg(long, default_value = "")]
    step: String,
}

/// Walks through all steps and prints the page.
pub async fn run(options: &Options, say: Progress<'_>) -> Result<Exit> {
    let folder = folder_of_run(options.logs.as_deref())?;
    let provider = Provider::start(&folder.path, DEADLINE, |settings| {
        (settings.waits, settings.renders, settings.drip_ms) = ((0, 100), (500, 1_000), 1_000);
        settings.models = Provider::remote_names();
    })
    .await?;
    let mut more = provider.environment();
    for (name, value) in [
        // Polls alone: a webhook would tell of an order before its provider can be asked again.
        ("RUSHES_HOOKS_URL", ""),
        ("RUSHES_DOWNLOAD_TIMEOUT", "3s"),
        // Costs are compared at every fourth round.
        ("RUSHES_RECONCILE_INTERVAL", "2s"),
    ] {
        more.push((name, value.to_owned()));
    }
    say("starting one of each service");
    let cluster = Cluster::start(Plan { replicas: 1, logs: Some(folder.path.clone()), more }).await?;
    let pool = PgPool::connect(&cluster.database_url()).await?;
    let customer = Customer::new(&cluster, 1).await.context("making an account")?;
    let walk = Walk { cluster: &cluster, provider: &provider, pool: &pool, customer: &customer };
    let mut page = PREFACE.to_owned();
    for step in steps::ALL.iter().filter(|step| step.title.contains(&options.step)) {
        say(step.title);
        let text = walk.take(step).await.with_context(|| format!("the step {:?}", step.title))?;
        page.push_str(&format!("\n## {}\n\n{text}", step.title));
    }
    pool.close().await;
    out::print(page)?;
    Ok(Exit::Done)
}
