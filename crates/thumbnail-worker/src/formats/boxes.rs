//! The outermost boxes of MP4 and QuickTime, walked in the file; only those that make up the index are read.
//!
//! Invariant: at most [`MAX_INDEX`] bytes of a file come into memory, and at most [`MAX_BOXES`] boxes are looked at.

use std::ops::Range;

use super::refused::{Error, Refused, damaged};
use super::types::Type;
use crate::source::{Source, WINDOW, Window};

/// The longest index, movie fragments included, in bytes: ten times that of an hour of video and sound.
pub(crate) const MAX_INDEX: usize = 16 << 20;
/// The highest number of outermost boxes: two for each fragment of an hour in fragments of a frame.
const MAX_BOXES: usize = 250_000;

/// The parts of a file's index.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// The body of `moov`, where there is one.
    pub(crate) movie: Option<Vec<u8>>,
    /// All `moof` boxes, whole.
    pub(crate) fragments: Vec<u8>,
}

/// A box in a file: its name, and where its body lies.
pub(crate) struct Outer {
    pub(crate) name: [u8; 4],
    pub(crate) start: u64,
    pub(crate) body: Range<u64>,
}

impl Index {
    /// Reads the index of a file, whose outermost boxes have to fill it exactly.
    pub(crate) fn read(source: &dyn Source, media_type: Type) -> Result<Self, Error> {
        let mut index = Self::default();
        index.walk(source, media_type)?;
        Ok(index)
    }

    /// Reads as much of an index as there is: a file that is cut may show its first frames all the same.
    pub(crate) fn found(source: &dyn Source) -> Self {
        let mut index = Self::default();
        // Where its boxes break off is where it ends.
        let _ = index.walk(source, Type::Mp4);
        index
    }

    fn walk(&mut self, source: &dyn Source, media_type: Type) -> Result<(), Error> {
        let mut window = Window::new(source);
        let (mut at, mut length) = (0, 0);
        for _ in 0..MAX_BOXES {
            if at == window.length() {
                return Ok(());
            }
            let Outer { name, start, body } = next(&mut window, at, media_type)?;
            at = body.end;
            let wanted = match &name {
                b"moov" if self.movie.is_none() => body,
                b"moof" => start..body.end,
                _ => continue,
            };
            length += wanted.end - wanted.start;
            if length > MAX_INDEX as u64 {
                let detail = format!("its index has more than {MAX_INDEX} bytes");
                return Err(Refused::Unsupported { media_type, detail }.into());
            }
            if name == *b"moov" {
                self.movie = Some(copy(&mut window, wanted)?);
            } else {
                self.fragments.extend(copy(&mut window, wanted)?);
            }
        }
        Err(damaged(media_type, format!("it has more than {MAX_BOXES} boxes")).into())
    }
}

/// The box at `at`.
pub(crate) fn next(window: &mut Window<'_>, at: u64, media_type: Type) -> Result<Outer, Error> {
    let length = window.length();
    let truncated = || Refused::Truncated { media_type };
    let header = window.get(at, 16)?;
    let (size, name) = header.split_first_chunk::<4>().ok_or_else(truncated)?;
    let name = *name.first_chunk::<4>().ok_or_else(truncated)?;
    let (before, size) = match u32::from_be_bytes(*size) {
        // It reaches to the file's end.
        0 => (8, length - at),
        1 => (
            16,
            header
                .last_chunk::<8>()
                .filter(|_| header.len() == 16)
                .map(|size| u64::from_be_bytes(*size))
                .ok_or_else(truncated)?,
        ),
        size => (8, u64::from(size)),
    };
    if size < before {
        return Err(damaged(media_type, format!("the box at byte {at} is {size} bytes long")).into());
    }
    let end = at.checked_add(size).filter(|end| *end <= length).ok_or_else(truncated)?;
    Ok(Outer { name, start: at, body: at + before..end })
}

fn copy(window: &mut Window<'_>, range: Range<u64>) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let piece = window.get(at, usize::try_from(range.end - at).unwrap_or(WINDOW).min(WINDOW))?;
        if piece.is_empty() {
            break;
        }
        bytes.extend_from_slice(piece);
        at += piece.len() as u64;
    }
    Ok(bytes)
}
