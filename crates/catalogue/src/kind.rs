//! What a model does, and what a file is.

use serde::{Deserialize, Serialize};

/// What a model does. All kinds go one way, from an input to files; the kind is for people and filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Words to a video.
    TextToVideo,
    /// A picture, or several, to a video.
    ImageToVideo,
    /// A video to another.
    VideoToVideo,
    /// Words to a picture.
    TextToImage,
    /// A picture to another.
    ImageToImage,
    /// Words to sound.
    Speech,
    /// A face and a voice to a video.
    LipSync,
    /// The same, larger.
    Upscale,
}

impl Kind {
    /// The name in entries and in the API: `image-to-video`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TextToVideo => "text-to-video",
            Self::ImageToVideo => "image-to-video",
            Self::VideoToVideo => "video-to-video",
            Self::TextToImage => "text-to-image",
            Self::ImageToImage => "image-to-image",
            Self::Speech => "speech",
            Self::LipSync => "lip-sync",
            Self::Upscale => "upscale",
        }
    }
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MediaKind {
    /// Moving pictures.
    Video,
    /// A picture.
    Image,
    /// Sound.
    Audio,
}

impl MediaKind {
    /// The name in the API and in an order.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Image => "image",
            Self::Audio => "audio",
        }
    }

    /// The kind of a media type such as `video/mp4`.
    #[must_use]
    pub fn of(mime_type: &str) -> Option<Self> {
        let of = mime_type.split_once('/')?.0;
        [Self::Video, Self::Image, Self::Audio].into_iter().find(|kind| kind.as_str() == of)
    }
}
