//! Assets: what an upload must be to become one, and what is known of a video that a worker has stored.
//!
//! Invariant: nothing is stored, neither bytes nor a row, before the whole picture has been decoded. The bytes are stored before
//! the row that names them.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chassis::blobs::Name;
use domain::id::AccountId;
use time::OffsetDateTime;
use tracing::{Instrument as _, info_span};

use crate::error::Error;
use crate::holding::Held;
use crate::pictures::{self, Format, Header, Limits, Refused, Spec};
use crate::thumbnails::{Key, Standing, Thumbnails};
use crate::videos;

/// A stored file of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asset {
    /// The hash of its bytes.
    pub sha256: [u8; 32],
    /// Its name in storage.
    pub blob: Name,
    /// By its bytes.
    pub mime_type: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// In pixels, upright; 0 when not known.
    pub width: u32,
    /// In pixels, upright; 0 when not known.
    pub height: u32,
    /// How long it plays; zero for a picture, or when not known.
    pub duration: Duration,
    /// When the account first had it.
    pub create_time: OffsetDateTime,
}

/// An asset that is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAsset {
    /// Its name in storage.
    pub blob: Name,
    /// By its bytes.
    pub mime_type: &'static str,
    /// Its size in bytes.
    pub bytes: u64,
    /// In pixels, upright; 0 when not known.
    pub width: u32,
    /// In pixels, upright; 0 when not known.
    pub height: u32,
    /// How long it plays.
    pub duration: Duration,
}

/// An upload under way: takes its bytes and refuses it as soon as it is clear that it cannot be taken.
#[derive(Debug)]
pub struct Upload {
    limits: Limits,
    /// What the client says; 0 when it does not.
    stated: u64,
    bytes: BytesMut,
    /// The header has been read and allowed.
    seen: bool,
    _held: Held,
}

impl Upload {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// As soon as there are too many bytes, the first ones are of no known format, or the header states too large a picture.
    pub fn push(&mut self, chunk: &Bytes) -> Result<(), Error> {
        let length = self.bytes.len() as u64 + chunk.len() as u64;
        if self.stated > 0 && length > self.stated {
            return Err(Error::schema(
                "metadata.size_bytes",
                format!("states {} bytes, and more have come", self.stated),
            ));
        }
        if length > self.limits.bytes {
            return Err(Refused::TooManyBytes { bytes: length, limit: self.limits.bytes }.into());
        }
        self.bytes.extend_from_slice(chunk);
        // Twelve bytes tell the format; a header may take some more, and until then the file counts as cut off.
        if !self.seen && self.bytes.len() >= 12 {
            match Header::read(&self.bytes, &self.limits) {
                Err(Refused::Truncated { .. }) => {}
                read => self.seen = read.map(|_| true)?,
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<(Bytes, Held), Error> {
        if self.stated > 0 && self.stated != self.bytes.len() as u64 {
            let message = format!("states {} bytes, and {} have come", self.stated, self.bytes.len());
            return Err(Error::schema("metadata.size_bytes", message));
        }
        Ok((self.bytes.freeze(), self._held))
    }
}

/// What is done with assets; clones share everything.
#[derive(Clone)]
pub struct Assets {
    pub(crate) thumbnails: Thumbnails,
    /// Longest video, in bytes.
    pub(crate) video_bytes: u64,
}

impl Assets {
    /// Begins an upload of `file_name` with a stated size (0: not stated).
    ///
    /// # Errors
    /// When the name or the size is not allowed, or too much is being uploaded already.
    pub fn begin(&self, file_name: &str, size_bytes: i64) -> Result<Upload, Error> {
        let limits = self.thumbnails.pictures;
        if file_name.chars().count() > 255 {
            return Err(Error::schema("metadata.file_name", "at most 255 characters"));
        }
        let Ok(stated) = u64::try_from(size_bytes) else {
            return Err(Error::schema("metadata.size_bytes", "not below 0"));
        };
        if stated > limits.bytes {
            return Err(Refused::TooManyBytes { bytes: stated, limit: limits.bytes }.into());
        }
        let held = self.thumbnails.holding.try_hold(if stated > 0 { stated } else { limits.bytes })?;
        Ok(Upload { limits, stated, bytes: BytesMut::with_capacity(stated as usize), seen: false, _held: held })
    }

    /// Stores a finished upload, with its thumbnail queued.
    ///
    /// # Errors
    /// [`Error::Refused`] when it is not a whole picture; then nothing is stored.
    pub async fn store(&self, account: AccountId, upload: Upload) -> Result<(Asset, Option<Standing>), Error> {
        let (bytes, _held) = upload.finish()?;
        let header = Header::read(&bytes, &self.thumbnails.pictures)?;
        let (bytes, header) = self.whole(bytes, header).await?;
        let (width, height) = header.upright();
        let length = bytes.len() as u64;
        let blob = self.thumbnails.blobs.put(bytes, header.format.extension()).await?;
        let key = Key { account, asset: blob.sha256(), spec: Spec::default() };
        let mime_type = header.format.mime();
        let asset = NewAsset { blob, mime_type, bytes: length, width, height, duration: Duration::ZERO };
        self.thumbnails.store.put(&asset, &key, &Standing::Processing).await
    }

    /// Decodes a picture to see that it is whole.
    async fn whole(&self, bytes: Bytes, header: Header) -> Result<(Bytes, Header), Error> {
        let spec = Spec::default();
        let span = info_span!("decode upload", rushes.format = %header.format, rushes.bytes = bytes.len());
        let weight = header.weight(&spec);
        let work = move || pictures::decode(&bytes, &header, &spec).map(|_| (bytes, header));
        Ok(self.thumbnails.pool.run(weight, work).instrument(span).await??)
    }

    /// The account's asset and how its default thumbnail stands.
    ///
    /// # Errors
    /// [`Error::NotFound`], or when the database fails.
    pub async fn get(&self, account: AccountId, asset: [u8; 32]) -> Result<(Asset, Option<Standing>), Error> {
        self.thumbnails.store.find(&Key { account, asset, spec: Spec::default() }).await
    }

    /// Takes note of a video that is in storage, and makes its poster.
    ///
    /// # Errors
    /// When it is not in storage, is no video or too long, or too much is being decoded.
    pub async fn register(&self, account: AccountId, blob: Name) -> Result<(Asset, Option<Standing>), Error> {
        let key = Key { account, asset: blob.sha256(), spec: Spec::default() };
        let meta = self.thumbnails.blobs.head(&blob).await?.ok_or(Error::NotStored)?;
        if meta.bytes > self.video_bytes {
            let message = format!("has {} bytes, at most {} are taken", meta.bytes, self.video_bytes);
            return Err(Error::Invalid { field: "asset", reason: "INPUT_TOO_LARGE", message });
        }
        let _held = self.thumbnails.holding.try_hold(meta.bytes)?;
        let bytes = self.thumbnails.blobs.get(&blob).await?;
        if Format::sniff(&bytes).is_some() {
            return Err(Error::schema("asset", "is a picture: upload it"));
        }
        let facts = videos::facts(&bytes).ok_or_else(|| Error::schema("asset", "is neither MP4 nor WebM"))?;
        let asset = NewAsset {
            blob,
            mime_type: facts.container.mime(),
            bytes: meta.bytes,
            width: facts.width,
            height: facts.height,
            duration: facts.duration,
        };
        let span = info_span!("render poster", rushes.bytes = meta.bytes);
        let poster = self.thumbnails.of_video(bytes, key.spec).instrument(span).await?;
        self.thumbnails.store.put(&asset, &key, &poster).await
    }
}
