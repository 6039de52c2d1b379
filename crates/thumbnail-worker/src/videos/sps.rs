//! H.264's sequence parameter set: how large the frames are, which shape their pixels have and how their colours are meant, read
//! before any decoding.
//!
//! Invariant: what is read here bounds what the decoder will allocate, so a set that cannot be read is never handed on.

use super::colour::{ColourDescription, UNKNOWN};

/// A sequence parameter set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sps {
    /// Coded width in pixels, whole macroblocks.
    pub(super) width: u32,
    /// Coded height in pixels, whole macroblocks.
    pub(super) height: u32,
    /// How many frames the decoder keeps to refer to, at most 16.
    pub(super) references: u32,
    /// Whether the decoder in use can take it: 4:2:0, 8 bits, progressive.
    pub(super) plain: bool,
    /// What the colours mean.
    pub(super) colour: ColourDescription,
    /// How wide a pixel is for its height, as a fraction; nothing when it is not stated.
    pub(super) pixel_aspect: Option<(u32, u32)>,
}

impl Sps {
    /// Reads a unit of type 7, without its start code.
    #[must_use]
    pub(super) fn read(unit: &[u8]) -> Option<Self> {
        let (header, rest) = unit.split_first()?;
        if header & 0x1F != 7 {
            return None;
        }
        let payload = without_emulation(rest);
        let mut bits = Bits { bytes: &payload, at: 0 };
        let profile = bits.take(8)?;
        bits.take(16)?;
        bits.ue()?;
        let mut plain = true;
        if matches!(profile, 44 | 83 | 86 | 100 | 110 | 118 | 122 | 128 | 134 | 135 | 138 | 139 | 244) {
            let chroma = bits.ue()?;
            if chroma == 3 {
                bits.take(1)?;
            }
            let depth = bits.ue()? + bits.ue()?;
            plain = chroma == 1 && depth == 0;
            bits.take(1)?;
            if bits.take(1)? == 1 {
                for list in 0..if chroma == 3 { 12 } else { 8 } {
                    if bits.take(1)? == 1 {
                        bits.skip_scaling_list(if list < 6 { 16 } else { 64 })?;
                    }
                }
            }
        }
        bits.ue()?;
        match bits.ue()? {
            0 => {
                bits.ue()?;
            }
            1 => {
                bits.take(1)?;
                bits.ue()?;
                bits.ue()?;
                for _ in 0..bits.ue()?.min(255) {
                    bits.ue()?;
                }
            }
            2 => {}
            _ => return None,
        }
        let references = bits.ue()?.min(16);
        bits.take(1)?;
        let width = bits.ue()?.checked_add(1)?.checked_mul(16)?;
        let map_height = bits.ue()?.checked_add(1)?.checked_mul(16)?;
        let frames_only = bits.take(1)?;
        if frames_only == 0 {
            bits.take(1)?;
            plain = false;
        }
        let height = map_height.checked_mul(2 - frames_only)?;
        bits.take(1)?;
        if bits.take(1)? == 1 {
            for _ in 0..4 {
                bits.ue()?;
            }
        }
        let (mut pixel_aspect, mut colour) = (None, None);
        // What stands behind the sizes may be cut off: the frames are good without it.
        if bits.take(1)? == 1 {
            pixel_aspect = bits.pixel_aspect();
            colour = bits.colour();
        }
        let colour = colour.unwrap_or(ColourDescription::UNKNOWN);
        Some(Self { width, height, references, plain, colour, pixel_aspect })
    }

    /// The memory, in bytes, that decoding such a stream holds at the highest: kept frames, those being decoded, and the RGB copy
    /// of one.
    #[must_use]
    pub(super) fn weight(&self) -> u64 {
        let pixels = u64::from(self.width + 64) * u64::from(self.height + 64);
        pixels * 3 / 2 * u64::from(self.references + 4) + pixels * 6
    }
}

/// Takes out the 03 that keeps 00 00 01 from appearing inside a unit.
fn without_emulation(unit: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(unit.len());
    let mut zeros = 0;
    for byte in unit {
        if zeros >= 2 && *byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
        payload.push(*byte);
    }
    payload
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = *self.bytes.get(self.at / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.at % 8) & 1);
            self.at += 1;
        }
        Some(value)
    }

    /// An unsigned Exp-Golomb number of at most 16 bits, which all that are read here are. A signed one has the same length.
    fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.take(1)? == 0 {
            zeros += 1;
            if zeros > 16 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.take(zeros)?)
    }

    fn se(&mut self) -> Option<i32> {
        let number = self.ue()? as i32;
        Some(if number % 2 == 1 { number / 2 + 1 } else { -(number / 2) })
    }

    fn skip_scaling_list(&mut self, size: usize) -> Option<()> {
        let (mut last, mut next) = (8, 8);
        for _ in 0..size {
            if next != 0 {
                next = (last + self.se()? + 256) % 256;
            }
            last = if next == 0 { last } else { next };
        }
        Some(())
    }

    /// The shape of a pixel from the usability information, of which it is the first.
    fn pixel_aspect(&mut self) -> Option<(u32, u32)> {
        /// Table E-1 of the standard, from 1.
        const SHAPES: [(u32, u32); 16] = [
            (1, 1),
            (12, 11),
            (10, 11),
            (16, 11),
            (40, 33),
            (24, 11),
            (20, 11),
            (32, 11),
            (80, 33),
            (18, 11),
            (15, 11),
            (64, 33),
            (160, 99),
            (4, 3),
            (3, 2),
            (2, 1),
        ];
        if self.take(1)? == 0 {
            return None;
        }
        let shape = match self.take(8)? {
            255 => (self.take(16)?, self.take(16)?),
            number => *SHAPES.get((number as usize).checked_sub(1)?)?,
        };
        Some(shape).filter(|(across, down)| *across > 0 && *down > 0)
    }

    /// The colours from the usability information, where they follow the shape of a pixel.
    fn colour(&mut self) -> Option<ColourDescription> {
        if self.take(1)? == 1 {
            self.take(1)?;
        }
        if self.take(1)? == 0 {
            return None;
        }
        self.take(3)?;
        let full_range = self.take(1)? == 1;
        let (mut primaries, mut transfer, mut matrix) = (UNKNOWN, UNKNOWN, UNKNOWN);
        if self.take(1)? == 1 {
            [primaries, transfer, matrix] = [self.take(8)? as u8, self.take(8)? as u8, self.take(8)? as u8];
        }
        Some(ColourDescription { primaries, transfer, matrix, full_range })
    }
}
