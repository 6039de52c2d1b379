//! A picture's header, held against the limits.
//!
//! Invariant: nothing is decoded, and nothing is allocated by a size that a file states, before [`Header::read`] has held that
//! size against [`Limits`].

use super::format::Format;
use super::marks::Marks;
use super::orientation::Orientation;
use super::profile::{self, Profile};
use super::refused::Refused;
use super::{jpeg, png, webp};
use crate::model::Spec;

/// The limits of a picture, checked on its header alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest file, in bytes.
    pub bytes: u64,
    /// The highest number of pixels, width times height.
    pub pixels: u64,
    /// Longest side, in pixels.
    pub side: u32,
}

impl Default for Limits {
    /// 20 MiB, 50 megapixels, 16,384 pixels a side.
    fn default() -> Self {
        Self { bytes: 20 << 20, pixels: 50_000_000, side: 16_384 }
    }
}

/// A picture's header, held against the limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The file's format.
    pub format: Format,
    /// Width of the stored pixels, before any turning.
    pub width: u32,
    /// Height of the stored pixels, before any turning.
    pub height: u32,
    /// How the stored pixels are to be turned to be seen upright.
    pub orientation: Orientation,
    /// What the colours mean where it is not sRGB.
    pub(super) profile: Option<Profile>,
    pub(super) detail: Detail,
}

/// The part of a header that its format's decoder weighs its memory by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    Jpeg(jpeg::Frame),
    Png(png::Rows),
    Webp(webp::Image),
}

impl Header {
    /// Reads the header of `bytes` without decoding a pixel, and refuses what is over a limit.
    ///
    /// # Errors
    /// [`Refused`] for a file that is too long, of no known format, truncated in its header, or too large by its own words.
    pub fn read(bytes: &[u8], limits: &Limits) -> Result<Self, Refused> {
        let length = bytes.len() as u64;
        if length > limits.bytes {
            return Err(Refused::TooManyBytes { bytes: length, limit: limits.bytes });
        }
        if bytes.is_empty() {
            return Err(Refused::Empty);
        }
        let format = Format::sniff(bytes).ok_or(Refused::UnknownFormat)?;
        let (width, height, Marks { orientation, profile }, detail) = match format {
            Format::Jpeg => {
                let (frame, marks) = jpeg::read_header(bytes)?;
                (frame.width, frame.height, marks, Detail::Jpeg(frame))
            }
            Format::Png => {
                let (rows, marks) = png::read_header(bytes)?;
                (rows.width, rows.height, marks, Detail::Png(rows))
            }
            Format::Webp => {
                let (image, marks) = webp::read_header(bytes)?;
                (image.width, image.height, marks, Detail::Webp(image))
            }
        };
        if width == 0 || height == 0 {
            return Err(Refused::Damaged { format, detail: format!("it states a size of {width} x {height}") });
        }
        if width > limits.side || height > limits.side {
            return Err(Refused::SideTooLong { width, height, limit: limits.side });
        }
        if u64::from(width) * u64::from(height) > limits.pixels {
            return Err(Refused::TooManyPixels { width, height, limit: limits.pixels });
        }
        if let Detail::Jpeg(frame) = &detail {
            frame.refuse_slow_scans()?;
        }
        Ok(Self { format, width, height, orientation, profile, detail })
    }

    /// Width and height as seen upright.
    #[must_use]
    pub fn upright(&self) -> (u32, u32) {
        self.orientation.turned(self.width, self.height)
    }

    /// The memory, in bytes, that decoding for `spec` holds at one time at the highest; never less than the file's own share.
    #[must_use]
    pub fn weight(&self, spec: &Spec) -> u64 {
        let cover = self.cover(spec);
        let decoded = match &self.detail {
            Detail::Jpeg(frame) => frame.weight(cover),
            Detail::Png(rows) => rows.weight(cover),
            Detail::Webp(image) => image.weight(),
        };
        let profile = if self.profile.is_some() { profile::WEIGHT } else { 0 };
        // The thumbnail's pixels, turned, and what the encoder makes of them.
        decoded + profile + u64::from(spec.width) * u64::from(spec.height) * 40
    }

    /// The size that the decoded pixels have to cover so that `spec` needs no enlarging, in stored (unturned) axes.
    pub(super) fn cover(&self, spec: &Spec) -> (u32, u32) {
        self.orientation.turned(spec.width, spec.height)
    }
}
