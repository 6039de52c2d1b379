//! What a running local stack tells the client commands: the file `.rushes/stack.json`, readable by its owner only.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// A running local stack.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stack {
    /// The gateway.
    pub address: String,
    /// The demo account's API key.
    pub api_key: String,
    /// The process that runs it.
    pub pid: u32,
    /// Where each service's public methods are, by its name.
    pub services: BTreeMap<String, String>,
    /// Where each service's internal methods are, by its name.
    pub internal: BTreeMap<String, String>,
    /// Where each service's metrics and profiles are, by its name.
    #[serde(default)]
    pub admin: BTreeMap<String, String>,
    /// The keys that the services share.
    pub internal_keys: String,
    /// Where spans are sent, when they are.
    pub otlp: Option<String>,
    /// Where the recent traces can be asked for; `None` when something else collects them.
    pub traces: Option<Traces>,
    /// The address of Jaeger's pages, when `up` started one.
    pub jaeger: Option<String>,
}

/// The recent-trace buffer of a local stack.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Traces {
    /// Host and port.
    pub address: String,
    /// Proves that the asker could read this file.
    pub token: String,
}

impl Stack {
    /// The stack of this directory or the nearest one above that has one.
    pub fn find() -> Result<Option<Self>> {
        let here = std::env::current_dir().context("reading the current directory")?;
        let Some(path) = here.ancestors().map(path_in).find(|path| path.is_file()) else { return Ok(None) };
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text)
            .map(Some)
            .with_context(|| format!("{} is damaged; run `cargo rushes up`", path.display()))
    }
}

/// Where the file is below `root`.
#[must_use]
pub fn path_in(root: &Path) -> PathBuf {
    root.join(".rushes/stack.json")
}
