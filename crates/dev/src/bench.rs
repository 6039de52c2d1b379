//! `cargo rushes bench`: what the product costs, each figure beside its baseline in the same run.
//!
//! Invariant: ours and the baseline are measured in turns (A B A B) in one run on one machine, and what counts is their ratio
//! with its spread over the rounds, since absolute figures say more about the machine than about the code. The measuring
//! process, the services and the baselines are all release builds; a development build builds them and hands over.

mod backends;
mod baseline;
mod batched;
mod cache;
mod chain;
mod change;
mod cold;
mod cold_cpu;
mod database;
mod decoding;
mod depth;
mod hosts;
mod idle;
mod load;
mod misses;
mod node;
mod page;
mod picture;
mod plot;
mod process;
mod progress;
mod release;
mod replicas;
mod report;
mod seed;
mod services;
mod setup;
mod sizes;
mod statements;
mod thumbnail;
mod users;
mod warm;
mod watches;

use anyhow::{Context as _, Result, ensure};
use testkit::Signals;

use self::database::BenchDatabase;
use self::progress::say;
use self::report::{Findings, Report};
use self::seed::Plan;
use self::services::Services;
pub(crate) use self::setup::Options;
use self::setup::{Bench, Part};
use cli::failure::Exit;
use cli::out;

/// Builds what is to be measured, measures it, and prints the table (or with `json` one object) to standard output.
pub(crate) async fn run(options: Options, json: bool) -> Result<Exit> {
    if let Some(role) = options.baseline {
        chain::serve(role).await?;
        return Ok(Exit::Done);
    }
    ensure!(cfg!(target_os = "linux"), "rushes bench reads CPU times and memory from /proc, so it runs on Linux only");
    if cfg!(debug_assertions) && !options.built {
        return release::hand_over().await;
    }
    let mut signals = Signals::listen()?;
    let page = options.html.clone();
    tokio::select! {
        report = measure(options) => {
            let report = report?;
            if let Some(path) = page {
                let page = page::html(&report)?;
                std::fs::write(&path, page).with_context(|| format!("writing {}", path.display()))?;
            }
            if json {
                out::warn(report.table());
                out::print(format_args!("{}\n", report.json()?))?;
            } else {
                out::print(format_args!("{}\n", report.table()))?;
            }
            for missing in &report.missing {
                say(missing);
            }
            Ok(if report.missing.is_empty() { Exit::Done } else { Exit::Failed })
        }
        () = signals.next() => {
            say("interrupted; ending what was started");
            Ok(Exit::Failed)
        }
    }
}

async fn measure(options: Options) -> Result<Report> {
    let options = options.resolved();
    let plan = Plan::of(options.generations, options.seed)?;
    say("starting a PostgreSQL with its normal settings, Redis and NATS");
    let database = BenchDatabase::start().await?;
    let seeded = seed::fill(&plan, &database).await?;
    let parts: Vec<Part> = <Part as clap::ValueEnum>::value_variants()
        .iter()
        .copied()
        .filter(|part| options.only.is_empty() || options.only.contains(part))
        .collect();
    let services = Services::start(&database, |name| parts.iter().any(|part| part.needs().contains(&name))).await?;
    let mut report = Report::about(&plan, &database).await?;
    let bench = Bench { options, plan, seeded, services, database };
    for part in parts {
        // What was measured is reported even when something else cannot be.
        match measure_part(&bench, part).await {
            Ok(found) => {
                report.rows.extend(found.rows);
                report.plots.extend(found.plots);
            }
            Err(error) => report.missing.push(format!("{part:?} could not be measured: {error:#}")),
        }
    }
    bench.services.end().await;
    Ok(report)
}

async fn measure_part(bench: &Bench, part: Part) -> Result<Findings> {
    match part {
        Part::Idle => {
            let mut rows = idle::measure(bench).await?;
            rows.extend(sizes::measure(bench)?);
            Ok(rows.into())
        }
        Part::Cold => {
            let mut rows = cold::measure(bench).await?;
            rows.extend(cold_cpu::measure(bench).await?);
            Ok(rows.into())
        }
        Part::Depth => depth::measure(bench).await,
        Part::Warm => warm::measure(bench).await,
        Part::Misses => misses::measure(bench).await.map(Findings::from),
        Part::Change => change::measure(bench).await.map(Findings::from),
        Part::Thumbnail => thumbnail::measure(bench).await.map(Findings::from),
        Part::Decoding => decoding::measure(bench).await.map(Findings::from),
        Part::Users => users::measure(bench).await,
        Part::Replicas => replicas::measure(bench).await.map(Findings::from),
        Part::Watches => watches::measure(bench).await,
        Part::Cache => cache::measure(bench).await.map(Findings::from),
    }
}
