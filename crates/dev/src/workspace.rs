//! Where the checkout is.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The checkout that the current directory is in: the nearest one above with our migrations.
pub(crate) fn root() -> Result<PathBuf> {
    let here = std::env::current_dir().context("reading the current directory")?;
    here.ancestors()
        .find(|folder| folder.join("Cargo.toml").is_file() && folder.join("crates/dev/Cargo.toml").is_file())
        .map(Path::to_owned)
        .context("not in a checkout of Rushes: run this from the directory that was cloned")
}

/// The directory of the local stack: data, logs, keys. Made when missing, closed to other users.
pub(crate) fn home(root: &Path) -> Result<PathBuf> {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    let home = root.join(".rushes");
    if !home.is_dir() {
        let making = || format!("making {}", home.display());
        std::fs::DirBuilder::new().mode(0o711).create(&home).with_context(making)?;
        // Others may pass (PostgreSQL runs as another user when we are root) and not look.
        std::fs::set_permissions(&home, std::fs::Permissions::from_mode(0o711)).with_context(making)?;
    }
    Ok(home)
}
