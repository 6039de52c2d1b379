//! Objects that are stored piece by piece, so that a large one never lies in memory whole.

use bytes::{Bytes, BytesMut};
use object_store::{Attribute, MultipartUpload, ObjectStore as _, PutMultipartOptions, PutPayload};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::{Error, Name, Store, measured, path};
use crate::metrics;

/// The length of a piece: a storage takes 5 MiB or more, all of the same length but the last.
const PIECE: usize = 8 << 20;

impl Store {
    /// Stores what `from` gives under `name`, whose hash it must have, with at most 8 MiB of it in memory.
    ///
    /// # Errors
    /// [`Error::Changed`] when it has another hash, [`Error::Source`] when it cannot be read, or when the storage fails; then nothing
    /// is visible under the name.
    pub async fn put_from(&self, name: &Name, mut from: impl AsyncRead + Unpin + Send) -> Result<(), Error> {
        let first = read_piece(&mut from).await?;
        if first.len() < PIECE {
            // It is whole.
            if Name::of(&first, name.extension()) != *name {
                return Err(Error::Changed(name.clone()));
            }
            return self.put(first, name.extension()).await.map(drop);
        }
        let work = async {
            if self.exists(name).await? {
                return Ok(0);
            }
            let mut options = PutMultipartOptions::default();
            if self.typed {
                options.attributes.insert(Attribute::ContentType, name.content_type().into());
            }
            let upload = self.inner.put_multipart_opts(&path(name), options).await;
            let mut upload = upload.map_err(Error::Storage)?;
            let sent = send(&mut *upload, name, first, &mut from).await;
            if sent.is_err() {
                // What is left of it the storage's own clean-up takes.
                let _ = upload.abort().await;
            }
            sent
        };
        let size = measured("put", work).await?;
        if size > 0 {
            metrics::BLOBS_PUT.get().record(size as f64);
        }
        Ok(())
    }
}

/// Sends all pieces and completes the object; returns its length.
async fn send(
    upload: &mut dyn MultipartUpload,
    name: &Name,
    first: Bytes,
    from: &mut (impl AsyncRead + Unpin + Send),
) -> Result<u64, Error> {
    let (mut hash, mut size, mut piece) = (Sha256::new(), 0, first);
    while !piece.is_empty() {
        hash.update(&piece);
        size += piece.len() as u64;
        let is_last = piece.len() < PIECE;
        upload.put_part(PutPayload::from_bytes(piece)).await.map_err(Error::Storage)?;
        piece = if is_last { Bytes::new() } else { read_piece(from).await? };
    }
    if name.sha256() != <[u8; 32]>::from(hash.finalize()) {
        return Err(Error::Changed(name.clone()));
    }
    upload.complete().await.map_err(Error::Storage)?;
    Ok(size)
}

/// The next piece; shorter than [`PIECE`] only at the end.
async fn read_piece(from: &mut (impl AsyncRead + Unpin + Send)) -> Result<Bytes, Error> {
    let mut piece = BytesMut::with_capacity(PIECE);
    let mut rest = from.take(PIECE as u64);
    while rest.read_buf(&mut piece).await.map_err(Error::Source)? > 0 {}
    Ok(piece.freeze())
}
