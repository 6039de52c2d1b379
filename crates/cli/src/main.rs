//! `rushes`: brings up the local stack, migrates, tests, and is a client of the gateway.
//!
//! Invariant: what is asked for goes to standard output, everything else to standard error, and the exit code says how it
//! went (see [`failure::Exit`]).

mod args;
mod bench;
mod client;
mod config;
mod failure;
mod json;
mod out;
mod show;
mod sim;
mod stack;
mod stage;
mod test;
mod torture;
mod up;
mod work;
mod workspace;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::args::{Args, Command};
use crate::failure::{Exit, Failure};

// The services' allocator: `bench` measures floors that run in this program beside them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::new(format!("the runtime does not start: {error}")).report(args.json),
    };
    let json = args.json;
    let outcome = runtime.block_on(run(args));
    // A server that was still starting when Ctrl-C came is ended by the thread that starts it.
    runtime.shutdown_timeout(Duration::from_secs(20));
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) if out::is_unread(&error) => Exit::Done.into(),
        Err(error) => Failure::from(error).report(json),
    }
}

async fn run(args: Args) -> anyhow::Result<Exit> {
    match args.command {
        Command::Up(options) => up::run(options).await,
        Command::Test(options) => test::run(options).await,
        Command::Bench(options) => bench::run(options, args.json).await,
        Command::Torture(options) => torture::run(options, args.json).await,
        Command::CrashPoints(options) => work::sweep::run(options, args.json).await,
        Command::Nemesis(options) => work::nemesis::run(options, args.json).await,
        Command::Sim(options) => self::sim::run(options, args.json).await,
        Command::Migrate { database_url } => {
            schema::migrate(&database_url).await?;
            out::print(format_args!("the database is at migration {}\n", schema::newest().unwrap_or_default()))?;
            Ok(Exit::Done)
        }
        Command::Client(command) => client::run(command, args.connection, args.json).await,
    }
}
