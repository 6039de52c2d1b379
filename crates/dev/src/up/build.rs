//! Running cargo for what the stack needs, in the profile that this program was built in or for release.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result};
use testkit::Process;

use cli::failure::Failure;

pub(crate) use launch::SERVICES;

/// A profile of cargo, and the folder that it builds programs into.
pub(crate) struct Profile {
    pub(crate) folder: PathBuf,
    arguments: Vec<String>,
}

impl Profile {
    /// The one of this program.
    pub(crate) fn own() -> Result<Self> {
        let folder = folder()?;
        let arguments = launch::profile(&folder);
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

/// Builds all services at once, so that what they share is compiled once. In the profile of this program the launcher has done so.
pub(crate) async fn services(root: &Path, profile: &Profile) -> Result<()> {
    let mut command = launch::cargo();
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
