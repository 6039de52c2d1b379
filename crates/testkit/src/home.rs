//! The directory of one server: temporary (removed with the server) or kept.
//!
//! Invariant: what root writes lies where only root can put a link; the server's user owns its own directory and no more.

use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::owner::Owner;
use crate::watchdog;

/// A server's directory, private to the user that the server runs as.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    log: PathBuf,
    /// The directory around `path` to remove with this value.
    temporary: Option<PathBuf>,
}

impl Home {
    /// A new empty directory that goes when this value is dropped, or when the process ends in any way.
    pub(crate) fn temporary(what: &str, owner: Option<Owner>) -> Result<Self> {
        let around = std::env::temp_dir().join(format!("rushes-{what}-{:016x}", fastrand::u64(..)));
        create(&around, 0o711, None)?;
        watchdog::remove_at_end(&around)?;
        let path = around.join(what);
        create(&path, 0o700, owner)?;
        Ok(Self { path, log: around.join("log"), temporary: Some(around) })
    }

    /// The directory `wanted`, made when missing. When `owner` cannot reach it (a checkout below `/root`), a directory in
    /// `/var/tmp` named after it stands in, and a note beside `wanted` says so.
    pub(crate) fn kept(wanted: &Path, owner: Option<Owner>) -> Result<Self> {
        let parent = wanted.parent().context("a server's directory needs a parent")?;
        std::fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        let wanted = parent.canonicalize()?.join(wanted.file_name().context("a server's directory needs a name")?);
        let log = wanted.with_extension("log");
        let path = if owner.is_some() && !Owner::can_reach(&wanted) {
            let digest = hex::encode(Sha256::digest(wanted.as_os_str().as_encoded_bytes()));
            let path = PathBuf::from(format!("/var/tmp/rushes-{}", &digest[..16]));
            let note = format!(
                "The data is in {}: this server does not run as root, and no other user can reach this directory.\n",
                path.display()
            );
            std::fs::write(wanted.with_extension("moved"), note)?;
            path
        } else {
            wanted
        };
        if path.symlink_metadata().is_err() {
            create(&path, 0o700, owner)?;
        }
        let found = path.symlink_metadata()?;
        let uid = owner.map_or_else(|| rustix::process::geteuid().as_raw(), |owner| owner.uid);
        ensure!(
            found.is_dir() && found.uid() == uid,
            "{} is not a directory of user {uid}: remove it, it is not ours",
            path.display()
        );
        Ok(Self { path, log, temporary: None })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the directory, and with it what the server kept.
    pub(crate) fn remove(self) -> Result<()> {
        std::fs::remove_dir_all(&self.path).with_context(|| format!("removing {}", self.path.display()))
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// Writes `text` to the file `name`, readable by the server's user only.
    pub(crate) fn write_secret(&self, name: &str, text: &str, owner: Option<Owner>) -> Result<PathBuf> {
        let path = self.path.join(name);
        write_secret(&path, text)?;
        give(&path, owner)?;
        Ok(path)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if let Some(around) = &self.temporary {
            let _ = std::fs::remove_dir_all(around);
        }
    }
}

/// Writes `text` to a new file in the place of `path` that only its owner can read.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    let _ = std::fs::remove_file(path);
    let mut file = std::fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("writing {}", path.display()))?;
    file.write_all(text.as_bytes())?;
    Ok(())
}

fn create(path: &Path, mode: u32, owner: Option<Owner>) -> Result<()> {
    std::fs::DirBuilder::new().create(path).with_context(|| format!("making {}", path.display()))?;
    // Set by hand, since the mode at the making is cut by the process's umask.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    give(path, owner)
}

fn give(path: &Path, owner: Option<Owner>) -> Result<()> {
    if let Some(Owner { uid, gid }) = owner {
        std::os::unix::fs::lchown(path, Some(uid), Some(gid))
            .with_context(|| format!("giving away {}", path.display()))?;
    }
    Ok(())
}

/// The secret in the file `path`; drawn when there is none.
pub fn kept_secret(path: &Path) -> Result<String> {
    if let Ok(secret) = std::fs::read_to_string(path) {
        return Ok(secret.trim().to_owned());
    }
    let secret = secret()?;
    write_secret(path, &secret)?;
    Ok(secret)
}

/// 128 bits that nobody can guess, as 32 hexadecimal digits.
pub fn secret() -> Result<String> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("reading /dev/urandom")?;
    Ok(hex::encode(bytes))
}
