//! Thumbnails: of a picture from its pixels, of a video from its poster frame; rendered now, or as a job.
//!
//! Invariant: the result is stored under its own hash before any row names it, so a row never points at nothing, and rendering
//! the same thumbnail twice changes nothing.

use std::sync::Arc;

use bytes::Bytes;
use chassis::blobs;
use chassis::telemetry::attributes;
use tracing::{Instrument as _, info_span};

use crate::decode_pool::DecodePool;
use crate::error::Error;
use crate::events;
use crate::keyed_lock::KeyedLock;
use crate::memory_budget::MemoryBudget;
use crate::model::{Asset, Spec, StoredAsset, ThumbnailKey, ThumbnailStatus};
use crate::pictures::{self, Header, Orientation, fit};
use crate::stop::Stop;
use crate::store::Store;
use crate::videos::{self, Missing, ffmpeg::Ffmpeg, frames};

/// Renders thumbnails; clones share everything.
#[derive(Clone)]
pub(crate) struct Thumbnails {
    pub(crate) store: Store,
    pub(crate) blobs: blobs::Store,
    pub(crate) pool: DecodePool,
    pub(crate) memory: MemoryBudget,
    pub(crate) ffmpeg: Arc<Ffmpeg>,
    pub(crate) pictures: pictures::Limits,
    pub(crate) videos: videos::Limits,
    /// Thumbnails that are being rendered while a caller waits.
    pub(crate) rendering: KeyedLock<ThumbnailKey>,
}

impl Thumbnails {
    /// The thumbnail of `key`: the one that is there, else rendered while the caller waits.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Overloaded`], or when storage or the database fails. That a thumbnail cannot be rendered
    /// is an answer, not an error.
    pub(crate) async fn render(&self, key: &ThumbnailKey) -> Result<ThumbnailStatus, Error> {
        let StoredAsset { asset, thumbnail } = self.store.find(key).await?;
        if let Some(ready @ ThumbnailStatus::Ready(_)) = thumbnail {
            return Ok(ready);
        }
        let guard = self.rendering.lock(key).await;
        // Whoever waited takes the result of whoever rendered, a failure included: the same file fails alike.
        if guard.waited
            && let Some(ended @ (ThumbnailStatus::Ready(_) | ThumbnailStatus::Failed(_))) =
                self.store.find(key).await?.thumbnail
        {
            return Ok(ended);
        }
        let _reservation = self.memory.try_reserve(asset.bytes)?;
        let status = self.render_asset(&asset, key.spec).await?;
        if self.store.settle(key, &status).await? {
            events::thumbnail_ended(key, &status);
        }
        Ok(status)
    }

    /// The thumbnail of `key`: the one that is there, else queued.
    ///
    /// # Errors
    /// [`Error::NotFound`], or when the database fails.
    pub(crate) async fn enqueue(&self, key: &ThumbnailKey) -> Result<ThumbnailStatus, Error> {
        if let Some(status) = self.store.find(key).await?.thumbnail {
            return Ok(status);
        }
        self.store.enqueue(key).await?;
        Ok(ThumbnailStatus::Processing)
    }

    /// Renders the thumbnail of a stored asset, whose bytes the caller has reserved.
    pub(crate) async fn render_asset(&self, asset: &Asset, spec: Spec) -> Result<ThumbnailStatus, Error> {
        let span = info_span!(
            "render thumbnail",
            { attributes::MIME_TYPE } = asset.mime_type,
            { attributes::BYTES } = asset.bytes
        );
        let work = async {
            let bytes = self.blobs.get(&asset.blob).await?;
            if asset.mime_type.starts_with("video/") {
                self.render_poster(bytes, spec).await
            } else {
                self.render_picture(bytes, spec).await
            }
        };
        work.instrument(span).await
    }

    async fn render_picture(&self, bytes: Bytes, spec: Spec) -> Result<ThumbnailStatus, Error> {
        let header = match Header::read(&bytes, &self.pictures) {
            Ok(header) => header,
            Err(refused) => return Ok(ThumbnailStatus::Failed(refused.to_string())),
        };
        let weight = header.weight(&spec);
        match self.decode(weight, move |stop| pictures::render(&bytes, &header, &spec, stop)).await? {
            Ok(webp) => self.store_webp(webp).await,
            Err(refused) => Ok(ThumbnailStatus::Failed(refused.to_string())),
        }
    }

    /// Renders the poster of a video whose bytes are at hand.
    pub(crate) async fn render_poster(&self, bytes: Bytes, spec: Spec) -> Result<ThumbnailStatus, Error> {
        let poster = match self.poster_in_process(bytes.clone(), spec).await? {
            Err(missing) if missing.is_for_another_decoder() => self.poster_by_ffmpeg(bytes, missing, spec).await?,
            poster => poster,
        };
        match poster {
            Ok(webp) => self.store_webp(webp).await,
            Err(missing) => Ok(ThumbnailStatus::Failed(missing.to_string())),
        }
    }

    async fn poster_in_process(&self, bytes: Bytes, spec: Spec) -> Result<Result<Vec<u8>, Missing>, Error> {
        let limits = self.videos;
        let weight = match frames::open(&bytes, &limits) {
            Ok(video) => video.weight(),
            Err(missing) => return Ok(Err(missing)),
        };
        let work = move |_: &Stop| {
            let poster = frames::open(&bytes, &limits)?.poster()?;
            Ok(fit::render_webp(poster.pixels, poster.orientation, &spec))
        };
        self.decode(weight, work).await
    }

    async fn poster_by_ffmpeg(
        &self,
        bytes: Bytes,
        because: Missing,
        spec: Spec,
    ) -> Result<Result<Vec<u8>, Missing>, Error> {
        let span = info_span!("ffmpeg", { attributes::BECAUSE } = %because);
        let pixels = match self.ffmpeg.poster(&bytes, because).instrument(span).await {
            Ok(pixels) => pixels,
            Err(missing) => return Ok(Err(missing)),
        };
        let weight = pixels.bytes.len() as u64 * 2;
        Ok(Ok(self.decode(weight, move |_| fit::render_webp(pixels, Orientation::Upright, &spec)).await?))
    }

    /// Runs `work` in the decode pool; what is too heavy for it is the request's `asset`.
    async fn decode<T: Send + 'static>(
        &self,
        weight: u64,
        work: impl FnOnce(&Stop) -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.pool.run(weight, work).await.map_err(|error| error.about_field("asset"))
    }

    async fn store_webp(&self, webp: Vec<u8>) -> Result<ThumbnailStatus, Error> {
        Ok(ThumbnailStatus::Ready(self.blobs.put(webp.into(), "webp").await?))
    }
}
