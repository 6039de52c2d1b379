//! The file that tells client commands of the running stack (`cli::stack`): written when the stack is up, gone when it ends.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cli::stack::{Stack, path_in};

/// Removes the file of a stack that ends.
#[must_use]
pub(crate) struct Published {
    path: PathBuf,
}

impl Published {
    /// Writes the file of `stack` below `root`; it goes when this value is dropped.
    pub(crate) fn write(stack: &Stack, root: &Path) -> Result<Self> {
        let path = path_in(root);
        write_private(&path, &serde_json::to_string_pretty(stack)?)?;
        Ok(Self { path })
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Puts `text` in the place of the file `path` at once, with mode 600.
pub(crate) fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let draft = path.with_extension("draft");
    let writing = || format!("writing {}", draft.display());
    let _ = std::fs::remove_file(&draft);
    let mut file =
        std::fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&draft).with_context(writing)?;
    file.write_all(text.as_bytes()).with_context(writing)?;
    std::fs::rename(&draft, path).with_context(|| format!("writing {}", path.display()))
}
