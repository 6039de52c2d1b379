//! `rushes bench`: what the product costs, each figure beside its floor in the same run.
//!
//! Invariant: ours and the floor are measured in turns (A B A B) in one run on one machine, and what counts is their ratio
//! with its spread over the rounds, since absolute figures say more about the machine than about the code. The measuring
//! process, the services and the floors are all release builds; a development build builds them and hands over.

mod backends;
mod bytes;
mod cache;
mod chain;
mod change;
mod cold;
mod database;
mod depth;
mod floor;
mod load;
mod memory;
mod misses;
mod picture;
mod process;
mod release;
mod report;
mod seed;
mod services;
mod statements;
mod thumbnail;
mod warm;

use anyhow::{Result, ensure};

use self::database::BenchDatabase;
use self::report::{Report, Row};
use self::seed::{Plan, Seeded};
use self::services::Services;
use crate::up::signals::Signals;
use cli::failure::Exit;

/// What to measure, and on how much data.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How many generations to seed; the goals are meant for 1,000,000 or more.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(seed::FEWEST..=100_000_000))]
    generations: u64,
    /// What the seeded data is drawn from; the same seed gives the same data.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How often ours and the floor take turns in each row.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Measure these parts only, separated by commas.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Use the programs that lie beside this one, whatever they were built with.
    #[arg(long, hide = true)]
    built: bool,
    #[command(subcommand)]
    floor: Option<chain::Role>,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Resident memory of each service, idle.
    Memory,
    /// A dashboard nobody asked for before, against a hand-written statement and against three queries over history.
    Cold,
    /// The same account with few and with many generations a scene.
    Depth,
    /// Dashboard and status from the cache, through both hops, against a bare chain.
    Warm,
    /// Many callers of one key that is not cached.
    Misses,
    /// A committed change of status, against a plain update.
    Change,
    /// A thumbnail of a large picture.
    Thumbnail,
    /// What the coherent cache's protocol costs.
    Cache,
}

impl Part {
    /// The services that it is measured on.
    fn needs(self) -> &'static [&'static str] {
        match self {
            Self::Memory => &services::USUAL,
            Self::Cold | Self::Depth | Self::Misses => &["dashboard"],
            Self::Warm => &["dashboard", "generation-status", "gateway"],
            Self::Change => &["generation-status"],
            Self::Thumbnail => &["thumbnail-worker"],
            Self::Cache => &[],
        }
    }
}

/// What every part measures on.
struct Bench {
    options: Options,
    plan: Plan,
    seeded: Seeded,
    // Ended before what they are connected to.
    services: Services,
    database: BenchDatabase,
}

/// Builds what is to be measured, measures it, and prints the table (or with `json` one object) to standard output.
pub(crate) async fn run(options: Options, json: bool) -> Result<Exit> {
    if let Some(role) = options.floor {
        chain::serve(role).await?;
        return Ok(Exit::Done);
    }
    ensure!(cfg!(target_os = "linux"), "rushes bench reads CPU times and memory from /proc, so it runs on Linux only");
    if cfg!(debug_assertions) && !options.built {
        return release::hand_over().await;
    }
    let mut signals = Signals::listen()?;
    tokio::select! {
        report = measure(options) => {
            let report = report?;
            if json {
                eprintln!("{}", report.table());
                println!("{}", report.json()?);
            } else {
                println!("{}", report.table());
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
        // What was measured is told even when something else cannot be.
        match bench.measure(part).await {
            Ok(rows) => report.rows.extend(rows),
            Err(error) => report.missing.push(format!("{part:?} could not be measured: {error:#}")),
        }
    }
    bench.services.end().await;
    Ok(report)
}

impl Bench {
    async fn measure(&self, part: Part) -> Result<Vec<Row>> {
        match part {
            Part::Memory => memory::measure(self).await,
            Part::Cold => cold::measure(self).await,
            Part::Depth => depth::measure(self).await,
            Part::Warm => warm::measure(self).await,
            Part::Misses => misses::measure(self).await,
            Part::Change => change::measure(self).await,
            Part::Thumbnail => thumbnail::measure(self).await,
            Part::Cache => cache::measure(self).await,
        }
    }
}

/// Tells on standard error what is being done.
fn say(what: &str) {
    eprintln!("bench: {what}");
}
