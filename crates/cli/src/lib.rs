//! The commands of `rushes`, for that program and for others that contain them: a client of the gateway, and the migrator.
//!
//! Invariant: what is asked for goes to standard output, everything else to standard error, and the exit code says how it
//! went (see [`failure::Exit`]).

pub mod args;
pub mod buffer;
mod client;
mod config;
pub mod connection;
pub mod failure;
mod flame;
mod json;
pub mod out;
pub mod show;
pub mod stack;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use crate::args::Command;
use crate::connection::Connection;
use crate::failure::{Exit, Failure};

/// Runs one command.
pub async fn run(command: Command, connection: Connection, json: bool) -> Result<Exit> {
    match command {
        Command::Migrate { database_url } => {
            let roles = schema::migrate(&database_url).await?;
            let migration = schema::newest().unwrap_or_default();
            if json {
                json::print_value(&serde_json::json!({ "migration": migration, "missing_roles": roles.missing }))?;
            } else {
                out::print(format_args!("the database is at migration {migration}\n"))?;
            }
            if !roles.missing.is_empty() {
                // No failure: as the tables' owner every service works.
                out::warn(format_args!(
                    "this user may not create the roles {}: services can only connect as the owner until somebody has, and `rushes \
                     migrate` has run again",
                    roles.missing.join(", ")
                ));
            }
            Ok(Exit::Done)
        }
        Command::Client(command) => client::run(command, connection, json).await,
    }
}

/// Does `work` on a runtime of its own, reports what went wrong, and gives the exit code: all that is left to do for a `main`.
pub fn complete(work: impl Future<Output = Result<Exit>>, json: bool) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::new(format!("the runtime does not start: {error}")).report(json),
    };
    let outcome = runtime.block_on(work);
    // A server that was still starting when Ctrl-C came is ended by the thread that starts it.
    runtime.shutdown_timeout(Duration::from_secs(20));
    match outcome {
        Ok(exit) => exit.into(),
        Err(error) if out::is_unread(&error) => Exit::Done.into(),
        Err(error) => Failure::from(error).report(json),
    }
}
