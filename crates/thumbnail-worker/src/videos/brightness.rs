//! Brightness of a frame, and whether it is nearly black.
//!
//! Invariant: one rule for every decoder. Numbers are on a scale of 0 (black) to 255 (white), whatever the stream's range.

/// Below this mean a frame is nearly black.
const DIM: f64 = 32.0;
/// A pixel is dark below this.
const DARK: u8 = 40;
/// With more than this share of dark pixels a frame is nearly black, even where a bright title lifts its mean.
const DARK_SHARE: f64 = 0.95;

/// The brightness of one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Brightness {
    /// Mean luma, 0 to 255.
    pub mean: f64,
    /// Share of dark pixels, 0 to 1.
    pub dark: f64,
}

impl Brightness {
    /// The brightness of these samples of luma, 0 to 255.
    pub(super) fn of(samples: &[u8]) -> Self {
        let count = samples.len().max(1) as f64;
        let sum: u64 = samples.iter().map(|luma| u64::from(*luma)).sum();
        let dark = samples.iter().filter(|luma| **luma < DARK).count();
        Self { mean: sum as f64 / count, dark: dark as f64 / count }
    }

    /// Whether nothing worth showing can be seen.
    #[must_use]
    pub fn is_nearly_black(&self) -> bool {
        self.mean < DIM || self.dark > DARK_SHARE
    }
}

/// Luma of 16 to 235 on the scale of 0 to 255.
#[must_use]
pub(super) fn to_full_range(luma: u8) -> u8 {
    ((i32::from(luma) - 16) * 255 / 219).clamp(0, 255) as u8
}

/// Luma of an RGB pixel by BT.709.
#[must_use]
pub(crate) fn luma_of(rgb: [u8; 3]) -> u8 {
    let [red, green, blue] = rgb.map(u32::from);
    ((red * 13_933 + green * 46_871 + blue * 4_732) >> 16) as u8
}
