//! A video's size and length as players show it.
//!
//! Invariant: sizes are display sizes: a pixel that is not square makes the picture wider or narrower, never higher.

use std::time::Duration;

use crate::formats::Container;
use crate::pictures::Orientation;

/// A video file's own statements; zero where it makes none.
#[derive(Clone, Debug, PartialEq)]
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
    /// Frames a second, their mean where it changes.
    pub frame_rate: f64,
    /// Whether there is sound beside the frames.
    pub audio: bool,
}

impl Facts {
    /// Those of a file that says nothing that can be read.
    pub(crate) fn unknown(container: Container) -> Self {
        let (duration, orientation) = (Duration::ZERO, Orientation::Upright);
        Self { container, width: 0, height: 0, duration, orientation, frame_rate: 0.0, audio: false }
    }
}

/// The size at which frames of this size are to be seen: their height, and the width that their pixels' shape makes of theirs. A
/// shape that no camera has is not believed.
pub(crate) fn display_size(width: u32, height: u32, pixel_aspect: Option<(u32, u32)>) -> (u32, u32) {
    let Some((across, down)) = pixel_aspect else { return (width, height) };
    let believed =
        across > 0 && down > 0 && u64::from(across) <= u64::from(down) * 8 && u64::from(down) <= u64::from(across) * 8;
    if !believed {
        return (width, height);
    }
    let shown = (u64::from(width) * u64::from(across) + u64::from(down) / 2) / u64::from(down);
    (u32::try_from(shown).unwrap_or(width).max(1), height)
}
