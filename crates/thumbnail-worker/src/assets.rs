//! Assets: what an upload must be to become one, and outputs that a worker has stored.
//!
//! Invariant: nothing is stored, neither bytes nor a row, before the whole picture has been decoded, or the video or sound was found
//! whole. The bytes are stored before the row that names them, and never changed.

mod upload;

use chassis::blobs::Name;
use chassis::telemetry::attributes;
use domain::id::AccountId;
use tracing::{Instrument as _, info_span};

use crate::decode_pool::{self, DecodePool, Input};
use crate::decodings::Measured;
use crate::error::Error;
use crate::events;
use crate::media::{Class, Facts, Type};
use crate::model::{NewAsset, StoredAsset, ThumbnailKey, ThumbnailStatus};
use crate::scratch::{Scratch, Spooled};
use crate::store::Put;
use crate::thumbnails::{NO_PICTURE, Thumbnails};

pub(crate) use upload::{Rules, Upload};

/// The rules of assets; clones share everything.
#[derive(Clone)]
pub(crate) struct Assets {
    pub(crate) thumbnails: Thumbnails,
    pub(crate) uploads: Rules,
    /// Where outputs lie while they are read.
    pub(crate) outputs: Scratch,
    /// Longest output, in bytes.
    pub(crate) max_output_bytes: u64,
}

impl Assets {
    /// Begins an upload of an account with a stated size (0: not stated).
    ///
    /// # Errors
    /// When no file may be so long.
    pub(crate) fn begin_upload(&self, account: AccountId, stated: u64) -> Result<Upload, Error> {
        Upload::begin(account, stated, self.uploads.clone())
    }

    /// Stores a finished upload, with its thumbnail queued where it can have one.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is no whole file of its type; then nothing is stored.
    pub(crate) async fn store(&self, account: AccountId, upload: Upload) -> Result<StoredAsset, Error> {
        let (media_type, spooled) = upload.finish().await?;
        let Spooled { file, input, sha256, length, .. } = &spooled;
        let pool = &self.thumbnails.pool;
        let span = info_span!("check upload", { attributes::FORMAT } = %media_type, { attributes::BYTES } = length);
        let checked = match media_type.class() {
            // It is decoded whole: a picture's own words do not say whether its pixels are there.
            Class::Picture => pool.check_picture(input).instrument(span).await,
            Class::Video | Class::Sound => pool.probe(input, media_type).instrument(span).await,
        };
        let Measured { facts, c2pa } = checked.map_err(|error| error.about_field("chunk"))??;
        self.uploads.media.check(&facts, *length)?;
        let blob = Name::new(*sha256, facts.media_type.extension());
        self.thumbnails.blobs.put_from(&blob, file.try_clone().await.map_err(Error::Scratch)?).await?;
        let thumbnail = match facts.media_type.class() {
            Class::Sound => ThumbnailStatus::Failed(NO_PICTURE.to_owned()),
            Class::Picture | Class::Video => ThumbnailStatus::Processing,
        };
        self.put(account, &new_asset(blob, *length, &facts, c2pa), &thumbnail).await
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
        let mut fetched = self.outputs.fetch(&self.thumbnails.blobs, &stored, meta.bytes, true).await?;
        let unknown = || {
            Error::schema("asset", "must be a JPEG, PNG, WebP, MP4, WebM, MOV, WAV, MP3 or M4A; it is none of these")
        };
        let media_type = fetched.sniff().await?.ok_or_else(unknown)?;
        let paid = Thumbnails { pool: self.thumbnails.pool.paid(), ..self.thumbnails.clone() };
        let Measured { facts, c2pa } = describe_output(&paid.pool, &fetched.input, media_type).await?;
        let span = info_span!("render poster", { attributes::BYTES } = meta.bytes);
        let (thumbnail, poster) = paid.render_posters(&fetched.input, facts.media_type).instrument(span).await?;
        let ending = facts.media_type.extension();
        // The gateway serves an object by its ending, so the asset is the one whose ending is right.
        let blob = if stored.extension() == ending {
            stored
        } else {
            let blob = Name::new(fetched.sha256, ending);
            self.thumbnails.blobs.put_from(&blob, fetched.file).await?;
            blob
        };
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
/// made and paid for, so it is an output all the same, even where it ends its decoder.
async fn describe_output(pool: &DecodePool, input: &Input, media_type: Type) -> Result<Measured, Error> {
    let unknown = || Measured { facts: Facts::unknown(media_type), c2pa: false };
    match pool.describe(input, media_type).await {
        Ok(Ok(measured)) => Ok(measured),
        Ok(Err(reason)) => {
            tracing::warn!(%reason, "an output cannot be described");
            Ok(unknown())
        }
        Err(overloaded @ decode_pool::Error::Overloaded { .. }) => Err(overloaded.about_field("asset")),
        Err(error) => {
            tracing::warn!(%error, "an output cannot be described");
            Ok(unknown())
        }
    }
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
