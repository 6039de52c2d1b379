//! `rushes`: the program that customers and pods get; `rushes_cli` has all that it does.

use std::process::ExitCode;

use clap::Parser;
use rushes_cli::args::Args;

fn main() -> ExitCode {
    let Args { connection, json, command } = Args::parse();
    rushes_cli::complete(rushes_cli::run(command, connection, json), json)
}
