//! Videos: what a file states of itself, and the frame that is its poster.
//!
//! Invariant: a video without a usable picture is no error but [`Missing`], which says why in one sentence; a hostile one costs
//! at most what [`Limits`] say, because sizes are read and checked before the decoder sees a byte.

mod brightness;
mod chooser;
mod colour;
mod container;
pub mod ffmpeg;
pub mod frames;
mod light;
mod look;
mod missing;
pub mod mp4;
mod sps;
mod units;
mod webm;

use std::time::Duration;

use crate::pictures::Orientation;
use mp4::Track;
use sps::Sps;

pub use container::Container;
pub use frames::Limits;
pub use missing::Missing;

/// A video file's own statements; zero where it makes none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The file's container.
    pub container: Container,
    /// Width in pixels, upright, at which it is to be seen.
    pub width: u32,
    /// Height in pixels, upright, at which it is to be seen.
    pub height: u32,
    /// How long it plays, by its edit list where it has one.
    pub duration: Duration,
    /// How the frames are to be turned.
    pub orientation: Orientation,
}

/// Reads what a file states of itself; nothing for a file that is no video.
#[must_use]
pub fn facts(bytes: &[u8]) -> Option<Facts> {
    let container = Container::sniff(bytes)?;
    let unknown = Facts { container, width: 0, height: 0, duration: Duration::ZERO, orientation: Orientation::Upright };
    // A file that these parsers cannot read may be one that ffmpeg can: it is a video all the same.
    let facts = match container {
        Container::Mp4 => mp4_facts(bytes),
        Container::Webm => webm::facts(bytes),
    };
    Some(facts.unwrap_or(unknown))
}

fn mp4_facts(bytes: &[u8]) -> Option<Facts> {
    let track = mp4::video_track(bytes).ok()?;
    let parameters = track.avc.iter().flat_map(|avc| &avc.parameter_sets);
    let stated =
        track.pixel_aspect.or_else(|| parameters.filter_map(|unit| Sps::read(unit)).find_map(|sps| sps.pixel_aspect));
    let (width, height) = display_size(track.width, track.height, stated);
    let (width, height) = track.orientation.turned(width, height);
    let Track { duration, orientation, .. } = track;
    Some(Facts { container: Container::Mp4, width, height, duration, orientation })
}

/// The size at which frames of this size are to be seen: their height, and the width that their pixels' shape makes of theirs. A
/// shape that no camera has is not believed.
fn display_size(width: u32, height: u32, pixel_aspect: Option<(u32, u32)>) -> (u32, u32) {
    let Some((across, down)) = pixel_aspect else { return (width, height) };
    let believed =
        across > 0 && down > 0 && u64::from(across) <= u64::from(down) * 8 && u64::from(down) <= u64::from(across) * 8;
    if !believed {
        return (width, height);
    }
    let shown = (u64::from(width) * u64::from(across) + u64::from(down) / 2) / u64::from(down);
    (u32::try_from(shown).unwrap_or(width).max(1), height)
}
