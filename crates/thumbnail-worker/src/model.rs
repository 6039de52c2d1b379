//! Assets and thumbnails as records: what the wire, the rules and the store hand to each other. Nothing here knows any of them.

use std::time::Duration;

use chassis::blobs::Name;
use domain::id::AccountId;
use time::OffsetDateTime;
use uuid::Uuid;

/// A stored file of an account.
#[derive(Clone, Debug, PartialEq)]
pub struct Asset {
    /// The hash of its bytes.
    pub sha256: [u8; 32],
    /// Its name in storage.
    pub blob: Name,
    /// Its media type, by its bytes.
    pub mime_type: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// In pixels, upright; 0 for a sound, or when not known.
    pub width: u32,
    /// In pixels, upright; 0 for a sound, or when not known.
    pub height: u32,
    /// How long it plays; zero for a picture, or when not known.
    pub duration: Duration,
    /// Whether there is sound in it.
    pub audio: bool,
    /// Frames a second of a video; zero when not known.
    pub frame_rate: f64,
    /// Whether it carries a C2PA manifest.
    pub c2pa: bool,
    /// The pictures of it in its own shape; `None` where there are none.
    pub poster: Option<Poster>,
    /// When the account first had it.
    pub create_time: OffsetDateTime,
}

/// The pictures of a video, or of a generated picture, in its own shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poster {
    /// Its longer side has 512 pixels, or as many as the asset where that has fewer.
    pub large: PosterImage,
    /// Its longer side has 256 pixels, or as many as the asset where that has fewer.
    pub small: PosterImage,
    /// A ThumbHash: a few bytes that a client makes a blurred picture of, before any is fetched.
    pub thumbhash: Vec<u8>,
}

/// One picture of a poster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PosterImage {
    /// Its name in storage.
    pub blob: Name,
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
}

/// An asset that is to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct NewAsset {
    /// Its name in storage.
    pub blob: Name,
    /// Its media type, by its bytes.
    pub mime_type: &'static str,
    /// Its size in bytes.
    pub bytes: u64,
    /// In pixels, upright; 0 for a sound, or when not known.
    pub width: u32,
    /// In pixels, upright; 0 for a sound, or when not known.
    pub height: u32,
    /// How long it plays; zero for a picture, or when not known.
    pub duration: Duration,
    /// Whether there is sound in it.
    pub audio: bool,
    /// Frames a second of a video; zero when not known.
    pub frame_rate: f64,
    /// Whether it carries a C2PA manifest.
    pub c2pa: bool,
    /// The pictures of it in its own shape, where it has some.
    pub poster: Option<Poster>,
}

/// An asset, and what is known of one thumbnail of it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredAsset {
    /// The asset.
    pub asset: Asset,
    /// The thumbnail's status; `None`: nobody has asked for it.
    pub thumbnail: Option<ThumbnailStatus>,
}

/// What a listing of assets is restricted to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// The number of a kind, as `assets.kind` has it.
    pub(crate) kind: Option<i16>,
    /// Only those that the account first had at this time or later.
    pub(crate) from: Option<OffsetDateTime>,
    /// Only those that the account first had before this time.
    pub(crate) until: Option<OffsetDateTime>,
}

impl Filter {
    /// What page tokens name the listing by.
    pub(crate) fn listing(&self) -> String {
        let Self { kind, from, until } = *self;
        let nanos = |time: Option<OffsetDateTime>| time.map(OffsetDateTime::unix_timestamp_nanos);
        format!("assets {kind:?} {:?} {:?}", nanos(from), nanos(until))
    }
}

/// What was found in a part of the storage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Objects that were looked at.
    pub(crate) objects: u64,
    /// Those that no row names and that are old enough.
    pub(crate) orphans: u64,
    /// Those of these that were removed.
    pub(crate) removed: u64,
    /// The bytes of all that no row names.
    pub(crate) bytes: u64,
}

/// A page of assets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listed {
    /// Newest first.
    pub(crate) assets: Vec<StoredAsset>,
    /// The id that the next page begins below; `None` on the last one.
    pub(crate) next: Option<Uuid>,
}

/// What an account may have in storage, its thumbnails left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Bytes of all its assets.
    pub bytes: u64,
    /// How many assets.
    pub objects: u64,
}

/// What an account has in storage, and what it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) used: Quota,
    pub(crate) quota: Quota,
}

/// An asset would be more than an account's quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} of {} bytes and {} of {} assets are used", .0.used.bytes, .0.quota.bytes, .0.used.objects, .0.quota.objects)]
pub struct OverQuota(pub(crate) Usage);

impl Usage {
    /// Says whether one more asset of so many bytes fits.
    pub(crate) fn check(self, bytes: u64) -> Result<(), OverQuota> {
        let Self { used, quota } = self;
        let fits = used.objects < quota.objects && used.bytes.saturating_add(bytes) <= quota.bytes;
        if fits { Ok(()) } else { Err(OverQuota(self)) }
    }
}

/// A thumbnail's looks: always WebP, always filled to its edges, cutting what sticks out evenly on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Spec {
    /// Width in pixels; of what callers ask for one of [`Spec::SIDES`].
    pub width: u32,
    /// Height in pixels; of what callers ask for one of [`Spec::SIDES`].
    pub height: u32,
    /// WebP quality; of what callers ask for one of [`Spec::QUALITIES`].
    pub quality: u8,
}

impl Spec {
    /// The sides that a thumbnail may have, in pixels. Few, so that nobody has millions of thumbnails made of one asset; the shapes of
    /// screens are among them.
    pub const SIDES: [u32; 15] = [16, 32, 48, 64, 96, 128, 160, 180, 256, 320, 360, 512, 640, 768, 1_024];
    /// The WebP qualities that there are.
    pub const QUALITIES: [u8; 3] = [50, 80, 95];

    /// The side that is made where `side` is asked for: the next one that there is.
    #[must_use]
    pub fn side(side: u32) -> Option<u32> {
        Self::SIDES.into_iter().find(|made| side <= *made)
    }

    /// The quality that is made where `quality`, up to 100, is asked for: the next one that there is, or the best.
    #[must_use]
    pub fn quality(quality: u8) -> u8 {
        let [.., best] = Self::QUALITIES;
        Self::QUALITIES.into_iter().find(|made| quality <= *made).unwrap_or(best)
    }
}

impl Default for Spec {
    /// 256 x 256, quality 80.
    fn default() -> Self {
        Self { width: 256, height: 256, quality: 80 }
    }
}

/// One thumbnail's identity: whose asset, which asset, which looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ThumbnailKey {
    /// Whose asset it is of.
    pub account: AccountId,
    /// The asset's hash.
    pub asset: [u8; 32],
    /// Its looks.
    pub spec: Spec,
}

impl ThumbnailKey {
    /// The thumbnail that every asset gets by itself.
    #[must_use]
    pub fn default_of(account: AccountId, asset: [u8; 32]) -> Self {
        Self { account, asset, spec: Spec::default() }
    }
}

/// A thumbnail that came to an end, and what was made with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// Its status.
    pub status: ThumbnailStatus,
    /// The pictures of the asset in its own shape, where they were made too.
    pub poster: Option<Poster>,
}

/// A thumbnail's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ThumbnailStatus {
    /// Durably queued.
    Processing,
    /// Stored under this name.
    Ready(Name),
    /// It cannot be rendered, for this reason, which the user reads.
    Failed(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asset_fits_a_quota_or_not() {
        let usage = |bytes, objects| Usage { used: Quota { bytes, objects }, quota: Quota { bytes: 100, objects: 2 } };
        for (used, bytes, fits) in [
            (usage(0, 0), 100, true),
            (usage(0, 0), 101, false),
            (usage(60, 1), 40, true),
            (usage(60, 1), 41, false),
            (usage(1, 2), 1, false),
            // It was lowered, or outputs came.
            (usage(500, 1), 1, false),
            (usage(1, 1), u64::MAX, false),
        ] {
            assert_eq!(used.check(bytes).is_ok(), fits, "{used:?} and {bytes}");
        }
    }

    #[test]
    fn a_size_becomes_the_next_one_that_there_is() {
        for (asked, made) in
            [(1, Some(16)), (16, Some(16)), (17, Some(32)), (300, Some(320)), (1_024, Some(1_024)), (1_025, None)]
        {
            assert_eq!(Spec::side(asked), made, "{asked}");
        }
        for (asked, made) in [(1, 50), (50, 50), (51, 80), (80, 80), (95, 95), (100, 95)] {
            assert_eq!(Spec::quality(asked), made, "{asked}");
        }
    }
}
