//! The environment beyond what `clap` reads for an option.

use std::process::Command;

/// The cargo that ran us, else the one on the PATH, without what `cargo run` told this program about itself: `ring` and
/// what stands on it would be compiled again for every change of that.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let of_this_program = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| of_this_program.iter().any(|start| name.starts_with(start))) {
            command.env_remove(name);
        }
    }
    command
}
