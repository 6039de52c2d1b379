//! Running cargo for what the stack needs, in the profile that this program was built in.

use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result};
use testkit::Process;

use crate::config;
use cli::failure::Failure;

/// The services, which are also the names of their packages and programs, in the order of starting.
pub(crate) const SERVICES: [&str; 5] =
    ["dashboard", "generation-status", "thumbnail-worker", "generation-worker", "gateway"];

/// Builds all services at once, so that what they share is compiled once.
pub(crate) async fn services(root: &Path) -> Result<()> {
    let mut command = config::cargo();
    command.arg("build").args(profile()?).current_dir(root);
    for name in SERVICES {
        command.args(["--package", name]);
    }
    let status = run(command).await?;
    if !status.success() {
        return Err(Failure::new(format!("the services do not build (cargo: {status})")).into());
    }
    Ok(())
}

/// Builds the simulated provider, by itself: it wants other features of what it shares with the services.
pub(crate) async fn provider(root: &Path) -> Result<()> {
    let mut command = config::cargo();
    command.arg("build").args(profile()?).args(["--package", "provider-double"]).current_dir(root);
    let status = run(command).await?;
    if status.success() { Ok(()) } else { Err(Failure::new("the simulated provider does not build").into()) }
}

/// Runs a cargo command with our standard output; it ends when this future is dropped.
pub(crate) async fn run(command: Command) -> Result<ExitStatus> {
    let process = Process::spawn_attached("cargo", command)?;
    loop {
        if let Some(status) = process.ended() {
            return Ok(status);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The folder that holds this program, and after a build the services.
pub(crate) fn folder() -> Result<std::path::PathBuf> {
    let program = std::env::current_exe().context("finding this program")?;
    Ok(program.parent().context("this program has no folder")?.to_owned())
}

/// The arguments for cargo to build into our own folder.
pub(crate) fn profile() -> Result<Vec<String>> {
    let folder = folder()?;
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(match name.as_str() {
        "debug" => Vec::new(),
        name => vec!["--profile".to_owned(), name.to_owned()],
    })
}

#[cfg(test)]
mod tests;
