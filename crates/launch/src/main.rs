//! `cargo rushes`: builds the tool, and with it the services where a command starts them, and becomes the tool.
//!
//! Invariant: tool and services are built by one call of cargo, so neither waits for the other.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use launch::{TOOL, cargo, packages, profile};

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1).collect::<Vec<_>>();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("rushes: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Comes back only with what went wrong.
fn run(arguments: &[OsString]) -> Result<ExitCode, String> {
    let program = std::env::current_exe().map_err(|error| format!("finding this program: {error}"))?;
    let folder = program.parent().ok_or("this program has no folder")?;
    let typed = arguments.iter().map(|argument| argument.to_string_lossy().into_owned()).collect::<Vec<_>>();
    let packages = packages(&typed);
    if packages.iter().any(|package| !folder.join(package).exists()) {
        let what = if packages.len() > 1 { "the tool and the services" } else { "the tool" };
        eprintln!("building {what} (cargo build; some minutes the first time)");
    }
    let mut build = cargo();
    build.arg("build").args(profile(folder)).arg("--bins");
    for package in packages {
        build.args(["--package", package]);
    }
    let status = build.status().map_err(|error| format!("running cargo: {error}"))?;
    if !status.success() {
        // cargo has said why.
        return Ok(ExitCode::FAILURE);
    }
    let error = Command::new(folder.join(TOOL)).args(arguments).exec();
    Err(format!("running {TOOL}: {error}"))
}
