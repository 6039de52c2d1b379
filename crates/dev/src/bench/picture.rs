//! A photograph that never was: 4000 x 3000 pixels as JPEG with 4:2:0 chroma, about as large as a telephone's.

use anyhow::{Context, Result};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

const WIDTH: u16 = 4_000;
const HEIGHT: u16 = 3_000;
const QUALITY: u8 = 90;
/// How much noise there is, in steps of brightness; with it the file has 5 MB.
const GRAIN: u8 = 24;

/// A picture of so few pixels that nothing of the time to read it is theirs.
pub(super) fn tiny_jpeg() -> Result<Vec<u8>> {
    let mut jpeg = Vec::new();
    Encoder::new(&mut jpeg, QUALITY)
        .encode(&[128; 16 * 16 * 3], 16, 16, ColorType::Rgb)
        .context("encoding a picture")?;
    Ok(jpeg)
}

/// The same bytes for the same seed: broad shapes, edges, and grain, since a smooth picture would be too easy to decode.
pub(super) fn jpeg(seed: u64) -> Result<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut pixels = Vec::with_capacity(usize::from(WIDTH) * usize::from(HEIGHT) * 3);
    for y in 0..u32::from(HEIGHT) {
        for x in 0..u32::from(WIDTH) {
            let sky = 40 + y * 120 / u32::from(HEIGHT);
            let hill = if (x / 160 + y / 120) % 3 == 0 { 60 } else { 0 };
            let wave = (x * x / 900 + y * y / 700) % 64;
            for channel in [sky + hill, sky / 2 + wave, 150 - sky / 2 + wave / 2] {
                let grain = u32::from(random.u8(0..GRAIN));
                pixels.push(u8::try_from(channel + grain).unwrap_or(u8::MAX));
            }
        }
    }
    let mut jpeg = Vec::new();
    let mut encoder = Encoder::new(&mut jpeg, QUALITY);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.encode(&pixels, WIDTH, HEIGHT, ColorType::Rgb).context("encoding the picture to measure with")?;
    Ok(jpeg)
}
