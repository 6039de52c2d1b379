//! A drawing: from a checked order and its files to the finished outputs, a few frames at a time.
//!
//! Invariant: a step takes a fraction of a second, so whoever draws can say how far it is, wait, or stop, between any two. At the
//! highest a drawing holds one picture while that is decoded (256 MiB, one in a process), the frames that it and its encoder work on
//! (some 30 MiB at 1680 x 720), the film that is made, and as files what is finished: at most 36 MiB each, of which there are four.

use std::collections::BTreeMap;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::canvas::{Chroma, Planes, colour};
use super::cards::{self, Card};
use super::film::Film;
use super::flac::Stream;
use super::input::{FilmInput, SketchInput, reference};
use super::sketch::{self, Sketch};
use super::stop::Stop;
use super::tune::Tune;
use super::{picture, still};

/// Frames of a step.
const STEP: usize = 6;

/// A finished output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// The file.
    pub bytes: Bytes,
    /// Its name's ending, without a dot: `mp4` or `png`.
    pub extension: &'static str,
    /// `video/mp4` or `image/png`.
    pub mime_type: &'static str,
}

/// Why there is no output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DrawError {
    /// A file is missing, belongs nowhere, or cannot be read: it will be refused always.
    #[error("{pointer}: {reason}")]
    File {
        /// The JSON pointer of its place in the input.
        pointer: String,
        /// What is wrong, for the user.
        reason: String,
    },
    /// It was cancelled.
    #[error("the drawing was cancelled")]
    Cancelled,
    /// The encoder failed.
    #[error("the drawing failed: {0}")]
    Failed(String),
}

/// An order while it is drawn.
pub struct Drawing {
    input: SketchInput,
    first: Option<Planes>,
    last: Option<Planes>,
    cards: Vec<Card>,
    /// `assets/{sha256}` of the references, or what the order calls them.
    names: Vec<String>,
    take: Option<Box<Take>>,
    outputs: Vec<Drawn>,
}

/// A video while it is drawn.
struct Take {
    sketch: Sketch,
    film: Film,
    sound: Option<(Tune, Stream)>,
    /// Frames that are done.
    done: usize,
}

impl Drawing {
    /// Reads the pictures that the order is drawn from, `files` by the JSON pointers of their places in the input.
    ///
    /// # Errors
    /// [`DrawError::File`] for a file that is missing, has no place, or is no picture; [`DrawError::Cancelled`].
    pub fn new(
        input: &SketchInput,
        files: &BTreeMap<String, Bytes>,
        is_cancelled: &dyn Fn() -> bool,
    ) -> Result<Self, DrawError> {
        let places = input.files();
        let wrong = |pointer: &str, reason: &str| DrawError::File { pointer: pointer.into(), reason: reason.into() };
        if let Some(pointer) = files.keys().find(|pointer| places.iter().all(|(place, _)| place != *pointer)) {
            return Err(wrong(pointer, "the input has no place for this file"));
        }
        if let Some((pointer, _)) = places.iter().find(|(place, required)| *required && !files.contains_key(place)) {
            return Err(wrong(pointer, "the file is missing"));
        }
        let stop = Stop::new(is_cancelled);
        let chroma = if input.film.is_some() { Chroma::Halved } else { Chroma::Full };
        let read = |pointer: &str, size| {
            let Some(bytes) = files.get(pointer) else { return Ok(None) };
            match picture::read(bytes, size, chroma, &stop) {
                _ if stop.is_cancelled() => Err(DrawError::Cancelled),
                Ok(planes) => Ok(Some(planes)),
                Err(reason) => Err(wrong(pointer, &reason)),
            }
        };
        let (mut cards, mut names) = (Vec::new(), Vec::new());
        for (n, name) in input.references.iter().enumerate() {
            let pointer = reference(n);
            let name = match (name, files.get(&pointer)) {
                (Some(name), _) => name.clone(),
                (None, bytes) => format!("assets/{:x}", Sha256::digest(bytes.map_or(&[][..], |bytes| bytes))),
            };
            cards.push(match read(&pointer, cards::picture_size(input.size))? {
                Some(planes) => Card::Picture(planes),
                None => Card::Named(colour(f32::from(Sha256::digest(&name)[0]) * 360.0 / 256.0, 0.6, 0.5)),
            });
            names.push(name);
        }
        let (first, last) = (read("/first_frame", input.size)?, read("/last_frame", input.size)?);
        Ok(Self { input: input.clone(), first, last, cards, names, take: None, outputs: Vec::new() })
    }

    /// How much is done, from 0 to 1.
    #[must_use]
    pub fn share(&self) -> f64 {
        let frames = self.input.film.map_or(1, |film| film.frames);
        let done = self.outputs.len() * frames + self.take.as_ref().map_or(0, |take| take.done);
        done as f64 / (frames * self.input.outputs) as f64
    }

    /// Whether all is drawn.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.outputs.len() == self.input.outputs
    }

    /// Draws a few frames, or a still.
    ///
    /// # Errors
    /// [`DrawError::Failed`]
    pub fn step(&mut self) -> Result<(), DrawError> {
        if self.is_over() {
            return Ok(());
        }
        let seed = self.input.seed_of(self.outputs.len());
        let hash = sketch::hash(&self.input.prompt, seed, &self.names);
        let begin = || Sketch::new(&self.input, seed, &hash, self.cards.clone());
        let Some(film) = self.input.film else {
            let bytes = still::file(&begin().still()).map_err(DrawError::Failed)?;
            self.outputs.push(Drawn { bytes: bytes.into(), extension: "png", mime_type: "image/png" });
            return Ok(());
        };
        let mut take = match self.take.take() {
            Some(take) => take,
            None => Box::new(Take::new(&self.input, &film, &hash, begin())?),
        };
        for number in take.done..film.frames.min(take.done + STEP) {
            let frame = self.frame(&take.sketch, &film, number);
            take.film.add(&frame).map_err(DrawError::Failed)?;
            take.done = number + 1;
        }
        take.play(&film);
        if take.done < film.frames {
            self.take = Some(take);
        } else {
            let bytes = take.finish().map_err(DrawError::Failed)?;
            self.outputs.push(Drawn { bytes: bytes.into(), extension: "mp4", mime_type: "video/mp4" });
        }
        Ok(())
    }

    /// The outputs; those that are finished, where not all is drawn.
    #[must_use]
    pub fn finish(self) -> Vec<Drawn> {
        self.outputs
    }

    /// A frame, with the first and the last picture faded into it.
    fn frame(&self, sketch: &Sketch, film: &FilmInput, number: usize) -> Planes {
        // A third of the film, and a second at the longest.
        let fade = (film.frames / 3).clamp(1, film.rate);
        let share = |from_end: usize| (256 * fade.saturating_sub(from_end) / fade) as u16;
        let pictures = [(&self.first, share(number)), (&self.last, share(film.frames - 1 - number))];
        if let Some((Some(picture), _)) = pictures.iter().find(|(picture, share)| picture.is_some() && *share == 256) {
            return picture.clone();
        }
        let mut frame = sketch.frame(number);
        for (picture, share) in pictures {
            if let Some(picture) = picture.as_ref().filter(|_| share > 0) {
                frame.mix_in(picture, share);
            }
        }
        frame
    }
}

impl Take {
    fn new(input: &SketchInput, film: &FilmInput, hash: &[u8], sketch: Sketch) -> Result<Self, DrawError> {
        let sound = film.audio.then(|| {
            let stream = Stream::at_48_kilohertz();
            let rate = stream.rate() as usize;
            (Tune::new(hash, rate, rate * film.frames / film.rate), stream)
        });
        let film = Film::new(input.size, film.rate).map_err(|error| DrawError::Failed(error.to_string()))?;
        Ok(Self { sketch, film, sound, done: 0 })
    }

    /// Plays the sound of the frames that are done.
    fn play(&mut self, film: &FilmInput) {
        if let Some((tune, stream)) = &mut self.sound {
            let until = stream.rate() as usize * self.done / film.rate;
            tune.by_ref().take(until - stream.length() as usize).for_each(|sample| stream.add(sample));
        }
    }

    fn finish(self) -> Result<Vec<u8>, String> {
        let sound = self.sound.map(|(_, mut stream)| {
            stream.finish();
            stream
        });
        self.film.finish(sound.as_ref())
    }
}

impl std::fmt::Debug for Drawing {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Drawing").field("input", &self.input).field("share", &self.share()).finish_non_exhaustive()
    }
}

/// Draws an order to its end on this thread. `progress` is given a percentage and what is done, `is_cancelled` is asked between steps
/// and while pictures are decoded.
///
/// # Errors
/// [`DrawError`]
pub fn draw(
    input: &SketchInput,
    files: &BTreeMap<String, Bytes>,
    mut progress: impl FnMut(u8, &'static str),
    is_cancelled: impl Fn() -> bool,
) -> Result<Vec<Drawn>, DrawError> {
    progress(0, "composing");
    let mut drawing = Drawing::new(input, files, &is_cancelled)?;
    while !drawing.is_over() {
        if is_cancelled() {
            return Err(DrawError::Cancelled);
        }
        drawing.step()?;
        progress((5.0 + 85.0 * drawing.share()) as u8, "rendering");
    }
    Ok(drawing.finish())
}
