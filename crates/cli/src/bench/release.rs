//! Builds everything for release and hands over to the program that was built, since a development build measures nothing
//! but itself.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::say;
use crate::failure::Exit;
use crate::{config, workspace};

/// Builds the services and this program for release, and runs the latter with the arguments that this one got.
pub(super) async fn hand_over() -> Result<Exit> {
    tokio::task::spawn_blocking(|| {
        let program = build()?;
        say(&format!("handing over to {}", program.display()));
        let mut command = Command::new(&program);
        command.args(std::env::args_os().skip(1));
        // In our own process group: a Ctrl-C reaches both, and we wait for the other to clean up.
        let status = command.status().with_context(|| format!("running {}", program.display()))?;
        Ok(if status.success() { Exit::Done } else { Exit::Failed })
    })
    .await
    .context("the release build panicked")?
}

fn build() -> Result<PathBuf> {
    let root = workspace::root()?;
    say("cargo build --release of every service; the first takes more than ten minutes on two cores");
    let status = Command::new(config::cargo())
        .args(["build", "--release", "--workspace", "--bins"])
        .current_dir(root)
        .stdout(std::io::stderr())
        .status()
        .context("running cargo")?;
    ensure!(status.success(), "the release build failed; its messages are above");
    // Beside the directory that this program was built into, wherever that is.
    let here = std::env::current_exe().context("finding this program")?;
    let target =
        here.parent().and_then(|folder| folder.parent()).context("this program lies in no target directory")?;
    let program = target.join("release").join("rushes");
    ensure!(program.is_file(), "the release build made no {}", program.display());
    Ok(program)
}
