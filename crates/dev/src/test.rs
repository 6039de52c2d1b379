//! `rushes test`: one PostgreSQL for all test processes, then `cargo test`, then nothing is left.

use anyhow::{Context, Result};
use testkit::{Postgres, Signals};

use crate::up::install::{self, Server};
use crate::up::{build, say::Say};
use crate::workspace;
use cli::failure::Exit;
use cli::out;

/// How to run the tests.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Never install a server that is missing.
    #[arg(long)]
    no_install: bool,
    /// An existing PostgreSQL whose role may create databases, instead of a private server.
    #[arg(long, env = "RUSHES_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    database_url: Option<String>,
    /// For `cargo test`; without --package all crates are tested.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    args: Vec<String>,
}

/// Runs the tests; their exit code is ours.
pub(crate) async fn run(options: Options) -> Result<Exit> {
    let mut signals = Signals::listen()?;
    let mut work = Box::pin(test(options));
    tokio::select! {
        outcome = &mut work => outcome,
        () = signals.next() => {
            out::warn("ending the tests");
            Ok(Exit::Failed)
        }
    }
}

async fn test(options: Options) -> Result<Exit> {
    let say = Say::new();
    let root = workspace::root()?;
    install::ensure(&Server::ALL, !options.no_install, &say).await?;
    let mut command = launch::cargo();
    command.arg("test").args(build::Profile::own()?.arguments()).current_dir(&root);
    if !options.args.iter().any(|arg| arg == "-p" || arg.starts_with("--package")) {
        command.arg("--workspace");
    }
    command.args(&options.args);
    let _postgres = match options.database_url {
        Some(url) => {
            command.env("RUSHES_DATABASE_URL", url);
            None
        }
        None => {
            say.step("starting a PostgreSQL for the tests");
            let postgres = Postgres::launch().await.context("PostgreSQL does not start")?;
            command.env("RUSHES_DATABASE_URL", postgres.url());
            Some(postgres)
        }
    };
    say.step("running the tests (cargo test)");
    let status = build::run(command).await?;
    say.step(format!("the tests have ended: {status}"));
    Ok(if status.success() { Exit::Done } else { Exit::Failed })
}
