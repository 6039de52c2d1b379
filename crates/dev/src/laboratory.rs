//! `cargo rushes torture`, `crash-points`, `nemesis` and the like: what a run needs is installed and built, then the laboratory's
//! own program runs with the arguments that were typed.
//!
//! Invariants: this program contains nothing of the laboratory, so the first `up` compiles none of it; progress goes to standard
//! error, and the result alone to standard output.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use cli::failure::Exit;
use testkit::unless_ended;

use crate::up::build;
use crate::up::install::{self, Server};
use crate::up::say::Say;
use crate::workspace;

/// The package of the laboratory's program, which is also its name.
const LABORATORY: &str = "rushes-lab";

/// The laboratory's runs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Run {
    /// Put the cache's protocol through seeded histories with every fault, and without each of its guards.
    Sim(Arguments),
    /// Run two of each service while everything is cut, stopped and killed, and check all that clients were answered.
    Torture(Arguments),
    /// Attack from some accounts in every way, and look at what another account feels of it.
    Siege(Arguments),
    /// Make a process abort at each crash point in turn, and join the provider's bill with the books.
    CrashPoints(Arguments),
    /// Kill everything at random while a simulated provider cuts connections, and join its bill with the books.
    Nemesis(Arguments),
    /// Meet each mishap of an operator on real processes, and print the page that shows what is seen of it.
    Walk(Arguments),
}

/// What goes on to the laboratory's program, `--help` as well.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
    arguments: Vec<String>,
}

impl Run {
    /// Its name, and what was typed behind it.
    fn into_parts(self) -> (&'static str, Vec<String>) {
        match self {
            Self::Sim(typed) => ("sim", typed.arguments),
            Self::Torture(typed) => ("torture", typed.arguments),
            Self::Siege(typed) => ("siege", typed.arguments),
            Self::CrashPoints(typed) => ("crash-points", typed.arguments),
            Self::Nemesis(typed) => ("nemesis", typed.arguments),
            Self::Walk(typed) => ("walk", typed.arguments),
        }
    }
}

/// Prepares and runs; the exit code is that of the laboratory's program.
pub(crate) async fn run(run: Run, json: bool) -> Result<Exit> {
    let (name, typed) = run.into_parts();
    let arguments = [name.to_owned()].into_iter().chain(json.then(|| "--json".to_owned())).chain(typed).collect();
    Ok(unless_ended(prepare_and_run(arguments)).await?.unwrap_or(Exit::Failed))
}

async fn prepare_and_run(arguments: Vec<String>) -> Result<Exit> {
    let say = Say::new();
    let root = workspace::root()?;
    let profile = build::Profile::own()?;
    let asks_for_help = arguments.iter().any(|argument| matches!(argument.as_str(), "--help" | "-h"));
    // The simulator is rules alone: no server, no service.
    if !asks_for_help && arguments[0] != "sim" {
        install::ensure(&Server::ALL, true, &say).await?;
        say.step("building the services");
        build::services(&root, &profile).await?;
    }
    say.step("building the laboratory");
    // By themselves: they want other features of what they share with the services.
    let mut command = launch::cargo();
    command.arg("build").args(profile.arguments()).current_dir(&root);
    command.args(["--package", LABORATORY, "--package", "provider-double", "--bins"]);
    ensure!(build::run(command).await?.success(), "the laboratory does not build; its messages are above");
    let program = profile.folder.join(LABORATORY);
    let mut command = Command::new(&program);
    command.args(arguments);
    let status = build::run(command).await.with_context(|| format!("running {}", program.display()))?;
    Ok(match status.code() {
        Some(0) => Exit::Done,
        Some(code) if code == Exit::Usage as i32 => Exit::Usage,
        _ => Exit::Failed,
    })
}
