//! What can be typed after `rushes`, and what another program with these commands takes from here.

use clap::{Parser, Subcommand};

use crate::client;
use crate::connection::Connection;

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "rushes", version, about = "A client of Rushes, and the migrator of its database", after_help = CODES)]
pub struct Args {
    /// Where the gateway is, and who we are.
    #[command(flatten)]
    pub connection: Connection,
    /// Print JSON (as protobuf maps to it; states by name) instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    /// What is to be done.
    #[command(subcommand)]
    pub command: Command,
}

/// What the help of each program with these commands ends with.
pub const CODES: &str = "\
Client commands find the stack that `cargo rushes up` runs, by the file .rushes/stack.json in this directory or one above.

Exit codes: 0 done, 1 failed, 2 wrong usage or refused input, 3 not found, 4 key or scope refused,
5 not reachable or too late (try again), 6 refused as things stand, 7 the generation did not complete, 130 Ctrl-C came first.";

/// The commands.
#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "one is made in a run")]
pub enum Command {
    /// Bring a database up to the newest migration.
    Migrate {
        /// The database, postgres://….
        #[arg(long, env = "RUSHES_DATABASE_URL", hide_env_values = true, value_name = "URL")]
        database_url: String,
    },
    /// What a client of the gateway asks for.
    #[command(flatten)]
    Client(client::Command),
}
