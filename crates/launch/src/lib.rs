//! What the launcher and the tool both know of cargo: the services, the profile, and how cargo is called.
//!
//! Invariant: this crate depends on nothing, so it is there before anything else is compiled.

use std::path::Path;
use std::process::Command;

/// The services, which are also the names of their packages and programs, in the order of starting.
pub const SERVICES: [&str; 5] = ["dashboard", "generation-status", "thumbnail-worker", "generation-worker", "gateway"];

/// The package of the tool, which is also the name of its program.
pub const TOOL: &str = "rushes-dev";

/// The cargo that ran us, else the one on the PATH, without what `cargo run` told this program about itself: `ring` and
/// what stands on it would be compiled again for every change of that.
#[must_use]
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let of_this_program = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| of_this_program.iter().any(|start| name.starts_with(start))) {
            command.env_remove(name);
        }
    }
    command
}

/// The arguments of cargo for the profile whose programs lie in `folder`.
#[must_use]
pub fn profile(folder: &Path) -> Vec<String> {
    match folder.file_name().map(|name| name.to_string_lossy()) {
        Some(name) if name != "debug" => vec!["--profile".to_owned(), name.into_owned()],
        _ => Vec::new(),
    }
}

/// The packages that the tool's command with these arguments runs: itself, and the services where it starts them.
#[must_use]
pub fn packages(arguments: &[String]) -> Vec<&'static str> {
    let asks = |flags: &[&str]| arguments.iter().any(|argument| flags.contains(&argument.as_str()));
    let command = arguments.iter().find(|argument| !argument.starts_with('-')).map(String::as_str);
    let starts_services = match command {
        // Optimized ones are built by the tool, in their own profile.
        Some("up") => !asks(&["--release"]),
        Some("torture" | "siege" | "crash-points" | "nemesis" | "walk") => true,
        _ => false,
    };
    let services = if starts_services && !asks(&["--help", "-h"]) { &SERVICES[..] } else { &[] };
    [TOOL].into_iter().chain(services.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Vec<&'static str> {
        packages(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_services_are_built_with_the_tool_where_it_starts_them() {
        for line in ["up", "up --fresh", "--json torture --minutes 1", "siege --short", "nemesis", "crash-points"] {
            assert_eq!(of(line).len(), 1 + SERVICES.len(), "{line}");
        }
        for line in ["", "--help", "up --release", "up --help", "siege -h", "test -p gateway", "dashboard", "sim"] {
            assert_eq!(of(line), [TOOL], "{line}");
        }
    }

    #[test]
    fn a_profile_is_that_of_the_folder() {
        assert_eq!(profile(Path::new("/x/target/debug")), Vec::<String>::new());
        assert_eq!(profile(Path::new("/x/target/release")), ["--profile", "release"]);
    }
}
