//! The picture of a sketch: a moving landscape in colours that come from the prompt, with the prompt as its title and the
//! reference pictures on cards.
//!
//! Invariant: a frame is a function of the input, the references and its number, and of nothing else. A film without a first
//! picture of its own opens on black, so that whoever chooses a poster has to read further than the first frame.

use sha2::{Digest as _, Sha256};

use super::canvas::{Canvas, Chroma, Colour, Planes, colour, mix};
use super::cards::{self, Card};
use super::dice::Dice;
use super::font;
use super::hill::Hill;
use super::input::{FilmInput, SketchInput};
use super::size::Size;
use super::title::{shorten, wrap};

/// Seconds in which the sun goes its way, and a longer film's sun goes no further.
const SUN_SECONDS: f32 = 3.0;
/// The time of a still, in seconds of a film.
const STILL_TIME: f32 = 1.0;
/// Of a film with 24 frames a second: the frames that are wholly black, ...
const BLACK: f32 = 3.0;
/// ... the one at which the picture is at full light, ...
const LIT: f32 = 18.0;
/// ... and those over which it goes out again.
const OUT: f32 = 8.0;
/// The colour of the notes.
const GREY: Colour = [0.6; 3];

/// What is drawn for one output, decided at its beginning.
#[derive(Debug)]
pub(super) struct Sketch {
    size: Size,
    film: Option<FilmInput>,
    sky: [Colour; 2],
    sun: Colour,
    sun_at: [f32; 2],
    sun_speed: f32,
    hills: [Hill; 3],
    stars: Vec<[usize; 2]>,
    cards: Vec<Card>,
    title: Vec<String>,
    note: String,
    /// What is not to be in it.
    without: String,
}

/// What a sketch leaves to chance is drawn from this: the prompt, the seed of the output, and the names of the references.
pub(super) fn hash(prompt: &str, seed: i64, references: &[String]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(prompt.as_bytes());
    hash.update(seed.to_le_bytes());
    references.iter().for_each(|reference| hash.update(reference.as_bytes()));
    hash.finalize().into()
}

impl Sketch {
    /// The sketch of an output with its own seed, from the [`hash`] of both.
    pub(super) fn new(input: &SketchInput, seed: i64, hash: &[u8], cards: Vec<Card>) -> Self {
        let mut dice = Dice::new(hash);
        let size = input.size;
        let hue = dice.between(0.0, 360.0);
        let night = dice.between(0.0, 1.0) < 0.3;
        let light = if night { 0.22 } else { 0.55 };
        let sky = [colour(hue, 0.55, light), colour(hue + 40.0, 0.65, light + 0.25)];
        let hills = [0.0, 1.0, 2.0].map(|depth| Hill::new(hue, depth, &mut dice));
        let count = if night { 70 } else { 0 };
        let seconds = input.film.map_or(SUN_SECONDS, |film| film.frames as f32 / film.rate as f32);
        let columns = |dot: usize| (size.width - 2 * margin(size)) / ((font::WIDTH + 1) * dot);
        let line = title_line(size);
        let without = match input.negative_prompt.split_whitespace().collect::<Vec<_>>().join(" ") {
            nothing if nothing.is_empty() => nothing,
            listed => shorten(&format!("WITHOUT: {listed}"), columns(note_dot(size)), false),
        };
        Self {
            size,
            film: input.film,
            sky,
            sun: if night { colour(50.0, 0.15, 0.92) } else { colour(hue + 60.0, 0.9, 0.75) },
            sun_at: [dice.between(0.2, 0.8), dice.between(0.22, 0.38)],
            sun_speed: (SUN_SECONDS / seconds).min(1.0),
            hills,
            stars: (0..count).map(|_| [dice.below(size.width), bar(size) + dice.below(size.height / 2)]).collect(),
            cards,
            title: wrap(&input.prompt, columns(title_dot(size)), (size.height / (line * 4)).max(1)),
            note: note(seed, columns(note_dot(size))),
            without,
        }
    }

    /// The picture of a still, with full chroma.
    pub(super) fn still(&self) -> Planes {
        let mut canvas = Canvas::new(self.size, Chroma::Full, 1.0);
        self.paint(&mut canvas, STILL_TIME, None);
        canvas.finish()
    }

    /// Frame `number` of a film.
    pub(super) fn frame(&self, number: usize) -> Planes {
        let (light, rate) = self.film.map_or((1.0, 1), |film| (shutter(&film, number), film.rate));
        let mut canvas = Canvas::new(self.size, Chroma::Halved, light);
        let clock = format!("{:02}:{:02}", number / rate, number % rate);
        self.paint(&mut canvas, number as f32 / rate as f32, Some(&clock));
        canvas.finish()
    }

    fn paint(&self, canvas: &mut Canvas, time: f32, clock: Option<&str>) {
        let size = self.size;
        let (bar, margin, dot) = (bar(size), margin(size), note_dot(size));
        self.sky(canvas, time);
        self.hills.iter().for_each(|hill| hill.paint(canvas, size, time));
        for y in (0..bar).chain(size.height - bar..size.height) {
            canvas.run(y, 0..size.width, [0.02, 0.02, 0.025]);
        }
        cards::paint(&self.cards, canvas, size, bar, time);
        let (large, line) = (title_dot(size), title_line(size));
        let top = (size.height - bar).saturating_sub(14 * size.short() / 360 + self.title.len() * line);
        for (n, text) in self.title.iter().enumerate() {
            canvas.write(text, margin + 2, top + n * line + 2, large, [0.0; 3]);
            canvas.write(text, margin, top + n * line, large, [1.0, 0.98, 0.94]);
        }
        let above = (bar - font::HEIGHT * dot) / 2;
        let below = size.height - bar + above;
        canvas.write(&self.without, margin, above, dot, GREY);
        canvas.write(&self.note, margin, below, dot, GREY);
        let advance = (font::WIDTH + 1) * dot;
        let right = |text: &str| size.width - margin - text.len() * advance;
        if let Some(clock) = clock.filter(|clock| margin + (self.note.len() + 1) * advance <= right(clock)) {
            canvas.write(clock, right(clock), below, dot, GREY);
        }
    }

    fn sky(&self, canvas: &mut Canvas, time: f32) {
        let Size { width, height } = self.size;
        let unit = self.size.short() as f32 / 360.0;
        let sky = |y: usize| mix(self.sky[0], self.sky[1], (y as f32 / height as f32 * 1.5).min(1.0));
        for y in bar(self.size)..height - bar(self.size) {
            canvas.run(y, 0..width, sky(y));
        }
        let star = Size { width: ((2.0 * unit) as usize).max(1), height: (unit as usize).max(1) };
        for [x, y] in &self.stars {
            let twinkle = 0.5 + 0.5 * (time * 5.0 + *x as f32).sin();
            canvas.fill(*x, *y, star, [0.6 + 0.4 * twinkle; 3]);
        }
        let way = time * self.sun_speed * unit;
        let [x, y] = [self.sun_at[0] * width as f32 + way * 14.0, self.sun_at[1] * height as f32 - way * 5.0];
        // From the widest ring of the glow to the disc itself.
        for (radius, glow) in
            (1..=12).rev().map(|n| (34.0 + n as f32 * 5.5, 0.03 * (13 - n) as f32)).chain([(34.0, 1.0)])
        {
            let radius = radius * unit;
            for row in (y - radius).max(0.0) as usize..((y + radius) as usize).min(height) {
                let half = (radius * radius - (row as f32 - y).powi(2)).max(0.0).sqrt();
                let run = (x - half).max(0.0) as usize..((x + half).max(0.0) as usize).min(width);
                canvas.run(row, run, mix(sky(row), self.sun, glow));
            }
        }
    }
}

/// What it is, in as many characters.
fn note(seed: i64, columns: usize) -> String {
    let [long, short] = [format!("LOCAL SKETCH, NO MODEL   SEED {seed}"), format!("NO MODEL, SEED {seed}")];
    if long.len() <= columns { long } else { shorten(&short, columns, false) }
}

/// How far the shutter is open at a frame, 0 to 1. It is open from the start where the film begins with a picture, and to the end
/// where it ends with one.
fn shutter(film: &FilmInput, number: usize) -> f32 {
    let at = number as f32 * 24.0 / film.rate as f32;
    let end = film.frames as f32 * 24.0 / film.rate as f32;
    let opening = match film.first_frame {
        true => 1.0,
        false if at < BLACK => return 0.0,
        false => (at - (BLACK - 1.0)).max(0.0) / (LIT - BLACK),
    };
    let closing = if film.last_frame { 1.0 } else { (end - 1.0 - at) / OUT };
    opening.min(closing.max(0.15)).min(1.0)
}

/// Height of the bars above and below, in pixels: a line of the notes fits in.
fn bar(size: Size) -> usize {
    (size.short() * 26 / 360).max(font::HEIGHT + 2)
}

/// Room beside a text, in pixels.
fn margin(size: Size) -> usize {
    size.short() * 24 / 360
}

/// A dot of the title, in pixels.
fn title_dot(size: Size) -> usize {
    (size.short() / 120).max(1)
}

/// From one line of the title to the next, in pixels.
fn title_line(size: Size) -> usize {
    (font::HEIGHT + 3) * title_dot(size)
}

/// A dot of the notes in the bars, in pixels.
fn note_dot(size: Size) -> usize {
    (size.short() / 360).max(1)
}
