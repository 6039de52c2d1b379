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
use crate::model::{Asset, Poster, PosterImage, Spec, StoredAsset, ThumbnailKey, ThumbnailStatus};
use crate::pictures::{self, Header, Orientation, Pixels, fit};
use crate::posters::{Pictures, Sized};
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

    /// Renders a thumbnail of a video whose bytes are at hand.
    async fn render_poster(&self, bytes: Bytes, spec: Spec) -> Result<ThumbnailStatus, Error> {
        let make = move |frame: Pixels, orientation| fit::render_webp(frame, orientation, &spec);
        match self.with_poster_frame(bytes, make).await? {
            Ok(webp) => self.store_webp(webp).await,
            Err(missing) => Ok(ThumbnailStatus::Failed(missing.to_string())),
        }
    }

    /// Renders the default thumbnail of a video whose bytes are at hand, and its pictures in its own shape.
    pub(crate) async fn render_posters(&self, bytes: Bytes) -> Result<(ThumbnailStatus, Option<Poster>), Error> {
        let make = |frame: Pixels, orientation| Pictures::render(&frame, orientation);
        match self.with_poster_frame(bytes, make).await? {
            Ok(Pictures { square, large, small, thumbhash }) => {
                let poster =
                    Poster { large: self.store_sized(large).await?, small: self.store_sized(small).await?, thumbhash };
                Ok((self.store_webp(square).await?, Some(poster)))
            }
            Err(missing) => Ok((ThumbnailStatus::Failed(missing.to_string()), None)),
        }
    }

    /// Finds the frame that stands for a video and runs `make` with it, in the decode pool.
    async fn with_poster_frame<T: Send + 'static>(
        &self,
        bytes: Bytes,
        make: impl FnOnce(Pixels, Orientation) -> T + Clone + Send + 'static,
    ) -> Result<Result<T, Missing>, Error> {
        let limits = self.videos;
        let because = match frames::open(&bytes, &limits).map(|video| video.weight()) {
            Ok(weight) => {
                let (bytes, make) = (bytes.clone(), make.clone());
                let work = move |stop: &Stop| {
                    let poster = frames::open(&bytes, &limits)?.poster(stop)?;
                    Ok(make(poster.pixels, poster.orientation))
                };
                match self.decode(weight, work).await? {
                    Err(missing) => missing,
                    made => return Ok(made),
                }
            }
            Err(missing) => missing,
        };
        if !because.is_for_another_decoder() {
            return Ok(Err(because));
        }
        let span = info_span!("ffmpeg", { attributes::BECAUSE } = %because);
        let frame = match self.ffmpeg.poster(&bytes, because).instrument(span).await {
            Ok(frame) => frame,
            Err(missing) => return Ok(Err(missing)),
        };
        let weight = frame.bytes.len() as u64 * 3;
        Ok(Ok(self.decode(weight, move |_| make(frame, Orientation::Upright)).await?))
    }

    /// Runs `work` in the decode pool; what is too heavy for it is the request's `asset`.
    async fn decode<T: Send + 'static>(
        &self,
        weight: u64,
        work: impl FnOnce(&Stop) -> T + Send + 'static,
    ) -> Result<T, Error> {
        self.pool.run(weight, work).await.map_err(|error| error.about_field("asset"))
    }

    async fn store_sized(&self, picture: Sized) -> Result<PosterImage, Error> {
        let blob = self.blobs.put(picture.webp.into(), "webp").await?;
        Ok(PosterImage { blob, width: picture.width, height: picture.height })
    }

    async fn store_webp(&self, webp: Vec<u8>) -> Result<ThumbnailStatus, Error> {
        Ok(ThumbnailStatus::Ready(self.blobs.put(webp.into(), "webp").await?))
    }
}
