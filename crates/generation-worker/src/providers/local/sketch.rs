//! The picture of a sketch: a moving landscape in colours that come from the prompt, with the prompt as its title.
//!
//! Invariant: a frame is a function of prompt, seed, references and its number, and of nothing else. The film opens on black, so
//! that whoever chooses a poster has to read further than the first frame. Everything is painted in runs of one colour, straight
//! into the planes that the encoder takes: a film costs a fraction of a second even where nothing is optimised.

use std::f32::consts::TAU;

use sha2::{Digest as _, Sha256};

use super::font;

/// Width in pixels.
pub(super) const WIDTH: usize = 640;
/// Height in pixels.
pub(super) const HEIGHT: usize = 360;
/// Frames a second.
pub(super) const RATE: usize = 24;
/// Frames in all: three seconds.
pub(super) const FRAMES: usize = RATE * 3;

/// Frames that are wholly black.
const BLACK: usize = 3;
/// The frame at which the picture is at full light.
const LIT: usize = 18;
/// Frames over which it goes out again.
const OUT: usize = 8;
/// Height of the bars above and below, in pixels.
const BAR: usize = 26;
/// The title's maximum of lines.
const LINES: usize = 3;

type Colour = [f32; 3];

/// What is drawn, decided once.
#[derive(Debug)]
pub(super) struct Sketch {
    sky: [Colour; 2],
    sun: Colour,
    sun_at: [f32; 2],
    hills: [Hill; 3],
    stars: Vec<[usize; 2]>,
    title: Vec<String>,
    note: String,
}

#[derive(Debug)]
struct Hill {
    colour: Colour,
    base: f32,
    waves: [[f32; 3]; 3],
    speed: f32,
}

impl Sketch {
    pub(super) fn new(prompt: &str, seed: i64, references: &[String]) -> Self {
        let mut hash = Sha256::new();
        hash.update(prompt.as_bytes());
        hash.update(seed.to_le_bytes());
        references.iter().for_each(|reference| hash.update(reference.as_bytes()));
        let mut dice = Dice::new(&hash.finalize());

        let hue = dice.between(0.0, 360.0);
        let night = dice.between(0.0, 1.0) < 0.3;
        let light = if night { 0.22 } else { 0.55 };
        let sky = [colour(hue, 0.55, light), colour(hue + 40.0, 0.65, light + 0.25)];
        let hills = [0.0, 1.0, 2.0].map(|depth: f32| Hill {
            colour: colour(hue + 150.0 + depth * 18.0, 0.45, 0.46 - depth * 0.12),
            base: 0.50 + depth * 0.13,
            waves: std::array::from_fn(|n| {
                let fine = 1.0 + n as f32 * 1.7;
                [dice.between(0.012, 0.05) / fine, dice.between(0.6, 1.6) * fine, dice.between(0.0, TAU)]
            }),
            speed: 0.05 + depth * 0.11,
        });
        let count = if night { 70 } else { 0 };
        Self {
            sky,
            sun: if night { colour(50.0, 0.15, 0.92) } else { colour(hue + 60.0, 0.9, 0.75) },
            sun_at: [dice.between(0.2, 0.8), dice.between(0.22, 0.38)],
            hills,
            stars: (0..count).map(|_| [dice.below(WIDTH), BAR + dice.below(HEIGHT / 2)]).collect(),
            title: wrap(prompt, (WIDTH - 48) / ((font::WIDTH + 1) * 3), LINES),
            note: format!("LOCAL SKETCH, NO MODEL   SEED {seed}"),
        }
    }

    /// Frame `number` as the planes of a [`Canvas`].
    pub(super) fn frame(&self, number: usize) -> Vec<u8> {
        let mut canvas = Canvas::new(shutter(number));
        let time = number as f32 / RATE as f32;
        self.sky(&mut canvas, time);
        self.hills.iter().for_each(|hill| hill.paint(&mut canvas, time));
        for y in (0..BAR).chain(HEIGHT - BAR..HEIGHT) {
            canvas.run(y, 0..WIDTH, [0.02, 0.02, 0.025]);
        }
        let size = 3;
        let line = (font::HEIGHT + 3) * size;
        let top = HEIGHT - BAR - 14 - self.title.len() * line;
        for (n, text) in self.title.iter().enumerate() {
            canvas.write(text, 24 + 2, top + n * line + 2, size, [0.0; 3]);
            canvas.write(text, 24, top + n * line, size, [1.0, 0.98, 0.94]);
        }
        canvas.write(&self.note, 24, HEIGHT - BAR + 9, 1, [0.6; 3]);
        let clock = format!("{:02}:{:02}", number / RATE, number % RATE);
        canvas.write(&clock, WIDTH - 24 - clock.len() * (font::WIDTH + 1), HEIGHT - BAR + 9, 1, [0.6; 3]);
        canvas.planes
    }

    fn sky(&self, canvas: &mut Canvas, time: f32) {
        let sky = |y: usize| mix(self.sky[0], self.sky[1], (y as f32 / HEIGHT as f32 * 1.5).min(1.0));
        for y in BAR..HEIGHT - BAR {
            canvas.run(y, 0..WIDTH, sky(y));
        }
        for [x, y] in &self.stars {
            let twinkle = 0.5 + 0.5 * (time * 5.0 + *x as f32).sin();
            canvas.run(*y, *x..x + 2, [0.6 + 0.4 * twinkle; 3]);
        }
        let [x, y] = [self.sun_at[0] * WIDTH as f32 + time * 14.0, self.sun_at[1] * HEIGHT as f32 - time * 5.0];
        // From the widest ring of the glow to the disc itself.
        for (radius, glow) in
            (1..=12).rev().map(|n| (34.0 + n as f32 * 5.5, 0.03 * (13 - n) as f32)).chain([(34.0, 1.0)])
        {
            for row in (y - radius).max(0.0) as usize..((y + radius) as usize).min(HEIGHT) {
                let half = (radius * radius - (row as f32 - y).powi(2)).max(0.0).sqrt();
                let run = (x - half).max(0.0) as usize..((x + half).max(0.0) as usize).min(WIDTH);
                canvas.run(row, run, mix(sky(row), self.sun, glow));
            }
        }
    }
}

impl Hill {
    /// Paints what is below the ridge, each row in its own shade.
    fn paint(&self, canvas: &mut Canvas, time: f32) {
        let tops: Vec<usize> = (0..WIDTH).map(|x| self.ridge(x, time)).collect();
        let (highest, lowest) = (tops.iter().min().copied().unwrap_or(0), tops.iter().max().copied().unwrap_or(0));
        for y in highest..HEIGHT {
            let depth = y as f32 / HEIGHT as f32 - self.base + 0.1;
            let shade = mix(self.colour, [0.0; 3], (depth * 0.9).clamp(0.0, 0.5));
            if y >= lowest {
                canvas.run(y, 0..WIDTH, shade);
                continue;
            }
            let mut from = None;
            for (x, top) in tops.iter().enumerate() {
                match (from, *top <= y) {
                    (None, true) => from = Some(x),
                    (Some(start), false) => {
                        canvas.run(y, start..x, shade);
                        from = None;
                    }
                    _ => {}
                }
            }
            if let Some(start) = from {
                canvas.run(y, start..WIDTH, shade);
            }
        }
    }

    /// The row at which the hill begins in a column.
    fn ridge(&self, x: usize, time: f32) -> usize {
        let place = (x as f32 / WIDTH as f32 + time * self.speed) * TAU;
        let rise: f32 = self.waves.iter().map(|[high, often, at]| high * (place * often + at).sin()).sum();
        ((self.base + rise) * HEIGHT as f32).clamp(0.0, HEIGHT as f32 - 1.0) as usize
    }
}

/// How far the shutter is open at a frame, 0 to 1.
fn shutter(number: usize) -> f32 {
    let opening = number.saturating_sub(BLACK - 1) as f32 / (LIT - BLACK) as f32;
    let closing = (FRAMES - 1 - number) as f32 / OUT as f32;
    if number < BLACK { 0.0 } else { opening.min(closing.max(0.15)).min(1.0) }
}

/// A frame as the encoder takes it: luma, then the two chroma planes of half the size, in BT.709 from 16 to 235.
struct Canvas {
    planes: Vec<u8>,
    /// How far the shutter is open; every colour is dimmed by it.
    light: f32,
}

impl Canvas {
    fn new(light: f32) -> Self {
        Self { planes: vec![128; WIDTH * HEIGHT * 3 / 2], light }
    }

    /// Paints a run of one colour in row `y`; its chroma is taken from the even rows.
    fn run(&mut self, y: usize, run: std::ops::Range<usize>, colour: Colour) {
        let run = run.start.min(WIDTH)..run.end.min(WIDTH);
        if run.is_empty() || y >= HEIGHT {
            return;
        }
        let [red, green, blue] = colour.map(|value| value.clamp(0.0, 1.0) * self.light);
        let luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
        self.planes[y * WIDTH..][run.clone()].fill((16.5 + 219.0 * luma) as u8);
        if y.is_multiple_of(2) {
            let start = WIDTH * HEIGHT + y / 2 * (WIDTH / 2);
            let half = run.start / 2..run.end.div_ceil(2);
            let chroma = |value: f32, span: f32| (128.5 + 224.0 * (value - luma) / span) as u8;
            self.planes[start..][half.clone()].fill(chroma(blue, 1.8556));
            self.planes[start + WIDTH * HEIGHT / 4..][half].fill(chroma(red, 1.5748));
        }
    }

    /// Writes `text` with its upper left corner at `x`, `y`, each dot `size` pixels; what does not fit is left out.
    fn write(&mut self, text: &str, x: usize, y: usize, size: usize, colour: Colour) {
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

/// Breaks a text into at most `lines` lines of at most `width` characters, at spaces where there are some.
fn wrap(text: &str, width: usize, lines: usize) -> Vec<String> {
    let mut wrapped = vec![String::new()];
    let mut cut = false;
    for word in text.split_whitespace() {
        let mut rest: Vec<char> = word.chars().collect();
        while !rest.is_empty() {
            let full = wrapped.len();
            let line = &mut wrapped[full - 1];
            let used = line.chars().count();
            let gap = usize::from(used > 0);
            if used + gap + rest.len() <= width || (used == 0 && rest.len() > width) {
                line.extend(std::iter::repeat_n(' ', gap));
                line.extend(rest.drain(..rest.len().min(width)));
            } else if full == lines {
                cut = true;
                break;
            } else {
                wrapped.push(String::new());
            }
        }
        if cut {
            break;
        }
    }
    if let Some(last) = wrapped.last_mut().filter(|_| cut) {
        let kept: String = last.chars().take(width.saturating_sub(3)).collect();
        *last = format!("{kept}...");
    }
    wrapped
}

fn mix(from: Colour, to: Colour, share: f32) -> Colour {
    std::array::from_fn(|n| from[n] + (to[n] - from[n]) * share)
}

/// A colour by hue in degrees, saturation and lightness.
fn colour(hue: f32, saturation: f32, light: f32) -> Colour {
    let spread = saturation * light.min(1.0 - light);
    [0.0, 8.0, 4.0].map(|offset: f32| {
        let turn = (offset + hue / 30.0).rem_euclid(12.0);
        light - spread * (turn - 3.0).min(9.0 - turn).clamp(-1.0, 1.0)
    })
}

/// Numbers that follow from a hash (SplitMix64).
struct Dice(u64);

impl Dice {
    fn new(hash: &[u8]) -> Self {
        Self(hash.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * (self.next() >> 40) as f32 / (1_u64 << 24) as f32
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
