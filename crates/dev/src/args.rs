//! What can be typed after `cargo rushes`: what only a checkout has, and the commands of `rushes`.

use clap::{Parser, Subcommand};
use cli::args::CODES;
use cli::connection::Connection;
use lab::{crash_points, nemesis, siege, torture, walk};

use crate::bench;
use crate::sim;
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
    /// Put the cache's protocol through seeded histories with every fault, and without each of its guards.
    Sim(sim::Options),
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
    #[command(flatten)]
    Client(cli::args::Command),
}
