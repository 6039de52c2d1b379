//! The types of files that are stored, and how a file is known to be of one.
//!
//! Invariant: the first bytes decide, never a name or a declared type. What they leave open, whether MP4 has any pictures in it, its
//! index decides.

use super::container::Container;
use super::mp3_frame::Frame;
use crate::pictures::Format;

/// The types of files that are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// A picture.
    Picture(Format),
    /// A video in MP4.
    Mp4,
    /// A video in WebM.
    Webm,
    /// A video in QuickTime.
    Mov,
    /// A sound in MP4.
    M4a,
    /// A sound in RIFF.
    Wav,
    /// MPEG audio, layer III.
    Mp3,
}

/// What is to be seen or heard of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// A picture.
    Picture,
    /// Moving pictures, with or without sound.
    Video,
    /// Sound alone.
    Sound,
}

impl Type {
    /// How many of a file's first bytes tell its type.
    pub const SNIFFED: usize = 12;

    /// The type by the first bytes of a file, of which [`Type::SNIFFED`] are enough. MP4 may turn out to be [`Type::M4a`].
    #[must_use]
    pub fn sniff(bytes: &[u8]) -> Option<Self> {
        if let Some(format) = Format::sniff(bytes) {
            return Some(Self::Picture(format));
        }
        match Container::sniff(bytes) {
            Some(Container::Mov) => return Some(Self::Mov),
            Some(Container::Webm) => return Some(Self::Webm),
            Some(Container::Mp4) => {
                return Some(match bytes.get(8..12) {
                    Some(b"M4A " | b"M4B ") => Self::M4a,
                    _ => Self::Mp4,
                });
            }
            None => {}
        }
        if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WAVE") {
            Some(Self::Wav)
        } else if bytes.starts_with(b"ID3") || Frame::read(bytes).is_some() {
            Some(Self::Mp3)
        } else {
            None
        }
    }

    /// The media type that such a file is served with.
    #[must_use]
    pub fn mime(self) -> &'static str {
        match self {
            Self::Picture(format) => format.mime(),
            Self::Mp4 => "video/mp4",
            Self::Webm => "video/webm",
            Self::Mov => "video/quicktime",
            Self::M4a => "audio/mp4",
            Self::Wav => "audio/wav",
            Self::Mp3 => "audio/mpeg",
        }
    }

    /// The extension of such a file's name in storage, without a dot.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Picture(format) => format.extension(),
            Self::Mp4 => "mp4",
            Self::Webm => "webm",
            Self::Mov => "mov",
            Self::M4a => "m4a",
            Self::Wav => "wav",
            Self::Mp3 => "mp3",
        }
    }

    /// What is to be seen or heard of it.
    #[must_use]
    pub fn class(self) -> Class {
        match self {
            Self::Picture(_) => Class::Picture,
            Self::Mp4 | Self::Webm | Self::Mov => Class::Video,
            Self::M4a | Self::Wav | Self::Mp3 => Class::Sound,
        }
    }
}

impl std::fmt::Display for Type {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Picture(format) => return format.fmt(out),
            Self::Mp4 => "MP4",
            Self::Webm => "WebM",
            Self::Mov => "MOV",
            Self::M4a => "M4A",
            Self::Wav => "WAV",
            Self::Mp3 => "MP3",
        })
    }
}

impl std::fmt::Display for Class {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Picture => "picture",
            Self::Video => "video",
            Self::Sound => "sound",
        })
    }
}
