//! What a file says of itself, whatever its type.

use std::time::Duration;

use crate::formats::{Class, Type};
use crate::videos;

/// A file's own statements; zero where it makes none.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Its type.
    pub media_type: Type,
    /// Width in pixels, upright, at which it is to be seen; zero for a sound.
    pub width: u32,
    /// Height in pixels, upright, at which it is to be seen; zero for a sound.
    pub height: u32,
    /// How long it plays.
    pub duration: Duration,
    /// Frames a second, their mean where it changes; zero for a sound.
    pub frame_rate: f64,
    /// Whether there is sound in it.
    pub audio: bool,
}

impl Facts {
    /// Those of a file that says nothing that can be read.
    pub(crate) fn unknown(media_type: Type) -> Self {
        let audio = media_type.class() == Class::Sound;
        Self { media_type, width: 0, height: 0, duration: Duration::ZERO, frame_rate: 0.0, audio }
    }
}

/// Facts of a video as those of any file.
pub(super) fn of_video(media_type: Type, video: &videos::Facts) -> Facts {
    let &videos::Facts { width, height, duration, frame_rate, audio, .. } = video;
    Facts { media_type, width, height, duration, frame_rate, audio }
}

/// The facts of a sound.
pub(super) fn sound(media_type: Type, duration: Duration) -> Facts {
    Facts { media_type, width: 0, height: 0, duration, frame_rate: 0.0, audio: true }
}
