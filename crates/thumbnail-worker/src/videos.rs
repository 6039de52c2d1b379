//! Videos: what a file states of itself, and the frame that is its poster.
//!
//! Invariant: a video without a usable picture is no error but [`Missing`], which says why in one sentence; a hostile one costs
//! at most what [`Limits`] say, because sizes are read and checked before the decoder sees a byte.

mod brightness;
mod colour;
mod container;
pub mod ffmpeg;
pub mod frames;
mod missing;
pub mod mp4;
mod sps;

use std::time::Duration;

use crate::pictures::Orientation;

pub use container::Container;
pub use frames::Limits;
pub use missing::Missing;

/// A video file's own statements; zero where it makes none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The file's container.
    pub container: Container,
    /// Width in pixels, upright.
    pub width: u32,
    /// Height in pixels, upright.
    pub height: u32,
    /// How long it plays.
    pub duration: Duration,
    /// How the frames are to be turned.
    pub orientation: Orientation,
}

/// Reads what a file states of itself; nothing for a file that is no video.
#[must_use]
pub fn facts(bytes: &[u8]) -> Option<Facts> {
    let container = Container::sniff(bytes)?;
    let unknown = Facts { container, width: 0, height: 0, duration: Duration::ZERO, orientation: Orientation::Upright };
    // A file that this parser cannot read may be one that ffmpeg can: it is a video all the same.
    let Ok(track) = mp4::video_track(bytes) else { return Some(unknown) };
    let (width, height) = track.orientation.turned(track.width, track.height);
    Some(Facts { container, width, height, duration: track.duration, orientation: track.orientation })
}
