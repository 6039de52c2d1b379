//! Builds everything for release and hands over to the program that was built, since a development build measures nothing
//! but itself.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use testkit::unless_ended;

use super::progress::say;
use crate::up::build;
use crate::workspace;
use cli::failure::Exit;

/// Builds the services and this program for release, and runs the latter with the arguments that this one got.
pub(super) async fn hand_over() -> Result<Exit> {
    Ok(unless_ended(build_and_run()).await?.unwrap_or(Exit::Failed))
}

async fn build_and_run() -> Result<Exit> {
    say("cargo build --release of every service; the first takes more than ten minutes on two cores");
    // The services and what measures the cache by themselves, as the image has them.
    let measured = [&build::SERVICES[..], &["rushes-cache"]].concat();
    for packages in [&measured[..], &["rushes-dev"]] {
        let mut command = launch::cargo();
        command.args(["build", "--release", "--bins"]).current_dir(workspace::root()?);
        command.args(packages.iter().flat_map(|name| ["--package", name]));
        ensure!(build::run(command).await?.success(), "the release build failed; its messages are above");
    }
    let program = program()?;
    let mut command = Command::new(&program);
    command.args(std::env::args_os().skip(1));
    let status = build::run(command).await.with_context(|| format!("running {}", program.display()))?;
    Ok(if status.success() { Exit::Done } else { Exit::Failed })
}

/// This program as it is built for release: beside the folder that this one lies in, wherever that is.
fn program() -> Result<PathBuf> {
    let program = build::Profile::release()?.folder.join("rushes-dev");
    ensure!(program.is_file(), "the release build made no {}", program.display());
    Ok(program)
}
