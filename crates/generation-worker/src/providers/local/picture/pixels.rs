//! Decoded pixels as they lie in a file, and how many of them there may be.
//!
//! Invariant: no decoder takes memory for a picture that has not passed [`check_size`].

use super::exif::Orientation;

/// The largest picture: 4,096 by 4,096, or as many pixels in another shape.
const MAX_PIXELS: u64 = 4_096 * 4_096;
/// The memory that a decoder may take for one picture, in bytes.
pub(super) const MAX_MEMORY: usize = 16 * MAX_PIXELS as usize;

/// Decoded pixels, as they lie in the file.
pub(super) struct Pixels {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) layout: Layout,
    pub(super) bytes: Vec<u8>,
    pub(super) orientation: Orientation,
}

/// What a pixel is made of, a byte each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    Grey,
    GreyAlpha,
    Rgb,
    Rgba,
    /// Four inks on paper, each 0 for none.
    Cmyk,
}

/// Refuses a picture by the size that its file states.
pub(super) fn check_size(width: u32, height: u32) -> Result<(), String> {
    if width == 0 || height == 0 || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(format!("it is {width} x {height} pixels, 1 to {MAX_PIXELS} pixels in all are taken"));
    }
    Ok(())
}

/// Why a picture that was stopped is refused.
pub(super) fn stopped() -> String {
    "it takes too long to be decoded".to_owned()
}
