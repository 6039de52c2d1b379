//! High dynamic range and wide primaries as sRGB, which is what a WebP without a profile means.
//!
//! Invariant: diffuse white (203 nits) stays bright, highlights keep their order up to 1,000 nits, and hues stay: one factor
//! scales all three channels of a pixel.

use crate::pictures::Pixels;

use super::colour::ColourDescription;

/// ITU-T H.273's numbers.
const BT2020: u8 = 9;
const DISPLAY_P3: u8 = 12;
const PQ: u8 = 16;
const HLG: u8 = 18;

/// Light of diffuse white, in nits, by ITU-R BT.2408.
const WHITE: f32 = 203.0;
/// The brightest light that keeps its difference to what is brighter, in parts of diffuse white.
const PEAK: f32 = 1_000.0 / WHITE;
/// Up to here light is kept as it is; from here on it is compressed.
const KNEE: f32 = 0.5;

/// From linear BT.2020 to linear BT.709, by ITU-R BT.2087.
const FROM_BT2020: [[f32; 3]; 3] =
    [[1.660_491, -0.587_641, -0.072_85], [-0.124_55, 1.132_9, -0.008_349], [-0.018_151, -0.100_579, 1.118_73]];
/// From linear P3 with the white of D65 to linear BT.709.
const FROM_P3: [[f32; 3]; 3] =
    [[1.224_94, -0.224_94, 0.0], [-0.042_057, 1.042_057, 0.0], [-0.019_638, -0.078_636, 1.098_273]];

/// Converts samples of a description to sRGB.
pub(crate) struct ToSrgb {
    /// Light of each sample, 1 being diffuse white.
    light: [f32; 256],
    matrix: Option<[[f32; 3]; 3]>,
    is_hlg: bool,
    compress: bool,
    /// sRGB of light from 0 to 1, in 4,096 steps.
    coded: Vec<u8>,
}

impl ToSrgb {
    /// The conversion of a description; nothing where its samples are as good as sRGB already.
    #[must_use]
    pub(crate) fn of(description: ColourDescription) -> Option<Self> {
        let matrix = match description.primaries {
            BT2020 => Some(FROM_BT2020),
            DISPLAY_P3 => Some(FROM_P3),
            _ => None,
        };
        let compress = matches!(description.transfer, PQ | HLG);
        if matrix.is_none() && !compress {
            return None;
        }
        let light = std::array::from_fn(|sample| {
            let sample = sample as f32 / 255.0;
            match description.transfer {
                PQ => pq_to_nits(sample) / WHITE,
                HLG => hlg_to_scene(sample),
                // Players show BT.709's samples as they are, which makes them sRGB's.
                _ => srgb_to_light(sample),
            }
        });
        let coded = (0..=4_096_u16).map(|step| light_to_srgb(f32::from(step) / 4_096.0)).collect();
        Some(Self { light, matrix, is_hlg: description.transfer == HLG, compress, coded })
    }

    /// One pixel.
    #[must_use]
    pub(super) fn pixel(&self, rgb: [u8; 3]) -> [u8; 3] {
        let mut light = rgb.map(|sample| self.light[usize::from(sample)]);
        if self.is_hlg {
            // The display's part: a gamma of 1.2 on luminance, for a display of 1,000 nits.
            let luminance = 0.2627 * light[0] + 0.678 * light[1] + 0.0593 * light[2];
            let factor = PEAK * luminance.max(1e-6).powf(0.2);
            light = light.map(|part| part * factor);
        }
        if let Some(matrix) = &self.matrix {
            light = matrix.map(|row| row[0] * light[0] + row[1] * light[1] + row[2] * light[2]);
        }
        if self.compress {
            let brightest = light.into_iter().fold(0.0, f32::max);
            let factor = compress(brightest) / brightest.max(1e-6);
            light = light.map(|part| part * factor);
        }
        light.map(|part| self.coded[(part.clamp(0.0, 1.0) * 4_096.0 + 0.5) as usize])
    }

    /// A whole frame in RGB.
    #[must_use]
    pub(crate) fn frame(&self, mut pixels: Pixels) -> Pixels {
        let mut last = ([0; 3], self.pixel([0; 3]));
        for pixel in pixels.bytes.chunks_exact_mut(3) {
            let rgb = [pixel[0], pixel[1], pixel[2]];
            // Neighbours are often alike.
            if rgb != last.0 {
                last = (rgb, self.pixel(rgb));
            }
            pixel.copy_from_slice(&last.1);
        }
        pixels
    }
}

/// Brings light above the knee below 1, the steeper the brighter.
fn compress(light: f32) -> f32 {
    if light <= KNEE {
        return light;
    }
    let (over, peak) = ((light - KNEE) / (1.0 - KNEE), (PEAK - KNEE) / (1.0 - KNEE));
    KNEE + (1.0 - KNEE) * (over * (1.0 + over / (peak * peak)) / (1.0 + over)).min(1.0)
}

/// SMPTE ST 2084.
fn pq_to_nits(sample: f32) -> f32 {
    let power = sample.powf(32.0 / 2_523.0);
    let ratio = (power - 0.835_937_5).max(0.0) / (18.851_562 - 18.6875 * power);
    10_000.0 * ratio.powf(8_192.0 / 1_305.0)
}

/// The inverse of ITU-R BT.2100's opto-electronic function of hybrid log-gamma: light of the scene, 0 to 1.
fn hlg_to_scene(sample: f32) -> f32 {
    if sample <= 0.5 {
        sample * sample / 3.0
    } else {
        (((sample - 0.559_910_7) / 0.178_832_77).exp() + 0.284_668_92) / 12.0
    }
}

fn srgb_to_light(sample: f32) -> f32 {
    if sample <= 0.040_45 { sample / 12.92 } else { ((sample + 0.055) / 1.055).powf(2.4) }
}

fn light_to_srgb(light: f32) -> u8 {
    let sample = if light <= 0.003_130_8 { light * 12.92 } else { 1.055 * light.powf(1.0 / 2.4) - 0.055 };
    (sample * 255.0 + 0.5) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(primaries: u8, transfer: u8) -> ColourDescription {
        ColourDescription { primaries, transfer, matrix: 9, full_range: false }
    }

    /// The nearest sample of PQ for this light.
    fn pq(nits: f32) -> u8 {
        let distance = |sample: &u8| ((pq_to_nits(f32::from(*sample) / 255.0) - nits).abs() * 1e3) as u64;
        (0..=255).min_by_key(distance).unwrap()
    }

    #[test]
    fn what_is_srgb_already_stays() {
        assert!(ToSrgb::of(ColourDescription::UNKNOWN).is_none());
        assert!(ToSrgb::of(description(1, 1)).is_none());
        let wide = ToSrgb::of(description(BT2020, 14)).unwrap();
        for grey in [0, 1, 60, 128, 254, 255] {
            assert!(wide.pixel([grey; 3]).iter().all(|part| part.abs_diff(grey) <= 1), "{grey}");
        }
    }

    #[test]
    fn diffuse_white_is_bright_and_highlights_keep_their_order() {
        let map = ToSrgb::of(description(BT2020, PQ)).unwrap();
        let grey = |nits| map.pixel([pq(nits); 3])[0];
        assert_eq!(grey(0.0), 0);
        assert!((215..=235).contains(&grey(203.0)), "{}", grey(203.0));
        // Light below the knee keeps its place: 18 % grey of the scene, at 26 nits by BT.2408, is sRGB's.
        assert!((95..=106).contains(&grey(26.0)), "{}", grey(26.0));
        let rising = [1.0, 10.0, 50.0, 100.0, 203.0, 400.0, 1_000.0].map(grey);
        assert!(rising.is_sorted_by(|low, high| low < high), "{rising:?}");
        assert!(grey(1_000.0) >= 250 && grey(10_000.0) == 255);
        let map = ToSrgb::of(description(BT2020, HLG)).unwrap();
        let white = map.pixel([191; 3])[0];
        assert!((210..=240).contains(&white), "HLG's diffuse white, 75 % of its signal: {white}");
        assert_eq!(map.pixel([0; 3]), [0; 3]);
    }

    #[test]
    fn hues_stay() {
        let map = ToSrgb::of(description(BT2020, PQ)).unwrap();
        let [red, green, blue] = map.pixel([pq(150.0), 0, 0]);
        assert!(red > 180 && green < 10 && blue < 10, "{red} {green} {blue}");
    }
}
