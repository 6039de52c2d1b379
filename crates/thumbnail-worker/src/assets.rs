//! Assets: what an upload must be to become one, and outputs that a worker has stored.
//!
//! Invariant: nothing is stored, neither bytes nor a row, before the whole picture has been decoded, or the video or sound was found
//! whole. The bytes are stored before the row that names them, and never changed.

mod upload;

use std::sync::Arc;

use bytes::Bytes;
use chassis::blobs::Name;
use chassis::telemetry::attributes;
use domain::id::AccountId;
use tokio::task::spawn_blocking;
use tracing::{Instrument as _, info_span};

use crate::error::Error;
use crate::events;
use crate::media::{self, Class, Facts, Type};
use crate::model::{NewAsset, Spec, StoredAsset, ThumbnailKey, ThumbnailStatus};
use crate::pictures::{self, Header};
use crate::scratch::Spooled;
use crate::stop::Stop;
use crate::store::Put;
use crate::thumbnails::{NO_PICTURE, Thumbnails};

use upload::Finished;
pub(crate) use upload::{Rules, Upload};

/// The rules of assets; clones share everything.
#[derive(Clone)]
pub(crate) struct Assets {
    pub(crate) thumbnails: Thumbnails,
    pub(crate) uploads: Rules,
    /// Longest output, in bytes.
    pub(crate) max_output_bytes: u64,
}

impl Assets {
    /// Begins an upload with a stated size (0: not stated).
    ///
    /// # Errors
    /// When no file may be so long.
    pub(crate) fn begin_upload(&self, stated: u64) -> Result<Upload, Error> {
        Upload::begin(stated, self.uploads.clone())
    }

    /// Stores a finished upload, with its thumbnail queued where it can have one.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is no whole file of its type; then nothing is stored.
    pub(crate) async fn store(&self, account: AccountId, upload: Upload) -> Result<StoredAsset, Error> {
        match upload.finish().await? {
            Finished::Picture(bytes, _reservation) => self.store_picture(account, bytes).await,
            Finished::File(media_type, spooled) => self.store_file(account, media_type, spooled).await,
        }
    }

    async fn store_picture(&self, account: AccountId, bytes: Bytes) -> Result<StoredAsset, Error> {
        let header = Header::read(&bytes, &self.thumbnails.pictures)?;
        let (bytes, header) = self.decode_whole(bytes, header).await?;
        let (width, height) = header.upright();
        let media_type = Type::Picture(header.format);
        let facts = Facts { width, height, ..Facts::unknown(media_type) };
        let c2pa = media::has_c2pa(&&bytes[..], media_type).map_err(Error::Scratch)?;
        let length = bytes.len() as u64;
        let blob = self.thumbnails.blobs.put(bytes, media_type.extension()).await?;
        self.put(account, &new_asset(blob, length, &facts, c2pa), &ThumbnailStatus::Processing).await
    }

    /// Stores a video or a sound that lies on disk.
    async fn store_file(&self, account: AccountId, media_type: Type, spooled: Spooled) -> Result<StoredAsset, Error> {
        let _reservation = self.thumbnails.memory.reserve(media::MAX_MEMORY).await?;
        let Spooled { file, source, sha256, length, .. } = &spooled;
        let span = info_span!("probe upload", { attributes::FORMAT } = %media_type, { attributes::BYTES } = length);
        let source = Arc::clone(source);
        let work = move || {
            let facts = media::probe(&*source, media_type)?;
            let c2pa = media::has_c2pa(&*source, facts.media_type)?;
            Ok::<_, media::Error>((facts, c2pa))
        };
        let probed = spawn_blocking(work).instrument(span).await;
        let (facts, c2pa) = probed.map_err(|error| Error::Panicked(error.to_string()))??;
        self.uploads.media.check(&facts, *length)?;
        let blob = Name::new(*sha256, facts.media_type.extension());
        self.thumbnails.blobs.put_from(&blob, file.try_clone().await.map_err(Error::Scratch)?).await?;
        let thumbnail = match facts.media_type.class() {
            Class::Sound => ThumbnailStatus::Failed(NO_PICTURE.to_owned()),
            Class::Picture | Class::Video => ThumbnailStatus::Processing,
        };
        self.put(account, &new_asset(blob, *length, &facts, c2pa), &thumbnail).await
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

    /// Registers an output that is in storage, and makes its poster.
    ///
    /// # Errors
    /// When it is not in storage, is of no known type or too long, or too much is being decoded.
    pub(crate) async fn register(&self, account: AccountId, stored: Name) -> Result<StoredAsset, Error> {
        let meta = self.thumbnails.blobs.head(&stored).await?.ok_or(Error::NotStored)?;
        if meta.bytes > self.max_output_bytes {
            let should = format!("must have at most {} bytes; it has {}", self.max_output_bytes, meta.bytes);
            return Err(Error::invalid("asset", "INPUT_TOO_LARGE", should));
        }
        let _reservation = self.thumbnails.memory.try_reserve(meta.bytes)?;
        let bytes = self.thumbnails.blobs.get(&stored).await?;
        let unknown = || {
            Error::schema("asset", "must be a JPEG, PNG, WebP, MP4, WebM, MOV, WAV, MP3 or M4A; it is none of these")
        };
        let media_type = Type::sniff(&bytes).ok_or_else(unknown)?;
        let (facts, c2pa) = describe_output(bytes.clone(), media_type).await?;
        let span = info_span!("render poster", { attributes::BYTES } = meta.bytes);
        let (thumbnail, poster) =
            self.thumbnails.render_posters(bytes.clone(), facts.media_type).instrument(span).await?;
        let ending = facts.media_type.extension();
        // The gateway serves an object by its ending, so the asset is the one whose ending is right.
        let blob = if stored.extension() == ending { stored } else { self.thumbnails.blobs.put(bytes, ending).await? };
        let asset = NewAsset { poster, ..new_asset(blob, meta.bytes, &facts, c2pa) };
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
        // That a sound has no picture is no failure of anybody's.
        if settled && !stored.asset.mime_type.starts_with("audio/") {
            events::thumbnail_ended(&key, thumbnail);
        }
        Ok(stored)
    }
}

/// What an output says of itself, and whether it carries a manifest. One that cannot be read here may be one that players can: it was
/// made and paid for, so it is an output all the same.
async fn describe_output(bytes: Bytes, media_type: Type) -> Result<(Facts, bool), Error> {
    let work = move || {
        let facts = media::describe(&bytes, media_type);
        let c2pa = media::has_c2pa(&&bytes[..], facts.media_type).unwrap_or_default();
        (facts, c2pa)
    };
    spawn_blocking(work).await.map_err(|error| Error::Panicked(error.to_string()))
}

fn new_asset(blob: Name, bytes: u64, facts: &Facts, c2pa: bool) -> NewAsset {
    NewAsset {
        blob,
        mime_type: facts.media_type.mime(),
        bytes,
        width: facts.width,
        height: facts.height,
        duration: facts.duration,
        audio: facts.audio,
        frame_rate: facts.frame_rate,
        c2pa,
        poster: None,
    }
}
