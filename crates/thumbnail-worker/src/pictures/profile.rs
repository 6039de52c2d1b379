//! Colour profiles: what the numbers of a picture mean, and their conversion to sRGB, which a WebP without a profile means.
//!
//! Invariant: only finished thumbnails are converted, so a profile costs the same whatever the picture's size is. One that is
//! damaged, too long or of another kind than its picture counts as none: the picture is good without it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use moxcms::{
    CicpColorPrimaries, CicpProfile, ColorProfile, DataColorSpace, Layout as Order, MatrixCoefficients, ParsingOptions,
    TransferCharacteristics, TransformOptions,
};

use super::pixels::{Layout, Pixels};

/// The longest profile that is read, in bytes; those of printers' inks take about one million, those of screens a few thousand.
pub(super) const MAX_BYTES: usize = 4 << 20;
/// Memory, in bytes, that conversion by a profile holds at the highest: the profile, its tables as numbers, and ours.
pub(super) const WEIGHT: u64 = 24 << 20;

/// A picture's colour profile as its file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Profile {
    /// An ICC profile.
    Icc(Vec<u8>),
    /// Primaries and transfer characteristics by the numbers of ITU-T H.273, as PNG's `cICP` has them.
    Coded { primaries: u8, transfer: u8 },
}

impl Profile {
    /// An ICC profile; nothing for one that is too long.
    pub(super) fn icc(bytes: Vec<u8>) -> Option<Self> {
        (!bytes.is_empty() && bytes.len() <= MAX_BYTES).then_some(Self::Icc(bytes))
    }

    /// Converts `pixels` to sRGB, or leaves them as they are.
    pub(super) fn to_srgb(&self, mut pixels: Pixels) -> Pixels {
        // The library is young, and profiles come from anywhere: whatever happens, the picture is there.
        let converted = catch_unwind(AssertUnwindSafe(|| self.convert(&pixels))).ok().flatten();
        if let Some(bytes) = converted {
            pixels.bytes = bytes;
        }
        pixels
    }

    fn convert(&self, pixels: &Pixels) -> Option<Vec<u8>> {
        let profile = self.read()?;
        let srgb = ColorProfile::new_srgb();
        let options = TransformOptions::default();
        let order = match pixels.layout {
            Layout::Rgb => Order::Rgb,
            Layout::Rgba => Order::Rgba,
        };
        let mut converted = vec![0; pixels.bytes.len()];
        match profile.color_space {
            DataColorSpace::Rgb => {
                let transform = profile.create_transform_8bit(order, &srgb, order, options).ok()?;
                transform.transform(&pixels.bytes, &mut converted).ok()?;
            }
            // All three channels of a grey picture are alike, and each level is converted once.
            DataColorSpace::Gray => {
                let transform = profile.create_transform_8bit(Order::Gray, &srgb, Order::Rgb, options).ok()?;
                let levels: Vec<u8> = (0..=255).collect();
                let mut table = vec![0; 256 * 3];
                transform.transform(&levels, &mut table).ok()?;
                let size = pixels.layout.bytes();
                for (pixel, into) in pixels.bytes.chunks_exact(size).zip(converted.chunks_exact_mut(size)) {
                    if pixel[0] != pixel[1] || pixel[1] != pixel[2] {
                        return None;
                    }
                    into.copy_from_slice(pixel);
                    into[..3].copy_from_slice(&table[usize::from(pixel[0]) * 3..][..3]);
                }
            }
            _ => return None,
        }
        Some(converted)
    }

    fn read(&self) -> Option<ColorProfile> {
        match self {
            Self::Icc(bytes) => {
                let limits = ParsingOptions {
                    max_profile_size: MAX_BYTES + 1,
                    max_allowed_clut_size: 2_000_000,
                    ..ParsingOptions::default()
                };
                ColorProfile::new_from_slice_with_options(bytes, limits).ok()
            }
            Self::Coded { primaries, transfer } => {
                let color_primaries = CicpColorPrimaries::try_from(*primaries).ok()?;
                let transfer_characteristics = TransferCharacteristics::try_from(*transfer).ok()?;
                let cicp = CicpProfile {
                    color_primaries,
                    transfer_characteristics,
                    matrix_coefficients: MatrixCoefficients::Identity,
                    full_range: true,
                };
                Some(ColorProfile::new_from_cicp(cicp))
            }
        }
    }
}
