//! Assets: what an upload must be to become one, and videos that a worker has stored.
//!
//! Invariant: nothing is stored, neither bytes nor a row, before the whole picture has been decoded. The bytes are stored before
//! the row that names them.

mod upload;

use std::time::Duration;

use bytes::Bytes;
use chassis::blobs::Name;
use chassis::telemetry::attributes;
use domain::id::AccountId;
use tracing::{Instrument as _, info_span};

use crate::error::Error;
use crate::events;
use crate::model::{NewAsset, Spec, StoredAsset, ThumbnailKey, ThumbnailStatus};
use crate::pictures::{self, Format, Header};
use crate::stop::Stop;
use crate::store::Put;
use crate::thumbnails::Thumbnails;
use crate::videos;

pub(crate) use upload::Upload;

/// The rules of assets; clones share everything.
#[derive(Clone)]
pub(crate) struct Assets {
    pub(crate) thumbnails: Thumbnails,
    /// Longest video, in bytes.
    pub(crate) max_video_bytes: u64,
}

impl Assets {
    /// Begins an upload with a stated size (0: not stated).
    ///
    /// # Errors
    /// When the size is not allowed, or too much is being uploaded already.
    pub(crate) fn begin_upload(&self, stated: u64) -> Result<Upload, Error> {
        Upload::begin(stated, self.thumbnails.pictures, &self.thumbnails.memory)
    }

    /// Stores a finished upload, with its thumbnail queued.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is not a whole picture; then nothing is stored.
    pub(crate) async fn store(&self, account: AccountId, upload: Upload) -> Result<StoredAsset, Error> {
        let (bytes, _reservation) = upload.finish()?;
        let header = Header::read(&bytes, &self.thumbnails.pictures)?;
        let (bytes, header) = self.decode_whole(bytes, header).await?;
        let (width, height) = header.upright();
        let length = bytes.len() as u64;
        let blob = self.thumbnails.blobs.put(bytes, header.format.extension()).await?;
        let mime_type = header.format.mime();
        let asset = NewAsset { blob, mime_type, bytes: length, width, height, duration: Duration::ZERO, poster: None };
        self.put(account, &asset, &ThumbnailStatus::Processing).await
    }

    /// Decodes a picture to see that it is whole.
    async fn decode_whole(&self, bytes: Bytes, header: Header) -> Result<(Bytes, Header), Error> {
        let spec = Spec::default();
        let span =
            info_span!("decode upload", { attributes::FORMAT } = %header.format, { attributes::BYTES } = bytes.len());
        let weight = header.weight(&spec);
        let work = move |stop: &Stop| pictures::decode(&bytes, &header, &spec, stop).map(|_| (bytes, header));
        let decoded = self.thumbnails.pool.run(weight, work).instrument(span).await;
        Ok(decoded.map_err(|error| error.about_field("chunk"))??)
    }

    /// The account's asset and its default thumbnail.
    ///
    /// # Errors
    /// [`Error::NotFound`], or when the database fails.
    pub(crate) async fn get(&self, account: AccountId, sha256: [u8; 32]) -> Result<StoredAsset, Error> {
        self.thumbnails.store.find(&ThumbnailKey::default_of(account, sha256)).await
    }

    /// Registers a video that is in storage, and makes its poster.
    ///
    /// # Errors
    /// When it is not in storage, is no video or too long, or too much is being decoded.
    pub(crate) async fn register(&self, account: AccountId, blob: Name) -> Result<StoredAsset, Error> {
        let meta = self.thumbnails.blobs.head(&blob).await?.ok_or(Error::NotStored)?;
        if meta.bytes > self.max_video_bytes {
            let should = format!("must have at most {} bytes; it has {}", self.max_video_bytes, meta.bytes);
            return Err(Error::invalid("asset", "INPUT_TOO_LARGE", should));
        }
        let _reservation = self.thumbnails.memory.try_reserve(meta.bytes)?;
        let bytes = self.thumbnails.blobs.get(&blob).await?;
        if Format::sniff(&bytes).is_some() {
            return Err(Error::schema("asset", "must be a video; it is a picture: upload it"));
        }
        let facts =
            videos::facts(&bytes).ok_or_else(|| Error::schema("asset", "must be MP4 or WebM; it is neither"))?;
        let span = info_span!("render poster", { attributes::BYTES } = meta.bytes);
        let (thumbnail, poster) = self.thumbnails.render_posters(bytes).instrument(span).await?;
        let asset = NewAsset {
            blob,
            mime_type: facts.container.mime(),
            bytes: meta.bytes,
            width: facts.width,
            height: facts.height,
            duration: facts.duration,
            poster,
        };
        self.put(account, &asset, &thumbnail).await
    }

    async fn put(
        &self,
        account: AccountId,
        asset: &NewAsset,
        thumbnail: &ThumbnailStatus,
    ) -> Result<StoredAsset, Error> {
        let key = ThumbnailKey::default_of(account, asset.blob.sha256());
        let Put { stored, is_new, settled } = self.thumbnails.store.put(asset, &key, thumbnail).await?;
        if is_new {
            events::asset_stored(account, &stored.asset);
        }
        if settled {
            events::thumbnail_ended(&key, thumbnail);
        }
        Ok(stored)
    }
}
