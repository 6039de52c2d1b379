//! A list of hosts of a process's own: a name that has several addresses, as a headless service of Kubernetes has.
//!
//! The process gets a mount namespace in which its list lies over `/etc/hosts`. Where the kernel gives nobody one, it cannot be told.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// A list of hosts, in a file.
#[derive(Debug)]
pub(super) struct Hosts(PathBuf);

impl Hosts {
    /// Whether a process can be told hosts of its own here.
    pub(super) fn are_supported() -> bool {
        unshare().is_some()
    }

    /// A list in this folder.
    pub(super) fn write(folder: &Path, text: &str) -> Result<Self> {
        let path = folder.join("hosts");
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(Self(path))
    }

    /// Replaces the list, also for those that were told it before.
    pub(super) fn change(&self, text: &str) -> Result<()> {
        // The same file, not another of its name: that is what lies over theirs.
        std::fs::write(&self.0, text).with_context(|| format!("writing {}", self.0.display()))
    }

    /// The command that runs `program` with this list.
    pub(super) fn command(&self, program: &Path) -> Result<Command> {
        let options = unshare().context("a process cannot be told hosts of its own here")?;
        let mut command = Command::new("unshare");
        command
            .args(options)
            .args(["sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$1\""])
            .arg(&self.0)
            .arg(program);
        Ok(command)
    }
}

/// The options with which `unshare` gives a mount namespace: as root, or as the root of a namespace of its own.
fn unshare() -> Option<&'static [&'static str]> {
    const OPTIONS: [&[&str]; 2] = [&["--mount"], &["--mount", "--map-root-user"]];
    let works = |options: &&&[&str]| {
        let mut command = Command::new("unshare");
        command.args(**options).args(["sh", "-c", "mount --bind /etc/hosts /etc/hosts"]);
        let ended = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        ended.is_ok_and(|status| status.success())
    };
    OPTIONS.iter().find(works).copied()
}
