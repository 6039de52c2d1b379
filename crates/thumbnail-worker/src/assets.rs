//! Assets: what an upload must be to become one, and outputs that a worker has stored.
//!
//! Invariant: nothing is stored, neither bytes nor a row, before the whole picture has been decoded, or the video or sound was found
//! whole. The bytes are stored before the row that names them, and never changed.

mod upload;

use std::io::SeekFrom;

use chassis::blobs::Name;
use chassis::telemetry::attributes;
use domain::id::AccountId;
use domain::page::Page;
use tokio::io::AsyncSeekExt as _;
use tracing::{Instrument as _, info_span};

use crate::decode_pool::{self, DecodePool, Input};
use crate::decodings::Measured;
use crate::error::Error;
use crate::events;
use crate::media::{Class, Facts, Type};
use crate::metrics;
use crate::model::{Filter, Listed, NewAsset, Quota, StoredAsset, ThumbnailKey, ThumbnailStatus, Usage};
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
    /// What an account may have, where nothing else was set for it.
    pub(crate) quota: Quota,
}

impl Assets {
    /// Begins an upload of an account with a stated size (0: not stated).
    ///
    /// # Errors
    /// When no file may be so long, or the account has no room for it.
    pub(crate) async fn begin_upload(&self, account: AccountId, stated: u64) -> Result<Upload, Error> {
        let room = self.thumbnails.store.usage(account, self.quota).await?;
        Upload::begin(account, stated, room, self.uploads.clone()).inspect_err(count_refused)
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
        let store_bytes = async || {
            let mut file = file.try_clone().await.map_err(Error::Scratch)?;
            file.seek(SeekFrom::Start(0)).await.map_err(Error::Scratch)?;
            Ok::<_, Error>(self.thumbnails.blobs.put_from(&blob, file).await?)
        };
        store_bytes().await?;
        let thumbnail = match facts.media_type.class() {
            Class::Sound => ThumbnailStatus::Failed(NO_PICTURE.to_owned()),
            Class::Picture | Class::Video => ThumbnailStatus::Processing,
        };
        let asset = new_asset(blob.clone(), *length, &facts, c2pa);
        let stored = self.put(account, &asset, &thumbnail, Some(self.quota)).await.inspect_err(count_refused)?;
        // Equal bytes that were there already may have been removed before the row was; from now on they stay.
        if self.thumbnails.blobs.head(&blob).await?.is_none() {
            store_bytes().await?;
        }
        Ok(stored)
    }

    /// The account's asset and its default thumbnail.
    ///
    /// # Errors
    /// [`Error::NotFound`], or when the database fails.
    pub(crate) async fn get(&self, account: AccountId, sha256: [u8; 32]) -> Result<StoredAsset, Error> {
        self.thumbnails.store.find(&ThumbnailKey::default_of(account, sha256)).await
    }

    /// A page of the account's assets that match, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn list(&self, account: AccountId, filter: &Filter, page: Page) -> Result<Listed, Error> {
        self.thumbnails.store.list(account, filter, page).await
    }

    /// What the account has in storage, and what it may have.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn usage(&self, account: AccountId) -> Result<Usage, Error> {
        self.thumbnails.store.usage(account, self.quota).await
    }

    /// Deletes an asset with its thumbnails, and what in storage was theirs alone.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::InUse`], or when the database fails.
    pub(crate) async fn delete(&self, account: AccountId, sha256: [u8; 32]) -> Result<(), Error> {
        let Thumbnails { store, blobs, .. } = &self.thumbnails;
        let mut removed = 0;
        for name in store.delete(account, sha256).await? {
            let remove = async || {
                blobs.remove(&name).await?;
                Ok::<_, Error>(true)
            };
            match store.remove_unnamed(&name, remove).await {
                Ok(true) => {
                    removed += 1;
                    metrics::object_removed("deleted", 0);
                }
                Ok(false) => {}
                // The asset is deleted; what is left of it is found when the storage is looked through.
                Err(error) => tracing::warn!(%name, %error, "what an asset had in storage cannot be removed"),
            }
        }
        events::asset_deleted(account, &sha256, removed);
        Ok(())
    }

    /// Registers an output that is in storage, and makes its poster. It is paid for: no quota refuses it.
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
        let registered = self.put(account, &asset, &thumbnail, None).await?;
        // Equal bytes that were there already may have been removed before the row was: then its worker stores them again.
        let blobs = &self.thumbnails.blobs;
        if blobs.head(&registered.asset.blob).await?.is_none() {
            return Err(Error::NotStored);
        }
        if !self.thumbnails.are_stored(&registered).await? {
            paid.render_posters(&fetched.input, facts.media_type).await?;
        }
        Ok(registered)
    }

    async fn put(
        &self,
        account: AccountId,
        asset: &NewAsset,
        thumbnail: &ThumbnailStatus,
        quota: Option<Quota>,
    ) -> Result<StoredAsset, Error> {
        let key = ThumbnailKey::default_of(account, asset.blob.sha256());
        let Put { stored, is_new, settled } = self.thumbnails.store.put(asset, &key, thumbnail, quota).await?;
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

fn count_refused(error: &Error) {
    if matches!(error, Error::OverQuota(_)) {
        metrics::quota_refused();
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
