//! Thumbnails: of a picture from its pixels, of a video from its poster frame; rendered now, or as a job.
//!
//! Invariant: the result is stored under its own hash before any row names it, so a row never points at nothing, and rendering
//! the same thumbnail twice changes nothing.

use std::sync::Arc;

use bytes::Bytes;
use chassis::blobs;
use chassis::telemetry::attributes;
use tracing::{Instrument as _, info_span};

use crate::byte_budget::ByteBudget;
use crate::decode_pool::DecodePool;
use crate::error::Error;
use crate::events;
use crate::keyed_lock::KeyedLock;
use crate::media::{Class, Type};
use crate::model::{Asset, Poster, PosterImage, Rendered, Spec, StoredAsset, ThumbnailKey, ThumbnailStatus};
use crate::pictures::{self, Header, Orientation, Pixels, Refused, fit};
use crate::posters::{self, Pictures, Sized};
use crate::stop::Stop;
use crate::store::Store;
use crate::videos::{self, Missing, ffmpeg::Ffmpeg, frames};

/// Why a sound has no thumbnail.
pub(crate) const NO_PICTURE: &str = "it is a sound: there is nothing to be seen";

/// Renders thumbnails; clones share everything.
#[derive(Clone)]
pub(crate) struct Thumbnails {
    pub(crate) store: Store,
    pub(crate) blobs: blobs::Store,
    pub(crate) pool: DecodePool,
    pub(crate) memory: ByteBudget,
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
        let rendered = self.render_asset(&asset, key.spec).await?;
        if self.store.keep(key, &rendered).await? {
            events::thumbnail_ended(key, &rendered.status);
        }
        Ok(rendered.status)
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

    /// Renders the thumbnail of a stored asset, whose bytes the caller has reserved. A video that has no poster yet gets it together
    /// with its default thumbnail.
    pub(crate) async fn render_asset(&self, asset: &Asset, spec: Spec) -> Result<Rendered, Error> {
        let span = info_span!(
            "render thumbnail",
            { attributes::MIME_TYPE } = asset.mime_type,
            { attributes::BYTES } = asset.bytes
        );
        let work = async {
            let alone = |status| Rendered { status, poster: None };
            let class = asset.mime_type.split('/').next().unwrap_or_default();
            if class == "audio" {
                return Ok(alone(ThumbnailStatus::Failed(NO_PICTURE.to_owned())));
            }
            let bytes = self.blobs.get(&asset.blob).await?;
            if class != "video" {
                return self.render_picture(bytes, spec).await.map(alone);
            }
            if spec != Spec::default() || asset.poster.is_some() {
                return self.render_poster(bytes, spec).await.map(alone);
            }
            let made = self.picture_video(bytes).await?;
            let (status, poster) = self.store_pictures(made).await?;
            Ok(Rendered { status, poster })
        };
        work.instrument(span).await
    }

    async fn render_picture(&self, bytes: Bytes, spec: Spec) -> Result<ThumbnailStatus, Error> {
        match self
            .with_picture(bytes, spec, move |bytes, header, stop| pictures::render(bytes, header, &spec, stop))
            .await?
        {
            Ok(webp) => self.store_webp(webp).await,
            Err(refused) => Ok(ThumbnailStatus::Failed(refused.to_string())),
        }
    }

    /// Runs `make` in the decode pool with the header of a picture whose bytes are at hand.
    async fn with_picture<T: Send + 'static>(
        &self,
        bytes: Bytes,
        spec: Spec,
        make: impl FnOnce(&[u8], &Header, &Stop) -> Result<T, Refused> + Send + 'static,
    ) -> Result<Result<T, Refused>, Error> {
        // How long a file may be was asked when it came, and its bytes are reserved.
        let header = match Header::read(&bytes, &pictures::Limits { bytes: u64::MAX, ..self.pictures }) {
            Ok(header) => header,
            Err(refused) => return Ok(Err(refused)),
        };
        let weight = header.weight(&spec);
        self.decode(weight, move |stop| make(&bytes, &header, stop)).await
    }

    /// Renders a thumbnail of a video whose bytes are at hand.
    async fn render_poster(&self, bytes: Bytes, spec: Spec) -> Result<ThumbnailStatus, Error> {
        let make = move |frame: Pixels, orientation| fit::render_webp(frame, orientation, &spec);
        match self.with_poster_frame(bytes, make).await? {
            Ok(webp) => self.store_webp(webp).await,
            Err(missing) => Ok(ThumbnailStatus::Failed(missing)),
        }
    }

    /// Renders the default thumbnail of an output whose bytes are at hand, and its pictures in its own shape.
    pub(crate) async fn render_posters(
        &self,
        bytes: Bytes,
        media_type: Type,
    ) -> Result<(ThumbnailStatus, Option<Poster>), Error> {
        let made = match media_type.class() {
            Class::Sound => Ok(Err(NO_PICTURE.to_owned())),
            Class::Video => self.picture_video(bytes).await,
            Class::Picture => {
                let make = |bytes: &[u8], header: &Header, stop: &Stop| {
                    let pixels = pictures::decode_srgb(bytes, header, &posters::COVER, stop)?;
                    Ok(Pictures::render(&pixels, header.orientation))
                };
                let made = self.with_picture(bytes, posters::COVER, make).await;
                made.map(|made| made.map_err(|refused| refused.to_string()))
            }
        };
        let made = match made {
            // An output that is too heavy for this process is an output all the same.
            Err(Error::Invalid(invalid)) => Err(invalid.violations().map(|wrong| wrong.should.clone()).collect()),
            made => made?,
        };
        self.store_pictures(made).await
    }

    /// Makes the pictures that stand for a video; the reason where there are none.
    async fn picture_video(&self, bytes: Bytes) -> Result<Result<Pictures, String>, Error> {
        let make = |frame: Pixels, orientation| Pictures::render(&frame, orientation);
        self.with_poster_frame(bytes, make).await
    }

    /// Stores what was made of an asset; where nothing was, there is the reason.
    async fn store_pictures(&self, made: Result<Pictures, String>) -> Result<(ThumbnailStatus, Option<Poster>), Error> {
        match made {
            Ok(Pictures { square, large, small, thumbhash }) => {
                let poster =
                    Poster { large: self.store_sized(large).await?, small: self.store_sized(small).await?, thumbhash };
                Ok((self.store_webp(square).await?, Some(poster)))
            }
            Err(reason) => Ok((ThumbnailStatus::Failed(reason), None)),
        }
    }

    /// Finds the frame that stands for a video and runs `make` with it, in the decode pool.
    async fn with_poster_frame<T: Send + 'static>(
        &self,
        bytes: Bytes,
        make: impl FnOnce(Pixels, Orientation) -> T + Clone + Send + 'static,
    ) -> Result<Result<T, String>, Error> {
        Ok(self.find_poster_frame(bytes, make).await?.map_err(|missing| missing.to_string()))
    }

    async fn find_poster_frame<T: Send + 'static>(
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
