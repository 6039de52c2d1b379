//! What is seen of one frame: brightness, contrast, sharpness, and a coarse grid of its luma that later frames are compared with.
//!
//! Invariant: numbers are on a scale of 0 (black) to 255 (white), and the cost does not grow with the frame's size.

use super::brightness::Brightness;

/// Points of the grid across and down.
const GRID: (usize, usize) = (64, 36);
/// Rows and columns along which sharpness is measured.
const LINES: usize = 48;
/// The longer side, in pixels, of the largest poster: what is blurred at less than its scale is not seen.
const SIDE: usize = 512;
/// Differences below this are noise.
const NOISE: u32 = 8;

/// One frame, as far as choosing goes.
#[derive(Clone, Debug)]
pub(crate) struct Appearance {
    /// Luma at the points of the grid, row by row.
    pub(super) grid: Vec<u8>,
    pub(super) brightness: Brightness,
    /// Standard deviation of luma.
    contrast: f64,
    /// How steep its edges are, in levels.
    sharpness: f64,
}

impl Appearance {
    /// Looks at a frame of which `luma` gives the luma at a place.
    pub(crate) fn at(width: usize, height: usize, luma: impl Fn(usize, usize) -> u8) -> Self {
        let place = |n: usize, count: usize, length: usize| (2 * n + 1) * length / (2 * count);
        let grid: Vec<u8> = (0..GRID.1)
            .flat_map(|y| (0..GRID.0).map(move |x| (x, y)))
            .map(|(x, y)| luma(place(x, GRID.0, width), place(y, GRID.1, height)))
            .collect();
        let count = grid.len() as f64;
        let mean = grid.iter().map(|luma| f64::from(*luma)).sum::<f64>() / count;
        let variance = grid.iter().map(|luma| (f64::from(*luma) - mean).powi(2)).sum::<f64>() / count;
        let sharpness = sharpness_of(width, height, &luma, place);
        Self { brightness: Brightness::of(&grid), contrast: variance.sqrt(), sharpness, grid }
    }

    /// How good a picture it makes by itself, 0 to 1.
    pub(super) fn quality(&self) -> f64 {
        let Brightness { mean, .. } = self.brightness;
        // Rising to the dim, level over what is well lit, falling to white.
        let exposure = ((mean - 16.0) / 64.0).min((250.0 - mean) / 50.0).clamp(0.0, 1.0);
        let part = |value: f64, half: f64| value / (value + half);
        0.45 * part(self.sharpness, 40.0) + 0.3 * part(self.contrast, 32.0) + 0.25 * exposure
    }

    /// Whether there is something to be seen: it is not nearly black, not nearly white, and not of one colour.
    pub(super) fn is_picture(&self) -> bool {
        !self.brightness.is_nearly_black() && self.brightness.mean < 235.0 && self.contrast > 6.0
    }

    /// Mean difference of luma to another frame.
    pub(super) fn distance(&self, other: &Self) -> f64 {
        let sum: u32 = self.grid.iter().zip(&other.grid).map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
        f64::from(sum) / self.grid.len() as f64
    }
}

/// The mean steepness of edges, each weighed by itself, so that it does not matter how many there are.
fn sharpness_of(
    width: usize,
    height: usize,
    luma: &impl Fn(usize, usize) -> u8,
    place: impl Fn(usize, usize, usize) -> usize,
) -> f64 {
    let step = (width.max(height) / SIDE).max(1);
    let (mut sum, mut squares) = (0_u64, 0_u64);
    let mut add = |a: u8, b: u8| {
        let steep = u32::from(a.abs_diff(b));
        if steep > NOISE {
            sum += u64::from(steep);
            squares += u64::from(steep * steep);
        }
    };
    for line in 0..LINES {
        let (x, y) = (place(line, LINES, width), place(line, LINES, height));
        (step..width).step_by(step).for_each(|x| add(luma(x - step, y), luma(x, y)));
        (step..height).step_by(step).for_each(|y| add(luma(x, y - step), luma(x, y)));
    }
    squares as f64 / sum.max(1) as f64
}
