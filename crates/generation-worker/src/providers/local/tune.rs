//! The sound of a sketch: a quiet tune of five notes that come again and again, over two low ones.
//!
//! Invariant: a tune is a function of the sketch's hash and its length; it begins and ends at nothing, and is never loud.

use std::f64::consts::TAU;

use super::dice::Dice;

/// The five notes, and the first one higher up, in half tones over the ground.
const NOTES: [i32; 6] = [0, 3, 5, 7, 10, 12];
/// Seconds in which it comes and goes.
const RISE: f64 = 0.4;
/// The amplitude of a note at its beginning, of 1; four sound at a time, at half of that on average.
const NOTE: f64 = 0.06;
/// The amplitude of each of the low notes.
const GROUND: f64 = 0.03;

/// A tune while it is played.
pub(super) struct Tune {
    dice: Dice,
    rate: usize,
    length: usize,
    at: usize,
    /// Samples from one note to the next.
    beat: usize,
    /// The lowest note, in hertz.
    ground: f64,
    low: [Tone; 2],
    notes: [Tone; 4],
    next: usize,
}

/// A sine that fades.
#[derive(Clone, Copy)]
struct Tone {
    /// Its value, and that of a quarter of a wave earlier.
    value: [f64; 2],
    /// What a sample turns it by.
    step: [f64; 2],
}

impl Tone {
    /// A tone of an amplitude that falls to a share of `fading` of it in a second.
    fn new(hertz: f64, rate: usize, amplitude: f64, fading: f64) -> Self {
        let (angle, keep) = (TAU * hertz / rate as f64, fading.powf(1.0 / rate as f64));
        Self { value: [0.0, amplitude], step: [angle.cos() * keep, angle.sin() * keep] }
    }

    fn next(&mut self) -> f64 {
        let ([sine, cosine], [cos, sin]) = (self.value, self.step);
        self.value = [sine * cos + cosine * sin, cosine * cos - sine * sin];
        sine
    }
}

impl Tune {
    /// A tune of `length` samples, `rate` of them a second.
    pub(super) fn new(hash: &[u8], rate: usize, length: usize) -> Self {
        // Its own numbers, so that a sketch is the same picture with sound and without.
        let mut dice = Dice::new(hash.get(8..).unwrap_or_default());
        let ground = 110.0 * 2_f64.powf(dice.below(12) as f64 / 12.0);
        let low = [ground, ground * 1.5].map(|hertz| Tone::new(hertz, rate, GROUND, 1.0));
        let silent = Tone::new(ground, rate, 0.0, 1.0);
        let beat = rate * 60 / (2 * (70 + dice.below(40)));
        Self { dice, rate, length, at: 0, beat, ground, low, notes: [silent; 4], next: 0 }
    }
}

impl Iterator for Tune {
    type Item = i16;

    fn next(&mut self) -> Option<i16> {
        if self.at == self.length {
            return None;
        }
        // One beat in four is a rest.
        if self.at.is_multiple_of(self.beat) && self.dice.below(4) > 0 {
            let half_tones = 12 + NOTES[self.dice.below(NOTES.len())];
            let hertz = self.ground * 2_f64.powf(f64::from(half_tones) / 12.0);
            self.notes[self.next] = Tone::new(hertz, self.rate, NOTE, 0.12);
            self.next = (self.next + 1) % self.notes.len();
        }
        let sum: f64 = self.low.iter_mut().chain(&mut self.notes).map(Tone::next).sum();
        let edge = self.at.min(self.length - 1 - self.at) as f64 / (RISE * self.rate as f64);
        self.at += 1;
        Some((sum * edge.min(1.0) * f64::from(i16::MAX)) as i16)
    }
}
