//! The picture of a sketch: a moving landscape in colours that come from the prompt, with the prompt as its title.
//!
//! Invariant: a frame is a function of prompt, seed, references and its number, and of nothing else. The film opens on black, so
//! that whoever chooses a poster has to look further than the first frame.

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
/// The frame at which the picture is fully there.
const LIT: usize = 18;
/// Frames over which it goes out again.
const OUT: usize = 8;
/// Height of the bars above and below, in pixels.
const BAR: usize = 26;
/// Most lines of the title.
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

    /// Frame `number` as RGB, row by row.
    pub(super) fn frame(&self, number: usize) -> Vec<u8> {
        let mut canvas = Canvas { pixels: vec![[0.0; 3]; WIDTH * HEIGHT] };
        let time = number as f32 / RATE as f32;
        self.land(&mut canvas, time);
        canvas.fill(0..BAR, [0.02, 0.02, 0.025]);
        canvas.fill(HEIGHT - BAR..HEIGHT, [0.02, 0.02, 0.025]);
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
        canvas.finish(shutter(number))
    }

    fn land(&self, canvas: &mut Canvas, time: f32) {
        for (y, row) in canvas.pixels.chunks_exact_mut(WIDTH).enumerate() {
            let down = y as f32 / HEIGHT as f32;
            row.fill(mix(self.sky[0], self.sky[1], (down * 1.5).min(1.0)));
        }
        for [x, y] in &self.stars {
            let twinkle = 0.5 + 0.5 * (time * 5.0 + *x as f32).sin();
            canvas.pixels[y * WIDTH + x] = [0.6 + 0.4 * twinkle; 3];
        }
        let radius = 34.0;
        let centre = [self.sun_at[0] * WIDTH as f32 + time * 14.0, self.sun_at[1] * HEIGHT as f32 - time * 5.0];
        for (at, pixel) in canvas.pixels.iter_mut().enumerate().take(WIDTH * HEIGHT * 2 / 3) {
            let (dx, dy) = ((at % WIDTH) as f32 - centre[0], (at / WIDTH) as f32 - centre[1]);
            let squared = dx * dx + dy * dy;
            if squared < 10_000.0 {
                let away = squared.sqrt() - radius;
                let glow = if away < 0.0 { 1.0 } else { 0.35 * (1.0 - away / (100.0 - radius)).max(0.0) };
                *pixel = mix(*pixel, self.sun, glow);
            }
        }
        for hill in &self.hills {
            for x in 0..WIDTH {
                let place = (x as f32 / WIDTH as f32 + time * hill.speed) * TAU;
                let rise: f32 = hill.waves.iter().map(|[high, often, at]| high * (place * often + at).sin()).sum();
                let top = ((hill.base + rise) * HEIGHT as f32).clamp(0.0, HEIGHT as f32 - 1.0);
                for y in top as usize..HEIGHT {
                    let depth = (y as f32 - top) / HEIGHT as f32;
                    // The first pixel of the edge is blended, which keeps it from crawling.
                    let cover = if y == top as usize { 1.0 - top.fract() } else { 1.0 };
                    let shade = mix(hill.colour, [0.0; 3], (depth * 0.9).min(0.5));
                    let pixel = &mut canvas.pixels[y * WIDTH + x];
                    *pixel = mix(*pixel, shade, cover);
                }
            }
        }
    }
}

/// How far the shutter is open at a frame, 0 to 1.
fn shutter(number: usize) -> f32 {
    let opening = number.saturating_sub(BLACK - 1) as f32 / (LIT - BLACK) as f32;
    let closing = (FRAMES - 1 - number) as f32 / OUT as f32;
    if number < BLACK { 0.0 } else { opening.min(closing.max(0.15)).min(1.0) }
}

struct Canvas {
    pixels: Vec<Colour>,
}

impl Canvas {
    fn fill(&mut self, rows: std::ops::Range<usize>, colour: Colour) {
        self.pixels[rows.start * WIDTH..rows.end * WIDTH].fill(colour);
    }

    /// Writes `text` with its upper left corner at `x`, `y`, each dot `size` pixels; what does not fit is left out.
    fn write(&mut self, text: &str, x: usize, y: usize, size: usize, colour: Colour) {
        for (n, character) in text.chars().enumerate() {
            let left = x + n * (font::WIDTH + 1) * size;
            for (row, dots) in font::rows(character).into_iter().enumerate() {
                for dot in (0..font::WIDTH).filter(|dot| dots >> (font::WIDTH - 1 - dot) & 1 == 1) {
                    for (dy, dx) in (0..size * size).map(|at| (at / size, at % size)) {
                        let (px, py) = (left + dot * size + dx, y + row * size + dy);
                        if px < WIDTH && py < HEIGHT {
                            self.pixels[py * WIDTH + px] = colour;
                        }
                    }
                }
            }
        }
    }

    fn finish(self, light: f32) -> Vec<u8> {
        self.pixels.iter().flatten().map(|value| (value.clamp(0.0, 1.0) * light * 255.0 + 0.5) as u8).collect()
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
