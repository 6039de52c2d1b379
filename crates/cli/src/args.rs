//! What can be typed after `rushes`.

use clap::{Parser, Subcommand};

use crate::bench;
use crate::client;
use crate::sim;
use crate::test;
use crate::torture;
use crate::up;
use crate::work::{nemesis, sweep};

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "rushes", version, about = "The local stack of Rushes, and a client of its API", after_help = CODES)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) connection: Connection,
    /// Print JSON (as protobuf maps to it; states by name) instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const CODES: &str = "\
Client commands find the stack that `rushes up` runs, by the file .rushes/stack.json in this directory or one above.

Exit codes: 0 done, 1 failed, 2 wrong usage or refused input, 3 not found, 4 key or scope refused,
5 not reachable or too late (try again), 6 refused as things stand, 7 the generation did not complete.";

/// Where the gateway is, and who we are.
#[derive(Debug, clap::Args)]
pub(crate) struct Connection {
    /// The gateway, such as http://127.0.0.1:8080.
    #[arg(long, global = true, env = "RUSHES_ADDRESS", value_name = "URL")]
    pub(crate) address: Option<String>,
    /// The API key.
    #[arg(long, global = true, env = "RUSHES_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build and run everything on this machine, with a small demo account; Ctrl-C ends it.
    Up(up::Options),
    /// Start what the tests need and run them all.
    Test(test::Options),
    /// Measure what the product costs beside what it could cost at least.
    Bench(bench::Options),
    /// Put the cache's protocol through seeded histories with every fault, and without each of its guards.
    Sim(sim::Options),
    /// Run two of each service while everything is cut, stopped and killed, and check all that clients were answered.
    Torture(torture::Options),
    /// Make a process abort at each crash point in turn, and join the provider's bill with the books.
    CrashPoints(sweep::Options),
    /// Kill everything at random while a simulated provider cuts connections, and join its bill with the books.
    Nemesis(nemesis::Options),
    /// Bring a database up to the newest migration.
    Migrate {
        /// The database, postgres://….
        #[arg(long, env = "RUSHES_DATABASE_URL", hide_env_values = true, value_name = "URL")]
        database_url: String,
    },
    #[command(flatten)]
    Client(client::Command),
}
