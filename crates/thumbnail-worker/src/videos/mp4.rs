//! MP4, as far as its boxes lead to the frames of its video track.
//!
//! Invariant: nothing is allocated by a count that the file states. Tables are slices of the file and are walked one sample at a
//! time, so a file that claims four thousand million samples costs what its bytes cost. Nesting is fixed by the code, not by the
//! file, and every read is bounds-checked.

use std::time::Duration;

mod boxes;
mod fragments;
mod movie;
mod samples;
mod timing;

use super::colour::ColourDescription;
use super::missing::Missing;
use crate::formats::Container;
use crate::pictures::Orientation;
use boxes::{Boxes, child, u16_at, u32_at};

pub(crate) use movie::Movie;
pub use samples::Samples;
pub(super) use timing::{Shown, Timing};

/// The video track of a file.
#[derive(Clone, Debug)]
pub struct Track<'a> {
    /// Stated width of its frames in pixels, before turning.
    pub width: u32,
    /// Stated height of its frames in pixels, before turning.
    pub height: u32,
    /// How wide a pixel is for its height, as a fraction; nothing when the file leaves it to the stream.
    pub pixel_aspect: Option<(u32, u32)>,
    /// How long it plays, by its edit list; zero when it does not say.
    pub duration: Duration,
    /// How frames are to be turned to be seen upright.
    pub orientation: Orientation,
    /// The sample entry's name, such as `avc1`.
    pub codec: [u8; 4],
    /// The H.264 parameters, when that is the codec.
    pub avc: Option<Avc<'a>>,
    /// Whether the samples lie in movie fragments, which are not read here.
    pub fragmented: bool,
    /// The colours that the file states, whatever the stream does.
    pub(super) colour: Option<ColourDescription>,
    /// When the samples are shown.
    pub(super) timing: Timing<'a>,
    samples: Samples<'a>,
}

/// H.264 parameters from `avcC`.
#[derive(Clone, Debug)]
pub struct Avc<'a> {
    /// Bytes of the length before each unit in a sample: 1, 2 or 4.
    pub length_bytes: usize,
    /// Sequence and picture parameter sets, without start codes.
    pub parameter_sets: Vec<&'a [u8]>,
}

impl<'a> Track<'a> {
    /// Where the track's samples lie, one frame each, in decoding order: perhaps beyond the file.
    #[must_use]
    pub fn samples(&self) -> Samples<'a> {
        self.samples.clone()
    }
}

/// Finds the first video track.
///
/// # Errors
/// [`Missing`] when the bytes are no MP4, or hold no video track whose tables can be read.
pub fn video_track(bytes: &[u8]) -> Result<Track<'_>, Missing> {
    match Container::sniff(bytes) {
        Some(Container::Mp4 | Container::Mov) => {}
        Some(Container::Webm) => return Err(Missing::OtherContainer("WebM")),
        None => return Err(Missing::NotAVideo),
    }
    let movie = index(bytes).ok_or_else(|| damaged("it has no index (moov)"))?;
    video_track_in(movie, bytes)
}

/// The body of a file's index.
pub(super) fn index(bytes: &[u8]) -> Option<&[u8]> {
    child(bytes, b"moov")
}

/// The first video track of an index (the body of `moov`); `file` has the movie fragments.
pub(super) fn video_track_in<'a>(movie: &'a [u8], file: &'a [u8]) -> Result<Track<'a>, Missing> {
    let track = tracks(movie).find(|track| handler(track) == Some(b"vide")).ok_or(Missing::NoTrack)?;
    let media = child(track, b"mdia").ok_or(Missing::NoTrack)?;
    let table =
        child(media, b"minf").and_then(|minf| child(minf, b"stbl")).ok_or_else(|| damaged("no sample table"))?;
    let (codec, width, height, entry) = read_sample_entry(table).ok_or_else(|| damaged("no sample description"))?;
    let avc = (&codec == b"avc1" || &codec == b"avc3")
        .then(|| child(entry, b"avcC").and_then(read_avc).ok_or_else(|| damaged("no H.264 parameters (avcC)")))
        .transpose()?;
    let samples = Samples::new(table).ok_or_else(|| damaged("its sample table is not whole"))?;
    let fragmented = samples.is_empty() && child(movie, b"mvex").is_some();
    let movie_scale = read_movie_scale(movie);
    let timing = Timing::read(track, media, table, movie_scale);
    let duration = match timing.duration() {
        Duration::ZERO if fragmented => {
            let number = read_track_number(track).unwrap_or_default();
            timing.to_duration(fragments::length(file, movie, number, (timing.scale(), movie_scale)))
        }
        duration => duration,
    };
    let colour = Boxes(entry).filter(|(name, _)| name == b"colr").find_map(|(_, body)| read_colour(body));
    Ok(Track {
        width,
        height,
        pixel_aspect: read_pixel_aspect(entry).or_else(|| read_track_aspect(track, width, height)),
        duration,
        orientation: read_orientation(track),
        codec,
        avc,
        fragmented,
        colour,
        timing,
        samples,
    })
}

/// The tracks of an index.
fn tracks(movie: &[u8]) -> impl Iterator<Item = &[u8]> {
    Boxes(movie).filter(|(name, _)| name == b"trak").map(|(_, body)| body)
}

/// What a track is: `vide`, `soun` or another.
fn handler(track: &[u8]) -> Option<&[u8; 4]> {
    child(track, b"mdia").and_then(|media| child(media, b"hdlr"))?.get(8..12)?.try_into().ok()
}

/// The first sample entry: its name, the frame's size, and the boxes within it.
fn read_sample_entry(table: &[u8]) -> Option<([u8; 4], u32, u32, &[u8])> {
    let (codec, body) = Boxes(child(table, b"stsd")?.get(8..)?).next()?;
    let (width, height) = (u16_at(body, 24)?, u16_at(body, 26)?);
    Some((codec, u32::from(width), u32::from(height), body.get(78..)?))
}

fn read_avc(body: &[u8]) -> Option<Avc<'_>> {
    let length_bytes = usize::from(body.get(4)? & 3) + 1;
    let mut parameter_sets = Vec::new();
    let mut rest = body.get(5..)?;
    for mask in [0x1F, 0xFF] {
        let (count, after) = rest.split_first()?;
        rest = after;
        for _ in 0..(count & mask) {
            let length = usize::from(u16_at(rest, 0)?);
            parameter_sets.push(rest.get(2..2 + length)?);
            rest = &rest[2 + length..];
        }
    }
    (length_bytes != 3).then_some(Avc { length_bytes, parameter_sets })
}

fn read_movie_scale(movie: &[u8]) -> u32 {
    let header = child(movie, b"mvhd").unwrap_or_default();
    u32_at(header, if header.first() == Some(&1) { 20 } else { 12 }).unwrap_or_default()
}

fn read_track_number(track: &[u8]) -> Option<u32> {
    let header = child(track, b"tkhd")?;
    u32_at(header, if header.first() == Some(&1) { 20 } else { 12 })
}

/// The shape of a pixel that the sample entry states.
fn read_pixel_aspect(entry: &[u8]) -> Option<(u32, u32)> {
    let body = child(entry, b"pasp")?;
    Some((u32_at(body, 0)?, u32_at(body, 4)?)).filter(|(across, down)| *across > 0 && *down > 0)
}

/// The shape of a pixel that follows from the size at which the track header has the frames shown.
fn read_track_aspect(track: &[u8], width: u32, height: u32) -> Option<(u32, u32)> {
    let header = child(track, b"tkhd")?;
    let at = if header.first() == Some(&1) { 88 } else { 76 };
    // Numbers with 16 bits behind the point; those are nothing but rounding.
    let (shown_width, shown_height) = (u32_at(header, at)? >> 16, u32_at(header, at + 4)? >> 16);
    if shown_width == 0 || shown_height == 0 || (shown_width, shown_height) == (width, height) {
        return None;
    }
    Some((shown_width.checked_mul(height)?, shown_height.checked_mul(width)?))
}

/// The colour description of a `colr` box that names its numbers.
fn read_colour(body: &[u8]) -> Option<ColourDescription> {
    let full_range = match body.get(..4)? {
        b"nclx" => body.get(10)? >> 7 == 1,
        b"nclc" => false,
        _ => return None,
    };
    let number = |at| u16_at(body, at).and_then(|number| u8::try_from(number).ok());
    Some(ColourDescription { primaries: number(4)?, transfer: number(6)?, matrix: number(8)?, full_range })
}

/// The turning that the track header's matrix asks for; anything but a quarter turn is taken as none.
fn read_orientation(track: &[u8]) -> Orientation {
    let Some(header) = child(track, b"tkhd") else { return Orientation::Upright };
    let at = if header.first() == Some(&1) { 52 } else { 40 };
    let sign = |n: usize| u32_at(header, at + n * 4).map_or(0, |fixed| (fixed as i32).signum());
    match (sign(0), sign(1), sign(3), sign(4)) {
        (0, 1, -1, 0) => Orientation::Turned90,
        (-1, 0, 0, -1) => Orientation::Turned180,
        (0, -1, 1, 0) => Orientation::Turned270,
        _ => Orientation::Upright,
    }
}

fn damaged(detail: &str) -> Missing {
    Missing::Damaged(detail.to_owned())
}
