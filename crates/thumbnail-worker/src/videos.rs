//! Videos: what a file states of itself, and the frame that is its poster.
//!
//! Invariant: a video without a usable picture is no error but [`Missing`], which says why in one sentence; a hostile one costs
//! at most what [`Limits`] say, because sizes are read and checked before the decoder sees a byte.

mod appearance;
mod brightness;
mod chooser;
mod colour;
mod container;
pub mod ffmpeg;
pub mod frames;
mod light;
mod missing;
pub mod mp4;
mod shape;
mod sps;
mod units;
mod webm;

use std::time::Duration;

use crate::pictures::Orientation;
use mp4::Track;
use shape::display_size;
use sps::Sps;

pub use container::Container;
pub use frames::Limits;
pub use missing::Missing;
pub use shape::Facts;

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
