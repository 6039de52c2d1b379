//! EXIF orientation, which says how a camera was held: read from a TIFF block, and applied to finished pixels.
//!
//! Invariant: a damaged EXIF block means "upright", never an error; it is metadata, and the picture is good without it.

use super::pixels::Pixels;

/// The eight ways in which stored pixels can lie, by EXIF's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Orientation {
    /// 1: as stored.
    #[default]
    Upright,
    /// 2: mirrored left to right.
    Mirrored,
    /// 3: turned by 180 degrees.
    Turned180,
    /// 4: mirrored top to bottom.
    Flipped,
    /// 5: mirrored along the main diagonal.
    Transposed,
    /// 6: to be turned clockwise by 90 degrees.
    Turned90,
    /// 7: mirrored along the other diagonal.
    Transversed,
    /// 8: to be turned clockwise by 270 degrees.
    Turned270,
}

impl Orientation {
    /// The orientation that EXIF writes as `number`; anything unknown is upright.
    #[must_use]
    pub fn of_exif(number: u32) -> Self {
        match number {
            2 => Self::Mirrored,
            3 => Self::Turned180,
            4 => Self::Flipped,
            5 => Self::Transposed,
            6 => Self::Turned90,
            7 => Self::Transversed,
            8 => Self::Turned270,
            _ => Self::Upright,
        }
    }

    /// Reads the orientation out of a TIFF block, as it stands in a JPEG's APP1 (after `Exif\0\0`), a PNG's `eXIf` and a
    /// WebP's `EXIF` chunk.
    #[must_use]
    pub fn of_tiff(tiff: &[u8]) -> Self {
        read_tag(tiff, 0x0112).map_or(Self::Upright, Self::of_exif)
    }

    /// Whether width and height change places.
    #[must_use]
    pub fn swaps(self) -> bool {
        matches!(self, Self::Transposed | Self::Turned90 | Self::Transversed | Self::Turned270)
    }

    /// A size as it is after turning, or before it: the relation is its own inverse.
    #[must_use]
    pub fn turned(self, width: u32, height: u32) -> (u32, u32) {
        if self.swaps() { (height, width) } else { (width, height) }
    }

    /// Turns `pixels` upright. Meant for finished thumbnails: it copies pixel by pixel.
    #[must_use]
    pub fn apply(self, pixels: Pixels) -> Pixels {
        if self == Self::Upright {
            return pixels;
        }
        let (old_width, old_height) = (pixels.width as usize, pixels.height as usize);
        let (width, height) = self.turned(pixels.width, pixels.height);
        let size = pixels.layout.bytes();
        let mut bytes = Vec::with_capacity(pixels.bytes.len());
        for y in 0..height as usize {
            for x in 0..width as usize {
                let (from_x, from_y) = match self {
                    Self::Upright => (x, y),
                    Self::Mirrored => (old_width - 1 - x, y),
                    Self::Turned180 => (old_width - 1 - x, old_height - 1 - y),
                    Self::Flipped => (x, old_height - 1 - y),
                    Self::Transposed => (y, x),
                    Self::Turned90 => (y, old_height - 1 - x),
                    Self::Transversed => (old_width - 1 - y, old_height - 1 - x),
                    Self::Turned270 => (old_width - 1 - y, x),
                };
                let at = (from_y * old_width + from_x) * size;
                bytes.extend_from_slice(&pixels.bytes[at..at + size]);
            }
        }
        Pixels { width, height, layout: pixels.layout, bytes }
    }
}

/// The first value of a tag in the first directory of a TIFF block, of any type of whole numbers: SHORT is what the standard says,
/// and cameras and editors write others.
fn read_tag(tiff: &[u8], wanted: u16) -> Option<u32> {
    let little = match tiff.get(..4)? {
        [b'I', b'I', 42, 0] => true,
        [b'M', b'M', 0, 42] => false,
        _ => return None,
    };
    let u16_at = |at: usize| {
        let raw = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if little { u16::from_le_bytes(raw) } else { u16::from_be_bytes(raw) })
    };
    let u32_at = |at: usize| {
        let raw = tiff.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if little { u32::from_le_bytes(raw) } else { u32::from_be_bytes(raw) })
    };
    let directory = u32_at(4)? as usize;
    let entries = usize::from(u16_at(directory)?);
    let entry = (0..entries)
        .map(|n| directory.saturating_add(2).saturating_add(n * 12))
        .take_while(|at| *at < tiff.len())
        .find(|at| u16_at(*at) == Some(wanted))?;
    let (kind, count) = (u16_at(entry + 2)?, u32_at(entry + 4)?);
    // Values that take more than four bytes stand elsewhere, and an orientation is one number.
    match (kind, count) {
        (1 | 6, 1..=4) => tiff.get(entry + 8).copied().map(u32::from),
        (3 | 8, 1..=2) => u16_at(entry + 8).map(u32::from),
        (4 | 9, 1) => u32_at(entry + 8),
        _ => None,
    }
}
