//! A range of hills: what lies below a ridge that moves.
//!
//! Invariant: painting costs what the ridge's ups and downs cost, not the area below it times its width.

use std::f32::consts::TAU;

use super::canvas::{Canvas, Colour, colour, mix};
use super::dice::Dice;
use super::size::Size;

/// A range of hills.
#[derive(Debug)]
pub(super) struct Hill {
    colour: Colour,
    base: f32,
    waves: [[f32; 3]; 3],
    speed: f32,
}

impl Hill {
    /// The hills at a depth from 0, the furthest, to 2.
    pub(super) fn new(hue: f32, depth: f32, dice: &mut Dice) -> Self {
        Self {
            colour: colour(hue + 150.0 + depth * 18.0, 0.45, 0.46 - depth * 0.12),
            base: 0.50 + depth * 0.13,
            waves: std::array::from_fn(|n| {
                let fine = 1.0 + n as f32 * 1.7;
                [dice.between(0.012, 0.05) / fine, dice.between(0.6, 1.6) * fine, dice.between(0.0, TAU)]
            }),
            speed: 0.05 + depth * 0.11,
        }
    }

    /// Paints what is below the ridge, each row in its own shade.
    pub(super) fn paint(&self, canvas: &mut Canvas, size: Size, time: f32) {
        let Size { width, height } = size;
        let tops: Vec<usize> = (0..width).map(|x| self.ridge(x, size, time)).collect();
        let (highest, lowest) = (tops.iter().min().copied().unwrap_or(0), tops.iter().max().copied().unwrap_or(0));
        // Where in each row the hill begins and ends, in turns.
        let mut edges = vec![Vec::new(); lowest - highest];
        let mut before = lowest;
        for (x, top) in tops.into_iter().enumerate() {
            for row in before.min(top)..before.max(top) {
                edges[row - highest].push(x);
            }
            before = top;
        }
        for y in highest..height {
            let depth = y as f32 / height as f32 - self.base + 0.1;
            let shade = mix(self.colour, [0.0; 3], (depth * 0.9).clamp(0.0, 0.5));
            match edges.get(y - highest) {
                None => canvas.run(y, 0..width, shade),
                Some(edges) => {
                    for edge in edges.chunks(2) {
                        canvas.run(y, edge[0]..edge.get(1).copied().unwrap_or(width), shade);
                    }
                }
            }
        }
    }

    /// The row at which the hill begins in a column.
    fn ridge(&self, x: usize, size: Size, time: f32) -> usize {
        let place = (x as f32 / size.width as f32 + time * self.speed) * TAU;
        let rise: f32 = self.waves.iter().map(|[high, often, at]| high * (place * often + at).sin()).sum();
        ((self.base + rise) * size.height as f32).clamp(0.0, size.height as f32 - 1.0) as usize
    }
}
