//! The laboratory's program. `cargo rushes` (`crates/dev`) installs and builds what it runs and passes its arguments to it.
//!
//! Invariant: progress goes to standard error, and the result alone to standard output.

mod simulator;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::{Parser, Subcommand};
use cli::failure::Exit;
use cli::out;
use lab::{crash_points, nemesis, siege, torture, walk};
use testkit::unless_ended;

// The services' allocator; the simulator lives on small values.
#[global_allocator]
static ALLOCATOR: chassis::process::Allocator = chassis::process::Allocator;

/// The product on real processes while everything fails, and checks of what came of it.
#[derive(Debug, Parser)]
#[command(name = "rushes-lab", bin_name = "cargo rushes", version)]
struct Args {
    /// Print one JSON object instead of text.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    run: Run,
}

/// The runs.
#[derive(Debug, Subcommand)]
enum Run {
    /// Put the cache's protocol through seeded histories with every fault, and without each of its guards.
    Sim(simulator::Options),
    /// Run two of each service while everything is cut, stopped and killed, and check all that clients were answered.
    Torture(torture::Options),
    /// Attack from some accounts in every way, and look at what another account feels of it.
    Siege(siege::Options),
    /// Make a process abort at each crash point in turn, and join the provider's bill with the books.
    CrashPoints(crash_points::Options),
    /// Kill everything at random while a simulated provider cuts connections, and join its bill with the books.
    Nemesis(nemesis::Options),
    /// Meet each mishap of an operator on real processes, and print the page that shows what is seen of it.
    Walk(walk::Options),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let json = args.json;
    cli::complete(async move { Ok(Box::pin(unless_ended(run(args.run, json))).await?.unwrap_or(Exit::Failed)) }, json)
}

async fn run(run: Run, json: bool) -> Result<Exit> {
    let began = Instant::now();
    let progress = |what: &str| out::warn(format_args!("{:>6.1} s  {what}", began.elapsed().as_secs_f64()));
    match run {
        Run::Sim(options) => simulator::run(options, json).await,
        Run::Torture(options) => torture::run(&options, json, &progress).await,
        Run::Siege(options) => siege::run(&options, json, &progress).await,
        Run::CrashPoints(options) => crash_points::run(&options, json, &progress).await,
        Run::Nemesis(options) => nemesis::run(&options, json, &progress).await,
        Run::Walk(options) => walk::run(&options, &progress).await,
    }
}
