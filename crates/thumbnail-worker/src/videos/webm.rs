//! WebM and Matroska, as far as size and length: what their headers state, and else where their last block stands.
//!
//! Invariant: elements are walked once from the front, every read is bounds-checked, and an element of unknown length, as live
//! recordings have them, is entered and not skipped.

use std::io;
use std::time::Duration;

use super::shape::{Facts, display_size};
use crate::formats::Container;
use crate::pictures::Orientation;
use crate::source::{Source, Window};

/// Elements of one file that are looked at: seven times those of an hour of frames and sound.
const MAX_ELEMENTS: u32 = 2_000_000;
/// Bytes of an element that are read: more than any of those that matter here has.
const MAX_BODY: usize = 64;
/// The longest header of an element: an identifier of eight bytes and a length of eight.
const MAX_HEADER: usize = 16;
/// What plays longer, in seconds, is not believed.
const MAX_SECONDS: f64 = 366.0 * 86_400.0;

/// The elements that are read, by their identifiers.
mod id {
    pub(super) const EBML: u32 = 0x1A45_DFA3;
    pub(super) const DOC_TYPE: u32 = 0x4282;
    pub(super) const SEGMENT: u32 = 0x1853_8067;
    pub(super) const INFO: u32 = 0x1549_A966;
    pub(super) const TIMESTAMP_SCALE: u32 = 0x2A_D7B1;
    pub(super) const DURATION: u32 = 0x4489;
    pub(super) const TRACKS: u32 = 0x1654_AE6B;
    pub(super) const TRACK_ENTRY: u32 = 0xAE;
    pub(super) const TRACK_NUMBER: u32 = 0xD7;
    pub(super) const TRACK_TYPE: u32 = 0x83;
    pub(super) const DEFAULT_DURATION: u32 = 0x23_E383;
    pub(super) const VIDEO: u32 = 0xE0;
    pub(super) const PIXEL_WIDTH: u32 = 0xB0;
    pub(super) const PIXEL_HEIGHT: u32 = 0xBA;
    pub(super) const DISPLAY_WIDTH: u32 = 0x54B0;
    pub(super) const DISPLAY_HEIGHT: u32 = 0x54BA;
    pub(super) const DISPLAY_UNIT: u32 = 0x54B2;
    pub(super) const PROJECTION: u32 = 0x7670;
    pub(super) const POSE_ROLL: u32 = 0x7675;
    pub(super) const CLUSTER: u32 = 0x1F43_B675;
    pub(super) const TIMESTAMP: u32 = 0xE7;
    pub(super) const SIMPLE_BLOCK: u32 = 0xA3;
    pub(super) const BLOCK_GROUP: u32 = 0xA0;
    pub(super) const BLOCK: u32 = 0xA1;
}

/// A track, as it is being read.
#[derive(Clone, Copy, Debug, Default)]
struct Track {
    number: u64,
    kind: u64,
    frame: u64,
    width: u32,
    height: u32,
    display: (u32, u32),
    /// How display sizes are meant; 0: pixels.
    unit: u64,
    roll: f64,
}

/// The kinds of tracks.
const VIDEO: u64 = 1;
const SOUND: u64 = 2;

impl Track {
    fn display_size(&self) -> (u32, u32) {
        let (across, down) = self.display;
        if across == 0 || down == 0 || self.unit == 4 {
            return (self.width, self.height);
        }
        // Whatever the unit, the two give the picture's shape; the height stays that of the pixels.
        let aspect = across.checked_mul(self.height).zip(down.checked_mul(self.width));
        display_size(self.width, self.height, aspect)
    }
}

/// The contents of a file, as far as its elements could be walked.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Nanoseconds of one tick.
    scale: u64,
    /// Stated length in ticks.
    stated: f64,
    track: Track,
    /// The first video track.
    video: Option<Track>,
    /// Whether there is a track of sound.
    sound: bool,
    cluster: u64,
    /// The last tick at which a frame of the video begins.
    last: u64,
    /// Whether an element reaches beyond the file.
    is_cut: bool,
    /// Whether there are more elements than are looked at.
    is_endless: bool,
    /// Whether the file says that it is WebM, and not another Matroska.
    is_webm: bool,
    /// Whether there are frames or sound.
    has_blocks: bool,
}

impl Contents {
    /// Walks the elements of a file.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn read(source: &dyn Source) -> io::Result<Self> {
        let mut found = Self { scale: 1_000_000, ..Self::default() };
        found.walk(&mut Window::new(source))?;
        found.take_track();
        Ok(found)
    }

    /// Whether the file ends before its elements do.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Whether there are more elements than are looked at.
    pub(crate) fn is_endless(&self) -> bool {
        self.is_endless
    }

    /// Whether the file says that it is WebM, and not another Matroska.
    pub(crate) fn is_webm(&self) -> bool {
        self.is_webm
    }

    /// Whether there are frames or sound.
    pub(crate) fn has_blocks(&self) -> bool {
        self.has_blocks
    }

    /// What the file states of itself; nothing when it has no video track.
    pub(crate) fn facts(&self) -> Option<Facts> {
        let track = self.video?;
        let orientation = match track.roll.round() as i64 {
            // A roll is counter-clockwise.
            90 | -270 => Orientation::Turned270,
            180 | -180 => Orientation::Turned180,
            -90 | 270 => Orientation::Turned90,
            _ => Orientation::Upright,
        };
        let (width, height) = track.display_size();
        let (width, height) = orientation.turned(width, height);
        let frame_rate = if track.frame > 0 { 1e9 / track.frame as f64 } else { 0.0 };
        let (container, duration, audio) = (Container::Webm, self.duration(), self.sound);
        Some(Facts { container, width, height, duration, orientation, frame_rate, audio })
    }

    fn walk(&mut self, file: &mut Window<'_>) -> io::Result<()> {
        let (mut at, mut segment_end) = (0, u64::MAX);
        for _ in 0..MAX_ELEMENTS {
            if at >= file.length().min(segment_end) {
                return Ok(());
            }
            let mut header = 0;
            let Some((id, length)) = read_header(file.get(at, MAX_HEADER)?, &mut header) else {
                self.is_cut = file.length() - at < MAX_HEADER as u64;
                return Ok(());
            };
            at += header as u64;
            let end = length.and_then(|length| at.checked_add(length));
            self.is_cut |= end.is_some_and(|end| end > file.length());
            let entered = matches!(
                id,
                id::SEGMENT | id::INFO | id::TRACKS | id::TRACK_ENTRY | id::VIDEO | id::PROJECTION | id::CLUSTER
            ) || matches!(id, id::EBML | id::BLOCK_GROUP);
            if id == id::SEGMENT {
                segment_end = end.unwrap_or(u64::MAX);
            }
            if id == id::TRACK_ENTRY {
                self.take_track();
            }
            if entered {
                continue;
            }
            // Nothing but these has an unknown length.
            let Some(end) = end else { return Ok(()) };
            let body = usize::try_from(end - at).unwrap_or(usize::MAX).min(MAX_BODY);
            self.take(id, file.get(at, body)?);
            at = end;
        }
        self.is_endless = true;
        Ok(())
    }

    fn take(&mut self, id: u32, body: &[u8]) {
        let number = || body.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        let side = || u32::try_from(number()).ok().filter(|side| *side <= 65_535).unwrap_or_default();
        match id {
            id::TIMESTAMP_SCALE => self.scale = number().max(1),
            id::DURATION => self.stated = read_float(body),
            id::TRACK_NUMBER => self.track.number = number(),
            id::DOC_TYPE => self.is_webm = body.trim_ascii_end().strip_suffix(&[0]).unwrap_or(body) == b"webm",
            id::TRACK_TYPE => self.track.kind = number(),
            id::DEFAULT_DURATION => self.track.frame = number(),
            id::PIXEL_WIDTH => self.track.width = side(),
            id::PIXEL_HEIGHT => self.track.height = side(),
            id::DISPLAY_WIDTH => self.track.display.0 = side(),
            id::DISPLAY_HEIGHT => self.track.display.1 = side(),
            id::DISPLAY_UNIT => self.track.unit = number(),
            id::POSE_ROLL => self.track.roll = read_float(body),
            id::TIMESTAMP => self.cluster = number(),
            id::SIMPLE_BLOCK | id::BLOCK => self.take_block(body),
            _ => {}
        }
    }

    /// A track has ended, since another begins or what follows all tracks has come.
    fn take_track(&mut self) {
        let track = std::mem::take(&mut self.track);
        self.sound |= track.kind == SOUND;
        if self.video.is_none() && track.kind == VIDEO {
            self.video = Some(track);
        }
    }

    fn take_block(&mut self, body: &[u8]) {
        self.take_track();
        self.has_blocks = true;
        let mut at = 0;
        let Some(track) = read_number(body, &mut at, true) else { return };
        let (Some(video), Some(offset)) = (self.video, body.get(at..at + 2)) else { return };
        if track == video.number {
            let offset = i16::from_be_bytes([offset[0], offset[1]]);
            self.last = self.last.max(self.cluster.saturating_add_signed(offset.into()));
        }
    }

    fn duration(&self) -> Duration {
        let tick = self.scale as f64 / 1e9;
        let seconds = if self.stated > 0.0 {
            self.stated * tick
        } else {
            // The last frame is shown as long as any other.
            self.last as f64 * tick + self.video.map_or(0.0, |video| video.frame as f64 / 1e9)
        };
        if (0.0..MAX_SECONDS).contains(&seconds) {
            Duration::from_millis((seconds * 1_000.0).round() as u64)
        } else {
            Duration::ZERO
        }
    }
}

/// An element's identifier and its length, `None` where that is unknown; moves `at` to its body.
fn read_header(bytes: &[u8], at: &mut usize) -> Option<(u32, Option<u64>)> {
    let id = u32::try_from(read_number(bytes, at, false)?).ok()?;
    let start = *at;
    let length = read_number(bytes, at, true)?;
    let bits = 7 * (*at - start) as u32;
    Some((id, Some(length).filter(|length| *length != (1 << bits) - 1)))
}

/// A number whose first byte tells by its leading zeros how long it is; the bit that ends them is part of an identifier only.
fn read_number(bytes: &[u8], at: &mut usize, without_marker: bool) -> Option<u64> {
    let first = *bytes.get(*at)?;
    let length = first.leading_zeros() as usize + 1;
    let raw = bytes.get(*at..at.checked_add(length)?).filter(|_| length <= 8)?;
    *at += length;
    let number = raw.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    Some(if without_marker { number & !(1 << (7 * length)) } else { number })
}

fn read_float(body: &[u8]) -> f64 {
    match (body.first_chunk::<8>(), body.first_chunk::<4>()) {
        (Some(raw), _) => f64::from_be_bytes(*raw),
        (None, Some(raw)) => f64::from(f32::from_be_bytes(*raw)),
        _ => 0.0,
    }
}
