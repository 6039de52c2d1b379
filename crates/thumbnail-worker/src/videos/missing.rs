//! The reasons for which a video has no poster.

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
    /// The search was told to stop.
    #[error("searching it for a picture takes longer than any may")]
    Stopped,
    /// ffmpeg was asked and failed.
    #[error("ffmpeg could not decode it: {0}")]
    Ffmpeg(String),
}

impl Missing {
    /// Whether another decoder may find a poster all the same.
    #[must_use]
    pub fn is_for_another_decoder(&self) -> bool {
        matches!(self, Self::OtherContainer(_) | Self::OtherCodec(_) | Self::Undecoded(_))
    }
}
