//! A video's poster frame, or a generated picture, as the pictures that stand for it: the square thumbnail, two in its own shape, and
//! a ThumbHash.
//!
//! Invariant: all of them show the same frame, and none is larger than it.

use crate::model::Spec;
use crate::pictures::{Orientation, Pixels, fit};

/// The longer sides, in pixels, of the pictures in its own shape.
const LARGE: u32 = 512;
const SMALL: u32 = 256;
/// The longer side of what a ThumbHash is computed of; it takes at most 100.
const HASHED: u32 = 100;

/// The pixels that a picture is decoded to, at least: enough for all of them, whatever its shape.
pub(crate) const COVER: Spec = Spec { width: LARGE, height: LARGE, quality: 80 };

/// Files that are to be stored.
#[derive(Clone, Debug)]
pub(crate) struct Pictures {
    /// The default thumbnail.
    pub(crate) square: Vec<u8>,
    pub(crate) large: Sized,
    pub(crate) small: Sized,
    pub(crate) thumbhash: Vec<u8>,
}

/// A WebP file and its size in pixels.
#[derive(Clone, Debug)]
pub(crate) struct Sized {
    pub(crate) webp: Vec<u8>,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

impl Pictures {
    /// Renders a frame that lies as `orientation` says.
    pub(crate) fn render(frame: Pixels, orientation: Orientation) -> Self {
        let large = fit::within(frame.clone(), orientation, LARGE);
        let small = fit::within(large.clone(), Orientation::Upright, SMALL);
        let hashed = fit::within(small.clone(), Orientation::Upright, HASHED);
        let size = hashed.layout.bytes();
        let rgba: Vec<u8> = hashed.bytes.chunks_exact(size).flat_map(|p| [p[0], p[1], p[2], 255]).collect();
        Self {
            square: fit::render_webp(frame, orientation, &Spec::default()),
            large: Sized::encode(&large),
            small: Sized::encode(&small),
            thumbhash: thumbhash::rgba_to_thumb_hash(hashed.width as usize, hashed.height as usize, &rgba),
        }
    }
}

impl Sized {
    fn encode(pixels: &Pixels) -> Self {
        let webp = fit::encode(pixels, Spec::default().quality);
        Self { webp, width: pixels.width, height: pixels.height }
    }
}
