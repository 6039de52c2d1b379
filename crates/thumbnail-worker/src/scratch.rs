//! Scratch files: uploads lie there while they come, and what is in storage while it is decoded.
//!
//! Invariant: a file has no name from the moment it is there, so nothing of it is left whatever happens to the process, and its room is
//! reserved as its bytes come, never before.

use std::fs::OpenOptions;
use std::io::{self, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::BytesMut;
use chassis::blobs::{self, Name};
use domain::id::AccountId;
use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};

use crate::byte_budget::{ByteBudget, Reservation};
use crate::decode_pool::Input;
use crate::error::Error;
use crate::media::Type;

/// The length of a piece that is written at once, in bytes: each takes a thread for a moment.
const PIECE: usize = 1 << 20;

/// Where scratch files lie, and how much may lie there; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Scratch {
    pub(crate) directory: PathBuf,
    pub(crate) budget: ByteBudget,
}

/// A file, as far as it has come.
#[derive(Debug)]
pub(crate) struct Spool {
    file: File,
    hash: Sha256,
    length: u64,
    pending: BytesMut,
    reservation: Reservation,
}

/// A file that has come whole.
#[derive(Debug)]
pub(crate) struct Spooled {
    /// The file, at its beginning.
    pub(crate) file: File,
    /// The same, for a decoder.
    pub(crate) input: Input,
    pub(crate) sha256: [u8; 32],
    pub(crate) length: u64,
    _reservation: Reservation,
}

impl Scratch {
    /// An empty file, for `account` where it is one's own.
    ///
    /// # Errors
    /// When no file can be made.
    pub(crate) async fn spool(&self, account: Option<AccountId>) -> Result<Spool, Error> {
        let reservation = self.budget.open(account);
        let path = self.directory.join(format!("rushes-scratch-{}", uuid::Uuid::now_v7()));
        let open = move || {
            let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
            std::fs::remove_file(&path)?;
            Ok(file)
        };
        let file = tokio::task::spawn_blocking(open).await.map_err(io::Error::other).flatten();
        let file = File::from_std(file.map_err(Error::Scratch)?);
        Ok(Spool { file, hash: Sha256::new(), length: 0, pending: BytesMut::new(), reservation })
    }

    /// Fetches an object of `length` bytes from storage, as soon as there is room for it where `may_wait`, else now or not at all.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when there is no room, or when storage fails.
    pub(crate) async fn fetch(
        &self,
        blobs: &blobs::Store,
        name: &Name,
        length: u64,
        may_wait: bool,
    ) -> Result<Spooled, Error> {
        let room = if may_wait { self.budget.reserve(length).await? } else { self.budget.try_reserve(length)? };
        let mut spool = self.spool(None).await?;
        spool.reservation = room;
        let mut pieces = std::pin::pin!(blobs.stream(name, None).await?);
        while let Some(piece) = pieces.next().await {
            spool.append(&piece?).await?;
        }
        spool.finish().await
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
    /// [`Error::Overloaded`] when so much has no room, or when they cannot be written.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.reservation.grow(bytes.len() as u64)?;
        self.append(bytes).await
    }

    async fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= PIECE { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), Error> {
        let pending = self.pending.split().freeze();
        self.file.write_all(&pending).await.map_err(Error::Scratch)
    }

    /// The whole file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) async fn finish(mut self) -> Result<Spooled, Error> {
        self.flush().await?;
        let work = async {
            self.file.flush().await?;
            self.file.seek(SeekFrom::Start(0)).await?;
            Ok(self.file.try_clone().await?.into_std().await)
        };
        let other = work.await.map_err(Error::Scratch)?;
        Ok(Spooled {
            file: self.file,
            input: Input::File(Arc::new(other), self.length),
            sha256: self.hash.finalize().into(),
            length: self.length,
            _reservation: self.reservation,
        })
    }
}

impl Spooled {
    /// The type by its first bytes.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) async fn sniff(&mut self) -> Result<Option<Type>, Error> {
        let mut head = Vec::new();
        let work = async {
            (&mut self.file).take(Type::SNIFFED as u64).read_to_end(&mut head).await?;
            self.file.seek(SeekFrom::Start(0)).await
        };
        work.await.map_err(Error::Scratch)?;
        Ok(Type::sniff(&head))
    }
}
