//! `cargo rushes`: brings up the local stack, tests and measures it, runs the laboratory, and has the client's commands.
//!
//! Invariant: what ships is `rushes` (`crates/cli`); this program is for a checkout, and is in no image.

mod args;
mod bench;
mod laboratory;
mod test;
mod up;
mod workspace;

use std::process::ExitCode;

use clap::Parser;
use cli::failure::{Exit, Failure};

use crate::args::{Args, Command};

// The services' allocator: `bench` measures baselines that run in this program beside them.
#[global_allocator]
static ALLOCATOR: chassis::process::Allocator = chassis::process::Allocator;

fn main() -> ExitCode {
    let args = Args::parse();
    let json = args.json;
    cli::complete(run(args), json)
}

async fn run(args: Args) -> anyhow::Result<Exit> {
    if args.json && matches!(args.command, Command::Up(_) | Command::Test(_)) {
        return Err(Failure::new("`up` and `test` have no result to print as JSON").exit(Exit::Usage).into());
    }
    match args.command {
        Command::Up(options) => up::run(options).await,
        Command::Test(options) => test::run(options).await,
        Command::Bench(options) => bench::run(options, args.json).await,
        Command::Laboratory(run) => laboratory::run(run, args.json).await,
        Command::Client(command) => cli::run(command, args.connection, args.json).await,
    }
}
