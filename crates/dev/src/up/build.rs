//! Running cargo for what the stack needs, in the profile that this program was built in or for release.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result};
use testkit::Process;

use crate::config;
use cli::failure::Failure;

/// The services, which are also the names of their packages and programs, in the order of starting.
pub(crate) const SERVICES: [&str; 5] =
    ["dashboard", "generation-status", "thumbnail-worker", "generation-worker", "gateway"];

/// A profile of cargo, and the folder that it builds programs into.
pub(crate) struct Profile {
    pub(crate) folder: PathBuf,
    arguments: Vec<String>,
}

impl Profile {
    /// The one of this program.
    pub(crate) fn own() -> Result<Self> {
        let folder = folder()?;
        let arguments = match folder.file_name().map(|name| name.to_string_lossy()) {
            Some(name) if name != "debug" => vec!["--profile".to_owned(), name.into_owned()],
            _ => Vec::new(),
        };
        Ok(Self { folder, arguments })
    }

    /// The one that the image is built with.
    pub(crate) fn release() -> Result<Self> {
        let folder = folder()?.parent().context("this program lies in no target folder")?.join("release");
        Ok(Self { folder, arguments: vec!["--release".to_owned()] })
    }

    /// The arguments for cargo.
    pub(crate) fn arguments(&self) -> &[String] {
        &self.arguments
    }
}

/// Builds all services at once, so that what they share is compiled once.
pub(crate) async fn services(root: &Path, profile: &Profile) -> Result<()> {
    let mut command = config::cargo();
    command.arg("build").args(profile.arguments()).current_dir(root);
    for name in SERVICES {
        command.args(["--package", name]);
    }
    let status = run(command).await?;
    if !status.success() {
        return Err(Failure::new(format!("the services do not build (cargo: {status})")).into());
    }
    Ok(())
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
fn folder() -> Result<PathBuf> {
    let program = std::env::current_exe().context("finding this program")?;
    Ok(program.parent().context("this program has no folder")?.to_owned())
}

#[cfg(test)]
mod tests;
