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
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// The packages that cargo compiles for `packages`, each with the sets of features that it is compiled with.
    fn compiled(packages: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
        let mut command = config::cargo();
        command.args(["tree", "--locked", "--edges", "normal,build", "--prefix", "none", "--format", "{p}|{f}"]);
        command.args(packages.iter().flat_map(|package| ["--package", package]));
        let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut compiled = BTreeMap::<String, BTreeSet<String>>::new();
        for line in String::from_utf8(output.stdout).unwrap().lines() {
            // A blank line stands between the trees of two packages.
            let Some((package, features)) = line.trim_end_matches(" (*)").split_once('|') else { continue };
            compiled.entry(package.to_owned()).or_default().insert(features.to_owned());
        }
        compiled
    }

    /// Else the first `cargo rushes up` compiles ring, sqlx, tonic and what stands on them twice.
    #[test]
    fn what_this_program_and_the_services_share_is_compiled_once() {
        let (ours, theirs) = (compiled(&["rushes-dev"]), compiled(&SERVICES));
        let twice: Vec<String> = theirs
            .iter()
            // Small, and not the same: only the simulator in this program may take its guards out.
            .filter(|(package, _)| !package.starts_with("rushes-coherence "))
            .filter_map(|(package, features)| {
                let known = ours.get(package)?;
                (!features.is_subset(known)).then(|| format!("{package}: {features:?}, here {known:?}"))
            })
            .collect();
        assert!(
            twice.is_empty(),
            "give crates/dev/Cargo.toml the features that the services want:\n{}",
            twice.join("\n")
        );
    }
}
