//! A frame while it is painted: luma, then two planes of chroma, in BT.709 from 16 to 235.
//!
//! Invariant: everything is painted in runs of one colour, straight into the planes that the encoder takes, so that a film costs a
//! fraction of a second even where nothing is optimised.

use std::ops::Range;

use super::font;
use super::size::Size;

/// Red, green and blue, each from 0 to 1.
pub(super) type Colour = [f32; 3];

/// How many samples of chroma there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chroma {
    /// One for each square of four pixels, as in films.
    Halved,
    /// One for each pixel, as in stills.
    Full,
}

/// A picture as samples: luma, blue difference, red difference, one plane after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Planes {
    pub(super) size: Size,
    pub(super) chroma: Chroma,
    pub(super) bytes: Vec<u8>,
}

impl Planes {
    fn grey(size: Size, chroma: Chroma) -> Self {
        let shift = chroma.shift();
        let samples = size.pixels() + 2 * (size.width >> shift) * (size.height >> shift);
        Self { size, chroma, bytes: vec![128; samples] }
    }

    /// A picture of red, green and blue bytes, row by row. Where chroma is halved, the size is even.
    pub(super) fn of_rgb(size: Size, chroma: Chroma, rgb: &[u8]) -> Self {
        let mut planes = Self::grey(size, chroma);
        let shift = chroma.shift();
        let (luma, differences) = planes.bytes.split_at_mut(size.pixels());
        for (sample, pixel) in luma.iter_mut().zip(rgb.chunks_exact(3)) {
            *sample = (16.5 + 219.0 * luma_of(to_colour(pixel))) as u8;
        }
        let (blues, reds) = differences.split_at_mut(differences.len() / 2);
        let pixel = |x: usize, y: usize| to_colour(&rgb[(y * size.width + x) * 3..][..3]);
        let mut at = 0;
        for y in (0..size.height >> shift << shift).step_by(1 << shift) {
            for x in (0..size.width >> shift << shift).step_by(1 << shift) {
                let colour = match chroma {
                    Chroma::Full => pixel(x, y),
                    Chroma::Halved => {
                        mix(mix(pixel(x, y), pixel(x + 1, y), 0.5), mix(pixel(x, y + 1), pixel(x + 1, y + 1), 0.5), 0.5)
                    }
                };
                [blues[at], reds[at]] = differences_of(colour);
                at += 1;
            }
        }
        planes
    }

    /// Red, green and blue bytes of a picture with full chroma, row by row.
    pub(super) fn to_rgb(&self) -> Vec<u8> {
        let pixels = self.size.pixels();
        let mut rgb = Vec::with_capacity(pixels * 3);
        for at in 0..pixels {
            let luma = (f32::from(self.bytes[at]) - 16.0) / 219.0;
            let blue = luma + 1.8556 * (f32::from(self.bytes[pixels + at]) - 128.0) / 224.0;
            let red = luma + 1.5748 * (f32::from(self.bytes[2 * pixels + at]) - 128.0) / 224.0;
            let green = (luma - 0.2126 * red - 0.0722 * blue) / 0.7152;
            rgb.extend([red, green, blue].map(|part| (part * 255.0 + 0.5) as u8));
        }
        rgb
    }

    /// Mixes in as much of another picture of the same size and chroma: `share` of 256 parts, at which nothing else is left.
    pub(super) fn mix_in(&mut self, other: &Self, share: u16) {
        if share == 256 {
            self.bytes.copy_from_slice(&other.bytes);
            return;
        }
        for (sample, theirs) in self.bytes.iter_mut().zip(&other.bytes) {
            *sample = ((u16::from(*sample) * (256 - share) + u16::from(*theirs) * share) >> 8) as u8;
        }
    }
}

impl Chroma {
    const fn shift(self) -> usize {
        match self {
            Self::Halved => 1,
            Self::Full => 0,
        }
    }
}

/// A picture while it is painted.
pub(super) struct Canvas {
    planes: Planes,
    /// How far the shutter is open, 0 to 1; every colour is dimmed by it.
    light: f32,
}

impl Canvas {
    pub(super) fn new(size: Size, chroma: Chroma, light: f32) -> Self {
        Self { planes: Planes::grey(size, chroma), light }
    }

    /// The picture as it is.
    pub(super) fn finish(self) -> Planes {
        self.planes
    }

    /// Paints a run of one colour in row `y`; where chroma is halved, it is taken from the even rows.
    pub(super) fn run(&mut self, y: usize, run: Range<usize>, colour: Colour) {
        let Size { width, height } = self.planes.size;
        let run = run.start.min(width)..run.end.min(width);
        if run.is_empty() || y >= height {
            return;
        }
        let colour = colour.map(|value| value.clamp(0.0, 1.0) * self.light);
        let bytes = &mut self.planes.bytes;
        bytes[y * width..][run.clone()].fill((16.5 + 219.0 * luma_of(colour)) as u8);
        let shift = self.planes.chroma.shift();
        if y >> shift << shift == y {
            let [blue, red] = differences_of(colour);
            let start = width * height + (y >> shift) * (width >> shift);
            let span = run.start >> shift..(run.end + shift) >> shift;
            bytes[start..][span.clone()].fill(blue);
            bytes[start + (width >> shift) * (height >> shift)..][span].fill(red);
        }
    }

    /// Paints a rectangle of one colour with its upper left corner at `x`, `y`.
    pub(super) fn fill(&mut self, x: usize, y: usize, size: Size, colour: Colour) {
        (y..y + size.height).for_each(|row| self.run(row, x..x + size.width, colour));
    }

    /// Puts a picture of the same chroma with its upper left corner at `x`, `y`, both even; what does not fit is left out.
    pub(super) fn paste(&mut self, picture: &Planes, x: usize, y: usize) {
        let dim = |sample: u8, zero: f32| (zero + 0.5 + (f32::from(sample) - zero) * self.light) as u8;
        let (mut to, mut from) = (0, 0);
        for (shift, zero) in [(0, 16.0), (self.planes.chroma.shift(), 128.0), (self.planes.chroma.shift(), 128.0)] {
            let [width, height] = [self.planes.size.width >> shift, self.planes.size.height >> shift];
            let [across, down] = [picture.size.width >> shift, picture.size.height >> shift];
            let kept = across.min(width.saturating_sub(x >> shift));
            for row in 0..down.min(height.saturating_sub(y >> shift)) {
                let source = &picture.bytes[from + row * across..][..kept];
                let target = &mut self.planes.bytes[to + ((y >> shift) + row) * width + (x >> shift)..][..kept];
                if self.light < 1.0 {
                    target.iter_mut().zip(source).for_each(|(sample, theirs)| *sample = dim(*theirs, zero));
                } else {
                    target.copy_from_slice(source);
                }
            }
            to += width * height;
            from += across * down;
        }
    }

    /// Writes `text` with its upper left corner at `x`, `y`, each dot `size` pixels; what does not fit is left out.
    pub(super) fn write(&mut self, text: &str, x: usize, y: usize, size: usize, colour: Colour) {
        for (n, character) in text.chars().enumerate() {
            let left = x + n * (font::WIDTH + 1) * size;
            for (row, dots) in font::rows(character).into_iter().enumerate() {
                for dot in (0..font::WIDTH).filter(|dot| dots >> (font::WIDTH - 1 - dot) & 1 == 1) {
                    let start = left + dot * size;
                    (0..size).for_each(|line| self.run(y + row * size + line, start..start + size, colour));
                }
            }
        }
    }
}

fn to_colour(pixel: &[u8]) -> Colour {
    [pixel[0], pixel[1], pixel[2]].map(|part| f32::from(part) / 255.0)
}

fn luma_of([red, green, blue]: Colour) -> f32 {
    0.2126 * red + 0.7152 * green + 0.0722 * blue
}

/// The samples of blue and of red difference.
fn differences_of(colour: Colour) -> [u8; 2] {
    let luma = luma_of(colour);
    [(colour[2], 1.8556), (colour[0], 1.5748)].map(|(value, span)| (128.5 + 224.0 * (value - luma) / span) as u8)
}

/// A colour between two.
pub(super) fn mix(from: Colour, to: Colour, share: f32) -> Colour {
    std::array::from_fn(|n| from[n] + (to[n] - from[n]) * share)
}

/// A colour by hue in degrees, saturation and lightness.
pub(super) fn colour(hue: f32, saturation: f32, light: f32) -> Colour {
    let spread = saturation * light.min(1.0 - light);
    [0.0, 8.0, 4.0].map(|offset: f32| {
        let turn = (offset + hue / 30.0).rem_euclid(12.0);
        light - spread * (turn - 3.0).min(9.0 - turn).clamp(-1.0, 1.0)
    })
}
