//! Scratch files: uploads too long for memory lie there while they come, and what ffmpeg is to read while it runs.
//!
//! Invariant: an upload's file has no name from the moment it is there, so nothing of it is left whatever happens to the process.

use std::fs::OpenOptions;
use std::io::{self, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};

use crate::byte_budget::{ByteBudget, Reservation};
use crate::error::Error;
use crate::source::OnDisk;

/// Where scratch files lie, and how much may lie there; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Scratch {
    pub(crate) directory: PathBuf,
    pub(crate) budget: ByteBudget,
}

/// An upload on disk, as far as it has come.
#[derive(Debug)]
pub(crate) struct Spool {
    file: File,
    hash: Sha256,
    length: u64,
    reservation: Reservation,
}

/// An upload on disk that has come whole.
#[derive(Debug)]
pub(crate) struct Spooled {
    /// The file, at its beginning.
    pub(crate) file: File,
    /// The same, to be read in places.
    pub(crate) source: Arc<OnDisk>,
    pub(crate) sha256: [u8; 32],
    pub(crate) length: u64,
    _reservation: Reservation,
}

impl Scratch {
    /// A file for an upload of at most `bytes`.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when so much has no room, or when no file can be made.
    pub(crate) async fn spool(&self, bytes: u64) -> Result<Spool, Error> {
        let reservation = self.budget.try_reserve(bytes)?;
        let path = self.directory.join(format!("rushes-upload-{}", uuid::Uuid::now_v7()));
        let open = move || {
            let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        };
        let file = tokio::task::spawn_blocking(open).await.map_err(io::Error::other).flatten();
        let file = File::from_std(file.map_err(Error::Scratch)?);
        Ok(Spool { file, hash: Sha256::new(), length: 0, reservation })
    }
}

impl Spool {
    /// How many bytes have come.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        self.file.write_all(bytes).await.map_err(Error::Scratch)
    }

    /// The whole file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) async fn finish(mut self) -> Result<Spooled, Error> {
        let work = async {
            self.file.flush().await?;
            self.file.seek(SeekFrom::Start(0)).await?;
            Ok(self.file.try_clone().await?.into_std().await)
        };
        let other = work.await.map_err(Error::Scratch)?;
        Ok(Spooled {
            file: self.file,
            source: Arc::new(OnDisk::new(other, self.length)),
            sha256: self.hash.finalize().into(),
            length: self.length,
            _reservation: self.reservation,
        })
    }
}

/// A named file that is removed when it is dropped.
pub(crate) struct Named(pub(crate) PathBuf);

impl Named {
    /// Writes a file into `directory`.
    pub(crate) async fn write(directory: &Path, bytes: &[u8]) -> io::Result<Self> {
        let file = Self(directory.join(format!("rushes-poster-{}", uuid::Uuid::now_v7())));
        tokio::fs::write(&file.0, bytes).await?;
        Ok(file)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::warn!(%error, file = %self.0.display(), "a scratch file cannot be removed");
        }
    }
}
