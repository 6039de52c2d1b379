//! Media files: which type one is by its first bytes, what it says of itself, and whether it is whole.
//!
//! Invariant: a file is read in places and never held in memory; what is read of it, and how often, is bounded by its length and by
//! constants here, whatever it states.

mod c2pa;
mod facts;
mod mp3;
mod mp4;
mod wav;
mod webm;

use std::io;
use std::time::Duration;

use crate::formats::{Index, boxes, damaged};
use crate::source::Source;
use crate::{pictures, videos};
use facts::of_video;

pub use crate::formats::{Class, Error, Refused, Type};
pub use facts::Facts;

/// The memory that reading a file's own words takes at the highest, in bytes: its index and a window.
pub(crate) const MAX_MEMORY: u64 = boxes::MAX_INDEX as u64 + (1 << 20);

/// The limits of uploaded videos and sounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest file of a video, in bytes.
    pub video_bytes: u64,
    /// Longest file of a sound, in bytes.
    pub sound_bytes: u64,
    /// How long a video or a sound may play.
    pub duration: Duration,
    /// Longest side of a video, in pixels.
    pub side: u32,
}

impl Default for Limits {
    /// 200 MiB of video, 50 MiB of sound, an hour, 8,192 pixels a side.
    fn default() -> Self {
        Self { video_bytes: 200 << 20, sound_bytes: 50 << 20, duration: Duration::from_secs(3_600), side: 8_192 }
    }
}

/// Reads what a video or a sound says of itself, and whether it is whole.
///
/// # Errors
/// [`Error::Refused`] for a file that is cut, damaged, or of another kind than its first bytes promise.
pub fn probe(source: &dyn Source, media_type: Type) -> Result<Facts, Error> {
    let facts = match media_type {
        Type::Mp4 | Type::Mov | Type::M4a => mp4::probe(source, media_type),
        Type::Webm => webm::probe(source),
        Type::Wav => wav::probe(source),
        Type::Mp3 => mp3::probe(source),
        Type::Picture(_) => return Err(Refused::UnknownFormat.into()),
    }?;
    if facts.media_type.class() == Class::Video && (facts.width == 0 || facts.height == 0) {
        return Err(damaged(media_type, "it does not say how large its frames are").into());
    }
    if facts.duration.is_zero() {
        return Err(damaged(media_type, "it does not say how long it plays").into());
    }
    Ok(facts)
}

/// Reads what any file says of itself, as far as it can be read, whether it is whole or not; of a picture at most the first `max_header`
/// bytes.
#[must_use]
pub fn describe(source: &dyn Source, media_type: Type, max_header: u64) -> Facts {
    if let Ok(facts) = probe(source, media_type) {
        return facts;
    }
    let unknown = Facts::unknown(media_type);
    match media_type.class() {
        Class::Picture => {
            let any = pictures::Limits { bytes: u64::MAX, pixels: u64::MAX, side: u32::MAX };
            let mut bytes = vec![0; usize::try_from(source.length().min(max_header)).unwrap_or_default()];
            let read = source.read_at(0, &mut bytes).unwrap_or_default();
            let size = pictures::Header::read(&bytes[..read], &any).map(|header| header.upright());
            let (width, height) = size.unwrap_or_default();
            Facts { width, height, ..unknown }
        }
        Class::Video => {
            let index = Index::found(source);
            videos::facts_of(&index, source).map_or(unknown.clone(), |video| of_video(media_type, &video))
        }
        Class::Sound => unknown,
    }
}

/// Whether a file carries a C2PA manifest. One that cannot be read so far has none.
///
/// # Errors
/// When the file cannot be read.
pub fn has_c2pa(source: &dyn Source, media_type: Type) -> io::Result<bool> {
    c2pa::find(source, media_type)
}

impl Limits {
    /// Holds an upload against the limits.
    ///
    /// # Errors
    /// [`Refused`] for the first that is passed.
    pub fn check(&self, facts: &Facts, bytes: u64) -> Result<(), Refused> {
        self.check_bytes(facts.media_type, bytes)?;
        if facts.duration > self.duration {
            return Err(Refused::TooLong { media_type: facts.media_type, plays: facts.duration, limit: self.duration });
        }
        let (width, height) = (facts.width, facts.height);
        if width.max(height) > self.side {
            return Err(Refused::SideTooLong { width, height, limit: self.side });
        }
        Ok(())
    }

    /// Holds the length of an upload, as much of it as has come, against the limit of its type. A picture has limits of its own.
    ///
    /// # Errors
    /// [`Refused::TooManyBytes`].
    pub fn check_bytes(&self, media_type: Type, bytes: u64) -> Result<(), Refused> {
        match self.bytes_of(media_type) {
            Some(limit) if bytes > limit => Err(Refused::TooManyBytes { media_type, bytes, limit }),
            _ => Ok(()),
        }
    }

    /// The longest file of a type, in bytes; nothing for a picture.
    #[must_use]
    pub fn bytes_of(&self, media_type: Type) -> Option<u64> {
        match media_type.class() {
            Class::Video => Some(self.video_bytes),
            Class::Sound => Some(self.sound_bytes),
            Class::Picture => None,
        }
    }
}
