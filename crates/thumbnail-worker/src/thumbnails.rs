//! Thumbnails: of a picture from its pixels, of a video from its poster frame; rendered now, or as a job.
//!
//! Invariant: the result is stored under its own hash before any row names it, so a row never points at nothing, and rendering
//! the same thumbnail twice changes nothing.

use std::sync::Arc;

use chassis::blobs;
use chassis::telemetry::attributes;
use tracing::{Instrument as _, info_span};

use crate::decode_pool::{self, DecodePool, Input, Reason};
use crate::error::Error;
use crate::events;
use crate::ffmpeg::Ffmpeg;
use crate::keyed_lock::KeyedLock;
use crate::media::{Class, Type};
use crate::model::{Asset, Poster, PosterImage, Rendered, Spec, StoredAsset, ThumbnailKey, ThumbnailStatus};
use crate::pictures::Pixels;
use crate::posters::{Pictures, Sized};
use crate::scratch::Scratch;
use crate::store::Store;
use crate::videos::Missing;

/// Why a sound has no thumbnail.
pub(crate) const NO_PICTURE: &str = "it is a sound: there is nothing to be seen";

/// Renders thumbnails; clones share everything.
#[derive(Clone)]
pub(crate) struct Thumbnails {
    pub(crate) store: Store,
    pub(crate) blobs: blobs::Store,
    pub(crate) pool: DecodePool,
    /// Where sources lie while they are decoded.
    pub(crate) sources: Scratch,
    pub(crate) ffmpeg: Arc<Ffmpeg>,
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
        let rendered = self.render_asset(&asset, key.spec, false).await?;
        if self.store.keep(key, &rendered).await? {
            events::thumbnail_ended(key, &rendered.status);
        }
        self.store_again(&asset, key.spec, &rendered).await?;
        Ok(rendered.status)
    }

    /// Renders once more what was rendered, if bytes of it that were in storage already were removed before the row that names them
    /// was written: from then on they stay.
    pub(crate) async fn store_again(&self, asset: &Asset, spec: Spec, rendered: &Rendered) -> Result<(), Error> {
        let asset = StoredAsset {
            asset: Asset { poster: rendered.poster.clone(), ..asset.clone() },
            thumbnail: Some(rendered.status.clone()),
        };
        if !self.are_stored(&asset).await? {
            self.render_asset(&Asset { poster: None, ..asset.asset }, spec, true).await?;
        }
        Ok(())
    }

    /// Whether the pictures that stand for an asset are in storage.
    pub(crate) async fn are_stored(&self, asset: &StoredAsset) -> Result<bool, Error> {
        let poster = asset.asset.poster.iter().flat_map(|poster| [&poster.large.blob, &poster.small.blob]);
        let thumbnail = match &asset.thumbnail {
            Some(ThumbnailStatus::Ready(blob)) => Some(blob),
            _ => None,
        };
        for blob in poster.chain(thumbnail) {
            if self.blobs.head(blob).await?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
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

    /// Renders the thumbnail of a stored asset, which waits for room on disk where it `may_wait`. A video that has no poster yet gets
    /// it together with its default thumbnail.
    pub(crate) async fn render_asset(&self, asset: &Asset, spec: Spec, may_wait: bool) -> Result<Rendered, Error> {
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
            let fetched = self.sources.fetch(&self.blobs, &asset.blob, asset.bytes, may_wait).await?;
            let input = &fetched.input;
            if class != "video" {
                let made = self.pool.render_picture(input, spec).await.map_err(about_asset)?;
                return self.store_made(made).await.map(alone);
            }
            if spec != Spec::default() || asset.poster.is_some() {
                let made = self.render_video(input, spec).await?;
                return self.store_made(made).await.map(alone);
            }
            let made = self.render_video_posters(input).await?;
            let (status, poster) = self.store_pictures(made).await?;
            Ok(Rendered { status, poster })
        };
        work.instrument(span).await
    }

    /// Renders the default thumbnail of an output, and its pictures in its own shape. That none can be made is no failure of an output.
    pub(crate) async fn render_posters(
        &self,
        input: &Input,
        media_type: Type,
    ) -> Result<(ThumbnailStatus, Option<Poster>), Error> {
        let made = match media_type.class() {
            Class::Sound => Ok(Err(NO_PICTURE.to_owned())),
            Class::Video => self.render_video_posters(input).await,
            Class::Picture => self.pool.render_picture_posters(input).await.map(to_text).map_err(about_asset),
        };
        let made = match made {
            // An output that is too heavy for this process is an output all the same, and so is one that ends its decoder.
            Err(Error::Invalid(invalid)) => Err(invalid.violations().map(|wrong| wrong.should.clone()).collect()),
            Err(error @ Error::Panicked(_)) => {
                tracing::warn!(%error, "an output has no poster");
                Err("it could not be decoded".to_owned())
            }
            made => made?,
        };
        self.store_pictures(made).await
    }

    /// Renders the frame that stands for a video; the reason where there is none.
    async fn render_video(&self, input: &Input, spec: Spec) -> Result<Result<Vec<u8>, String>, Error> {
        match self.pool.render_video(input, spec).await.map_err(about_asset)? {
            Err(Reason::Video(because)) if because.is_for_another_decoder() => {
                match self.decode_by_ffmpeg(input, because).await? {
                    Ok(frame) => self.pool.render_frame(frame, spec).await.map(to_text).map_err(about_asset),
                    Err(missing) => Ok(Err(missing.to_string())),
                }
            }
            made => Ok(to_text(made)),
        }
    }

    /// Makes the pictures that stand for a video; the reason where there are none.
    async fn render_video_posters(&self, input: &Input) -> Result<Result<Pictures, String>, Error> {
        match self.pool.render_video_posters(input).await.map_err(about_asset)? {
            Err(Reason::Video(because)) if because.is_for_another_decoder() => {
                match self.decode_by_ffmpeg(input, because).await? {
                    Ok(frame) => self.pool.render_frame_posters(frame).await.map(to_text).map_err(about_asset),
                    Err(missing) => Ok(Err(missing.to_string())),
                }
            }
            made => Ok(to_text(made)),
        }
    }

    /// The frame that stands for a video which is not decoded here.
    async fn decode_by_ffmpeg(&self, input: &Input, because: Missing) -> Result<Result<Pixels, Missing>, Error> {
        let span = info_span!("ffmpeg", { attributes::BECAUSE } = %because);
        self.ffmpeg.poster(&self.pool, input, because).instrument(span).await.map_err(about_asset)
    }

    async fn store_made(&self, made: Result<Vec<u8>, impl ToString>) -> Result<ThumbnailStatus, Error> {
        match made {
            Ok(webp) => self.store_webp(webp).await,
            Err(reason) => Ok(ThumbnailStatus::Failed(reason.to_string())),
        }
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

    async fn store_sized(&self, picture: Sized) -> Result<PosterImage, Error> {
        let blob = self.blobs.put(picture.webp.into(), "webp").await?;
        Ok(PosterImage { blob, width: picture.width, height: picture.height })
    }

    async fn store_webp(&self, webp: Vec<u8>) -> Result<ThumbnailStatus, Error> {
        Ok(ThumbnailStatus::Ready(self.blobs.put(webp.into(), "webp").await?))
    }
}

/// What failed is the request's asset.
fn about_asset(error: decode_pool::Error) -> Error {
    error.about_field("asset")
}

fn to_text<T>(made: Result<T, Reason>) -> Result<T, String> {
    made.map_err(|reason| reason.to_string())
}
