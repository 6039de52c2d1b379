//! From decoded luma and chroma planes to RGB.
//!
//! Invariant: the matrix and range are the ones that the stream states; one that states none is taken as broadcast does: BT.709
//! from 720 lines on, BT.601 below.

use crate::pictures::{Layout, Pixels};

/// A decoded frame as the decoder holds it: 4:2:0, 8 bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planes<'a> {
    /// Width in pixels.
    pub(super) width: usize,
    /// Height in pixels.
    pub(super) height: usize,
    /// Luma, and the two chroma planes of half the size.
    pub(super) planes: [&'a [u8]; 3],
    /// Bytes from one row to the next, of each plane.
    pub(super) strides: [usize; 3],
}

/// The number by which ITU-T H.273 says that something is not stated.
pub(crate) const UNKNOWN: u8 = 2;

/// A stream's colour description, by the numbers of ITU-T H.273: what its samples mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ColourDescription {
    /// The primary colours.
    pub(crate) primaries: u8,
    /// The transfer characteristics: how light follows from a sample.
    pub(crate) transfer: u8,
    /// The matrix between luma with chroma and RGB.
    pub(crate) matrix: u8,
    /// Luma runs from 0 to 255 instead of from 16 to 235.
    pub(crate) full_range: bool,
}

impl ColourDescription {
    /// A stream that says nothing.
    pub(crate) const UNKNOWN: Self = Self { primaries: UNKNOWN, transfer: UNKNOWN, matrix: UNKNOWN, full_range: false };

    /// This description, and what it leaves open by `other`.
    #[must_use]
    pub(super) fn or(self, other: Option<Self>) -> Self {
        let Some(other) = other else { return self };
        let pick = |own, theirs| if own == UNKNOWN { theirs } else { own };
        Self {
            primaries: pick(self.primaries, other.primaries),
            transfer: pick(self.transfer, other.transfer),
            matrix: pick(self.matrix, other.matrix),
            // A description that leaves the matrix open says nothing of the range either.
            full_range: if self.matrix == UNKNOWN { other.full_range || self.full_range } else { self.full_range },
        }
    }
}

impl Planes<'_> {
    /// The luma of a row, `None` past the last.
    #[must_use]
    pub(super) fn luma(&self, row: usize) -> Option<&[u8]> {
        self.row(0, row, self.width)
    }

    fn row(&self, plane: usize, row: usize, length: usize) -> Option<&[u8]> {
        let start = row.checked_mul(self.strides[plane])?;
        self.planes[plane].get(start..start.checked_add(length)?)
    }

    /// The frame as RGB; nothing when the planes are shorter than the size says.
    #[must_use]
    pub(super) fn to_rgb(self, description: ColourDescription) -> Option<Pixels> {
        let (red, green_blue, green_red, blue) = match (description.matrix, self.height) {
            (9 | 10, _) => (1.4746, 0.164_55, 0.571_35, 1.8814),
            (1, _) | (2, 720..) => (1.5748, 0.187_32, 0.468_12, 1.8556),
            _ => (1.402, 0.344_14, 0.714_14, 1.772),
        };
        let (black_level, luma_gain, chroma_gain) =
            if description.full_range { (0, 1.0, 1.0) } else { (16, 255.0 / 219.0, 255.0 / 224.0) };
        let fixed = |factor: f64| (factor * 65_536.0).round() as i32;
        let luma_gain = fixed(luma_gain);
        let [red, green_blue, green_red, blue] =
            [red, green_blue, green_red, blue].map(|factor| fixed(factor * chroma_gain));

        let half = self.width.div_ceil(2);
        let mut bytes = Vec::with_capacity(self.width * self.height * 3);
        for y in 0..self.height {
            let luma = self.luma(y)?;
            // A decoder that halves an odd height downwards lacks the last chroma row: the one before stands in.
            let chroma =
                |plane| self.row(plane, y / 2, half).or_else(|| self.row(plane, (y / 2).checked_sub(1)?, half));
            let (cb, cr) = (chroma(1)?, chroma(2)?);
            for (x, y) in luma.iter().enumerate() {
                let y = (i32::from(*y) - black_level) * luma_gain + 32_768;
                let (cb, cr) = (i32::from(cb[x / 2]) - 128, i32::from(cr[x / 2]) - 128);
                let rgb = [y + red * cr, y - green_blue * cb - green_red * cr, y + blue * cb];
                bytes.extend_from_slice(&rgb.map(|value| (value >> 16).clamp(0, 255) as u8));
            }
        }
        Some(Pixels { width: self.width as u32, height: self.height as u32, layout: Layout::Rgb, bytes })
    }
}
