//! The folder of a run: logs, the bill, videos. One that was not asked for goes with the run.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A folder for a run.
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    kept: bool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept {
            // It lies in the temporary directory.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// The folder given, or a temporary one.
pub(crate) fn folder_of_run(given: Option<&Path>) -> Result<Folder> {
    let temporary = || std::env::temp_dir().join(format!("rushes-run-{}", uuid::Uuid::now_v7().simple()));
    let folder = Folder { path: given.map_or_else(temporary, Path::to_owned), kept: given.is_some() };
    std::fs::create_dir_all(&folder.path).context("making a folder for the run")?;
    Ok(folder)
}
