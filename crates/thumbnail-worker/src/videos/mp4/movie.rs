//! A file's index read by itself: what it says of the whole, without the file beside it.
//!
//! Invariant: an index that lies in another file than its samples is not followed: whoever uploads one could name any file.

use std::time::Duration;

use super::boxes::{Boxes, child, u32_at};
use super::samples::Samples;
use super::timing::Timing;
use super::{Track, fragments, handler, read_movie_scale, read_track_number, tracks, video_track_in};
use crate::videos::Missing;

/// An index, as far as it tells about the whole file.
#[derive(Clone, Debug)]
pub(crate) struct Movie<'a> {
    /// The first video track.
    pub(crate) video: Result<Track<'a>, Missing>,
    /// Frames a second of it; zero when they are not stated.
    pub(crate) frame_rate: f64,
    /// How long the first track of sound plays, where there is one that has any.
    pub(crate) sound: Option<Duration>,
    /// The place behind the furthest byte of any frame or sound; nothing when the tables do not lead there.
    pub(crate) end: Option<u64>,
    /// Whether frames or sound lie in another file.
    pub(crate) elsewhere: bool,
}

impl<'a> Movie<'a> {
    /// Reads an index (the body of `moov`) with the file's movie fragments (whole `moof` boxes), if any.
    pub(crate) fn read(movie: &'a [u8], fragments: &'a [u8]) -> Self {
        let video = video_track_in(movie, fragments);
        let frame_rate = video.as_ref().map_or(0.0, |track| track.timing.rate());
        let media = || tracks(movie).filter(|track| matches!(handler(track), Some(b"vide" | b"soun")));
        let sound = media().filter(|track| handler(track) == Some(b"soun"));
        let sound = sound.filter_map(|track| sound_duration(movie, track, fragments)).next();
        let ends = media().filter_map(|track| Some(Samples::new(table(track)?)?.end()));
        let end = ends.reduce(|furthest, end| Some(furthest?.max(end?))).flatten();
        let elsewhere = media().any(lies_elsewhere);
        Self { video, frame_rate, sound, end, elsewhere }
    }
}

/// How long a track of sound plays; nothing when there is none in it.
fn sound_duration(movie: &[u8], track: &[u8], fragments: &[u8]) -> Option<Duration> {
    let table = table(track)?;
    let is_empty = Samples::new(table).is_none_or(|samples| samples.is_empty());
    if is_empty && child(movie, b"mvex").is_none() {
        return None;
    }
    let scale = read_movie_scale(movie);
    let timing = Timing::read(track, child(track, b"mdia")?, table, scale);
    match timing.duration() {
        Duration::ZERO if is_empty => {
            let number = read_track_number(track).unwrap_or_default();
            Some(timing.to_duration(fragments::length(fragments, movie, number, (timing.scale(), scale))))
        }
        duration => Some(duration),
    }
}

fn table(track: &[u8]) -> Option<&[u8]> {
    child(child(child(track, b"mdia")?, b"minf")?, b"stbl")
}

/// Whether a track's data references name another file: each entry has a flag that says that it does not.
fn lies_elsewhere(track: &[u8]) -> bool {
    let references = child(track, b"mdia")
        .and_then(|media| child(media, b"minf"))
        .and_then(|minf| child(minf, b"dinf"))
        .and_then(|dinf| child(dinf, b"dref"))
        .and_then(|body| body.get(8..));
    Boxes(references.unwrap_or_default()).any(|(_, body)| u32_at(body, 0).is_some_and(|flags| flags & 1 == 0))
}
