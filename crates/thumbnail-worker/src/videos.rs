//! Moving pictures: what a video file is, and the frame that stands for it.
//!
//! Invariant: a video without a usable picture is no error but [`Missing`], which says why in one sentence; a hostile one costs
//! at most what [`Limits`] say, because sizes are read and checked before the decoder sees a byte.

pub mod colour;
pub mod ffmpeg;
pub mod frames;
pub mod light;
pub mod mp4;
pub mod sps;

use std::time::Duration;

use crate::pictures::orientation::Orientation;

/// What looking for a poster may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most pixels of one frame.
    pub frame_pixels: u64,
    /// How many frames are decoded before the brightest one so far is taken.
    pub frames: usize,
    /// How many pixels are decoded in all before the brightest frame so far is taken.
    pub pixels: u64,
}

impl Default for Limits {
    /// 36,864 macroblocks a frame (H.264 level 5.2), 300 frames, and 600 megapixels in all.
    fn default() -> Self {
        Self { frame_pixels: 36_864 * 256, frames: 300, pixels: 600_000_000 }
    }
}

/// The containers that are known by their first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Container {
    /// MP4 and its relatives.
    Mp4,
    /// WebM and Matroska.
    Webm,
}

impl Container {
    /// Tells the container by the first bytes of a file; twelve are enough.
    #[must_use]
    pub fn sniff(bytes: &[u8]) -> Option<Self> {
        if bytes.get(4..8) == Some(b"ftyp") {
            Some(Self::Mp4)
        } else if bytes.starts_with(&[0x1A, 0x45, 0xDF, 0xA3]) {
            Some(Self::Webm)
        } else {
            None
        }
    }

    /// The media type that such a file is served with.
    #[must_use]
    pub fn mime(self) -> &'static str {
        match self {
            Self::Mp4 => "video/mp4",
            Self::Webm => "video/webm",
        }
    }
}

/// What a video file says of itself; zero where it does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What the file is.
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

/// Reads what `bytes` say of themselves; nothing for a file that is no video.
#[must_use]
pub fn facts(bytes: &[u8]) -> Option<Facts> {
    let container = Container::sniff(bytes)?;
    let unknown = Facts { container, width: 0, height: 0, duration: Duration::ZERO, orientation: Orientation::Upright };
    let Ok(track) = mp4::video(bytes) else { return Some(unknown) };
    let (width, height) = track.orientation.turned(track.width, track.height);
    Some(Facts { container, width, height, duration: track.duration, orientation: track.orientation })
}

/// Why a video has no poster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// The bytes are no known container.
    #[error("the file is neither MP4 nor WebM")]
    NotAVideo,
    /// A container that is not opened in process.
    #[error("{0} is not opened here, and no ffmpeg was found to do it")]
    OtherContainer(&'static str),
    /// A video codec that is not decoded in process.
    #[error("its video codec {0} is not decoded here, and no ffmpeg was found to do it")]
    OtherCodec(String),
    /// The frames are of a kind that the decoder here does not take, or broken.
    #[error("none of its frames can be decoded here ({0}), and no ffmpeg was found to do it")]
    Undecoded(String),
    /// There is no video track.
    #[error("the file has no video track")]
    NoTrack,
    /// The file breaks its format's rules.
    #[error("the file is damaged: {0}")]
    Damaged(String),
    /// A frame is larger than allowed.
    #[error("its frames are {width} x {height} pixels, at most {limit} pixels are decoded")]
    TooLarge {
        /// Stated width in pixels.
        width: u32,
        /// Stated height in pixels.
        height: u32,
        /// The limit that was passed.
        limit: u64,
    },
    /// ffmpeg was asked and failed.
    #[error("ffmpeg could not decode it: {0}")]
    Ffmpeg(String),
}

impl Missing {
    /// Whether another decoder could do better.
    #[must_use]
    pub fn elsewhere(&self) -> bool {
        matches!(self, Self::OtherContainer(_) | Self::OtherCodec(_) | Self::Undecoded(_))
    }
}
