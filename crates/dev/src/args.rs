//! What can be typed after `cargo rushes`: what only a checkout has, and the commands of `rushes`.

use clap::{Parser, Subcommand};
use cli::args::CODES;
use cli::connection::Connection;

use crate::bench;
use crate::laboratory::Run;
use crate::test;
use crate::up;

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "rushes", bin_name = "cargo rushes", version)]
#[command(about = "The local stack of Rushes, and a client of its API", after_help = CODES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// Print JSON (as protobuf maps to it; states by name) instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build and run everything on this machine, with a small demo account; Ctrl-C ends it.
    Up(up::Options),
    /// Start what the tests need and run them all.
    Test(test::Options),
    /// Measure what the product costs beside a baseline.
    Bench(bench::Options),
    #[command(flatten)]
    Laboratory(Run),
    #[command(flatten)]
    Client(cli::args::Command),
}
