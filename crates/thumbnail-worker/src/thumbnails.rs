//! Making thumbnails: of a picture from its pixels, of a video from its poster frame; now, or as a job.
//!
//! Invariant: the result is stored under its own hash before any row names it, so a row never points at nothing, and making the
//! same thumbnail twice changes nothing.

use std::sync::Arc;

use bytes::Bytes;
use chassis::blobs::{self, Name};
use domain::id::AccountId;
use tracing::{Instrument as _, info_span};

use crate::assets::Asset;
use crate::decode_pool::DecodePool;
use crate::error::Error;
use crate::holding::Holding;
use crate::pictures::{self, Header, Spec, fit};
use crate::store::Store;
use crate::turns::Turns;
use crate::videos::{self, Missing, ffmpeg::Ffmpeg, frames};

/// Which thumbnail of which asset of which account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Whose asset.
    pub account: AccountId,
    /// The asset's hash.
    pub asset: [u8; 32],
    /// What the thumbnail looks like.
    pub spec: Spec,
}

/// Where a thumbnail stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Durably queued.
    Processing,
    /// There, under this name.
    Ready(Name),
    /// It cannot be made, because of this.
    Failed(String),
}

/// Makes thumbnails; clones share everything.
#[derive(Clone)]
pub struct Thumbnails {
    pub(crate) store: Store,
    pub(crate) blobs: blobs::Store,
    pub(crate) pool: DecodePool,
    pub(crate) holding: Holding,
    pub(crate) ffmpeg: Arc<Ffmpeg>,
    pub(crate) pictures: pictures::Limits,
    pub(crate) videos: videos::Limits,
    pub(crate) turns: Turns,
}

impl Thumbnails {
    /// The thumbnail of `key`: the one that is there, else made now while the caller waits.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Overloaded`], or when storage or the database fails. That a thumbnail cannot be made is
    /// an answer, not an error.
    pub async fn now(&self, key: &Key) -> Result<Standing, Error> {
        let (asset, standing) = self.store.find(key).await?;
        if let Some(ready @ Standing::Ready(_)) = standing {
            return Ok(ready);
        }
        let (_turn, another) = self.turns.take(key).await;
        if another && let (_, Some(settled @ (Standing::Ready(_) | Standing::Failed(_)))) = self.store.find(key).await?
        {
            return Ok(settled);
        }
        let _held = self.holding.try_hold(asset.bytes)?;
        let standing = self.make(&asset, key.spec).await?;
        self.store.settle(key, &standing).await?;
        Ok(standing)
    }

    /// The thumbnail of `key`: the one that is there, else queued.
    ///
    /// # Errors
    /// [`Error::NotFound`], or when the database fails.
    pub async fn later(&self, key: &Key) -> Result<Standing, Error> {
        if let (_, Some(standing)) = self.store.find(key).await? {
            return Ok(standing);
        }
        self.store.queue(key).await?;
        Ok(Standing::Processing)
    }

    /// Makes the thumbnail of a stored asset. The caller has the right to hold its bytes.
    pub(crate) async fn make(&self, asset: &Asset, spec: Spec) -> Result<Standing, Error> {
        let span = info_span!("render thumbnail", rushes.mime_type = asset.mime_type, rushes.bytes = asset.bytes);
        let work = async {
            let bytes = self.blobs.get(&asset.blob).await?;
            if asset.mime_type.starts_with("video/") {
                self.of_video(bytes, spec).await
            } else {
                self.of_picture(bytes, spec).await
            }
        };
        work.instrument(span).await
    }

    async fn of_picture(&self, bytes: Bytes, spec: Spec) -> Result<Standing, Error> {
        let header = match Header::read(&bytes, &self.pictures) {
            Ok(header) => header,
            Err(refused) => return Ok(Standing::Failed(refused.to_string())),
        };
        let weight = header.weight(&spec);
        match self.pool.run(weight, move || pictures::render(&bytes, &header, &spec)).await? {
            Ok(thumbnail) => self.stored(thumbnail.webp).await,
            Err(refused) => Ok(Standing::Failed(refused.to_string())),
        }
    }

    /// Makes the poster of a video whose bytes are at hand.
    pub(crate) async fn of_video(&self, bytes: Bytes, spec: Spec) -> Result<Standing, Error> {
        let poster = match self.in_process(bytes.clone(), spec).await? {
            Err(missing) if missing.elsewhere() => self.elsewhere(bytes, missing, spec).await?,
            poster => poster,
        };
        match poster {
            Ok(webp) => self.stored(webp).await,
            Err(missing) => Ok(Standing::Failed(missing.to_string())),
        }
    }

    async fn in_process(&self, bytes: Bytes, spec: Spec) -> Result<Result<Vec<u8>, Missing>, Error> {
        let limits = self.videos;
        let weight = match frames::open(&bytes, &limits) {
            Ok(reel) => reel.weight(),
            Err(missing) => return Ok(Err(missing)),
        };
        let work = move || {
            let poster = frames::open(&bytes, &limits)?.poster()?;
            Ok(fit::thumbnail(poster.pixels, poster.orientation, &spec).webp)
        };
        Ok(self.pool.run(weight, work).await?)
    }

    async fn elsewhere(&self, bytes: Bytes, because: Missing, spec: Spec) -> Result<Result<Vec<u8>, Missing>, Error> {
        let span = info_span!("ffmpeg", rushes.because = %because);
        let pixels = match self.ffmpeg.poster(&bytes, because).instrument(span).await {
            Ok(pixels) => pixels,
            Err(missing) => return Ok(Err(missing)),
        };
        let upright = pictures::orientation::Orientation::Upright;
        let weight = pixels.bytes.len() as u64 * 2;
        Ok(Ok(self.pool.run(weight, move || fit::thumbnail(pixels, upright, &spec).webp).await?))
    }

    async fn stored(&self, webp: Vec<u8>) -> Result<Standing, Error> {
        Ok(Standing::Ready(self.blobs.put(webp.into(), "webp").await?))
    }
}
