//! Assets and thumbnails as records: what the wire, the rules and the store hand to each other. Nothing here knows any of them.

use std::ops::RangeInclusive;
use std::time::Duration;

use chassis::blobs::Name;
use domain::id::AccountId;
use time::OffsetDateTime;

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

/// A thumbnail's looks: always WebP, always filled to its edges, cutting what sticks out evenly on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Spec {
    /// Width in pixels, within [`Spec::SIDES`].
    pub width: u32,
    /// Height in pixels, within [`Spec::SIDES`].
    pub height: u32,
    /// WebP quality, within [`Spec::QUALITIES`].
    pub quality: u8,
}

impl Spec {
    /// The sides that a thumbnail may have, in pixels.
    pub const SIDES: RangeInclusive<u32> = 16..=1_024;
    /// The WebP qualities that there are.
    pub const QUALITIES: RangeInclusive<u8> = 1..=100;
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
