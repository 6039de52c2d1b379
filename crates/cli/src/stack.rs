//! What a running local stack tells the client commands: the file `.rushes/stack.json`, readable by its owner only.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// A running local stack.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stack {
    /// The gateway.
    pub(crate) address: String,
    /// The demo account's API key.
    pub(crate) api_key: String,
    /// The process that runs it.
    pub(crate) pid: u32,
    /// Where each service's internal gRPC is, by its name.
    pub(crate) services: BTreeMap<String, String>,
    /// Where spans are sent, when they are.
    pub(crate) otlp: Option<String>,
    /// Where the recent traces can be asked for; `None` when something else collects them.
    pub(crate) traces: Option<Traces>,
    /// The address of Jaeger's pages, when `up` started one.
    pub(crate) jaeger: Option<String>,
}

/// The recent-trace buffer of a local stack.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Traces {
    /// Host and port.
    pub(crate) address: String,
    /// Proves that the asker could read this file.
    pub(crate) token: String,
}

impl Stack {
    /// The stack of this directory or the nearest one above that has one.
    pub(crate) fn find() -> Result<Option<Self>> {
        let here = std::env::current_dir().context("reading the current directory")?;
        let Some(path) = here.ancestors().map(path_in).find(|path| path.is_file()) else { return Ok(None) };
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text).map(Some).with_context(|| format!("{} is damaged; run `rushes up`", path.display()))
    }

    /// Writes the file below `root`; it goes when the guard is dropped.
    pub(crate) fn publish(&self, root: &Path) -> Result<Published> {
        let path = path_in(root);
        write_private(&path, &serde_json::to_string_pretty(self)?)?;
        Ok(Published { path })
    }
}

fn path_in(root: &Path) -> PathBuf {
    root.join(".rushes/stack.json")
}

/// Removes the file of a stack that ends.
#[must_use]
pub(crate) struct Published {
    path: PathBuf,
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
