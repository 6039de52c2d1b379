//! MP4, as far as its boxes lead to the frames of its video track.
//!
//! Invariant: nothing is allocated by a count that the file states. Tables are slices of the file and are walked one sample at a
//! time, so a file that claims four thousand million samples costs what its bytes cost. Nesting is fixed by the code, not by the
//! file, and every read is bounds-checked.

use std::time::Duration;

use super::container::Container;
use super::missing::Missing;
use crate::pictures::Orientation;

/// The video track of a file.
#[derive(Clone, Debug)]
pub struct Track<'a> {
    /// Stated width of its frames in pixels, before turning.
    pub width: u32,
    /// Stated height of its frames in pixels, before turning.
    pub height: u32,
    /// How long it plays; zero when it does not say.
    pub duration: Duration,
    /// How frames are to be turned to be seen upright.
    pub orientation: Orientation,
    /// The sample entry's name, such as `avc1`.
    pub codec: [u8; 4],
    /// The H.264 parameters, when that is the codec.
    pub avc: Option<Avc<'a>>,
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
    /// The track's samples, one frame each, in decoding order. Ends early where the file does.
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
        Some(Container::Mp4) => {}
        Some(Container::Webm) => return Err(Missing::OtherContainer("WebM")),
        None => return Err(Missing::NotAVideo),
    }
    let movie = child(bytes, b"moov").ok_or_else(|| damaged("it has no index (moov)"))?;
    let track = Boxes(movie)
        .filter(|(name, _)| name == b"trak")
        .map(|(_, body)| body)
        .find(|track| is_video(track))
        .ok_or(Missing::NoTrack)?;
    let media = child(track, b"mdia").ok_or(Missing::NoTrack)?;
    let table =
        child(media, b"minf").and_then(|minf| child(minf, b"stbl")).ok_or_else(|| damaged("no sample table"))?;
    let (codec, width, height, entry) = read_sample_entry(table).ok_or_else(|| damaged("no sample description"))?;
    let avc = (&codec == b"avc1" || &codec == b"avc3")
        .then(|| child(entry, b"avcC").and_then(read_avc).ok_or_else(|| damaged("no H.264 parameters (avcC)")))
        .transpose()?;
    let samples = Samples::new(bytes, table).ok_or_else(|| damaged("its sample table is not whole"))?;
    if samples.is_empty() && child(movie, b"mvex").is_some() {
        return Err(Missing::OtherContainer("fragmented MP4"));
    }
    Ok(Track {
        width,
        height,
        duration: read_duration(media),
        orientation: read_orientation(track),
        codec,
        avc,
        samples,
    })
}

fn is_video(track: &[u8]) -> bool {
    let handler = child(track, b"mdia").and_then(|media| child(media, b"hdlr"));
    handler.and_then(|body| body.get(8..12)) == Some(b"vide")
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

fn read_duration(media: &[u8]) -> Duration {
    let Some(header) = child(media, b"mdhd") else { return Duration::ZERO };
    let (scale, length) = match header.first() {
        Some(0) => (u32_at(header, 12), u32_at(header, 16).map(u64::from)),
        Some(1) => (u32_at(header, 20), u64_at(header, 24)),
        _ => (None, None),
    };
    match (scale, length) {
        // All ones mean "unknown", and nothing that plays for a year is believed.
        (Some(scale), Some(length)) if scale > 0 && length / u64::from(scale) < 366 * 86_400 => {
            Duration::from_millis(length.saturating_mul(1000) / u64::from(scale))
        }
        _ => Duration::ZERO,
    }
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

/// Walks the samples of a track.
#[derive(Clone, Debug)]
pub struct Samples<'a> {
    file: &'a [u8],
    /// One size for all, or zero.
    size: u32,
    count: usize,
    sizes: &'a [u8],
    chunks: &'a [u8],
    chunk_width: usize,
    runs: &'a [u8],
    sample: usize,
    chunk: usize,
    run: usize,
    left_in_chunk: u32,
    offset: u64,
}

impl<'a> Samples<'a> {
    fn new(file: &'a [u8], table: &'a [u8]) -> Option<Self> {
        let sizes = child(table, b"stsz")?;
        let runs = child(table, b"stsc")?.get(8..)?;
        let (chunks, chunk_width) = match child(table, b"stco") {
            Some(body) => (body.get(8..)?, 4),
            None => (child(table, b"co64")?.get(8..)?, 8),
        };
        let (size, count) = (u32_at(sizes, 4)?, u32_at(sizes, 8)? as usize);
        let sizes = sizes.get(12..)?;
        Some(Self {
            file,
            size,
            count,
            sizes,
            chunks,
            chunk_width,
            runs,
            sample: 0,
            chunk: 0,
            run: 0,
            left_in_chunk: 0,
            offset: 0,
        })
    }

    fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Enters the next chunk that has samples.
    fn enter_chunk(&mut self) -> Option<()> {
        while self.left_in_chunk == 0 {
            let at = self.chunk * self.chunk_width;
            self.offset = match self.chunk_width {
                4 => u64::from(u32_at(self.chunks, at)?),
                _ => u64_at(self.chunks, at)?,
            };
            self.chunk += 1;
            // A run names the first chunk, from 1, that it holds for.
            while u32_at(self.runs, (self.run + 1) * 12).is_some_and(|first| first as usize <= self.chunk) {
                self.run += 1;
            }
            self.left_in_chunk = u32_at(self.runs, self.run * 12 + 4)?;
        }
        Some(())
    }
}

impl<'a> Iterator for Samples<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.sample >= self.count {
            return None;
        }
        self.enter_chunk()?;
        let size = if self.size > 0 { self.size } else { u32_at(self.sizes, self.sample * 4)? };
        let start = usize::try_from(self.offset).ok()?;
        let body = self.file.get(start..start.checked_add(size as usize)?)?;
        self.offset += u64::from(size);
        self.sample += 1;
        self.left_in_chunk -= 1;
        Some(body)
    }
}

/// The boxes that lie one after another in a body.
struct Boxes<'a>(&'a [u8]);

impl<'a> Iterator for Boxes<'a> {
    type Item = ([u8; 4], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let name = self.0.get(4..8)?.try_into().ok()?;
        let (header, size) = match u32_at(self.0, 0)? {
            0 => (8, self.0.len()),
            1 => (16, usize::try_from(u64_at(self.0, 8)?).ok()?),
            size => (8, size as usize),
        };
        let body = self.0.get(header..size)?;
        self.0 = &self.0[size..];
        Some((name, body))
    }
}

/// The first box of a name within a body.
fn child<'a>(body: &'a [u8], name: &[u8; 4]) -> Option<&'a [u8]> {
    Boxes(body).find(|(found, _)| found == name).map(|(_, body)| body)
}

fn damaged(detail: &str) -> Missing {
    Missing::Damaged(detail.to_owned())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}
