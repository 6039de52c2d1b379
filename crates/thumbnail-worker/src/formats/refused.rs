//! The reasons for which a video or a sound is refused.

use std::io;
use std::time::Duration;

use super::types::Type;

/// Why a file is not taken. The text says what was found and what is allowed; it is meant for the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The first bytes are those of no type that is taken.
    #[error(
        "the content is none of JPEG, PNG, WebP, MP4, WebM, MOV, WAV, MP3 and M4A; its name does not matter, its first bytes do"
    )]
    UnknownFormat,
    /// The file is longer than any may be.
    #[error("the file has {bytes} bytes, at most {limit} are taken of any")]
    LongerThanAny {
        /// Stated length of the file.
        bytes: u64,
        /// The limit that was passed.
        limit: u64,
    },
    /// The file is longer than one of its type may be.
    #[error("the {} has {bytes} bytes, at most {limit} are taken", .media_type.class())]
    TooManyBytes {
        /// The file's type.
        media_type: Type,
        /// Length of the file, or as much of it as had come when it was refused.
        bytes: u64,
        /// The limit that was passed.
        limit: u64,
    },
    /// It plays longer than allowed.
    #[error("the {} plays {} seconds, at most {} are taken", .media_type.class(), .plays.as_secs_f64(), .limit.as_secs())]
    TooLong {
        /// The file's type.
        media_type: Type,
        /// How long it plays.
        plays: Duration,
        /// The limit that was passed.
        limit: Duration,
    },
    /// A side is longer than allowed.
    #[error("the video is {width} x {height} pixels, at most {limit} a side are taken")]
    SideTooLong {
        /// Width in pixels, upright.
        width: u32,
        /// Height in pixels, upright.
        height: u32,
        /// The limit that was passed.
        limit: u32,
    },
    /// The file ends before what it announces.
    #[error("the {media_type} file ends before its {} does", .media_type.class())]
    Truncated {
        /// The file's type.
        media_type: Type,
    },
    /// The file breaks the rules of its own format.
    #[error("the {media_type} file is damaged: {detail}")]
    Damaged {
        /// The file's type.
        media_type: Type,
        /// What was found.
        detail: String,
    },
    /// The file is right, but of a kind that is not taken.
    #[error("this kind of {media_type} is not taken: {detail}")]
    Unsupported {
        /// The file's type.
        media_type: Type,
        /// What was found.
        detail: String,
    },
}

impl Refused {
    /// The reason in the error's details, in upper snake case.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::LongerThanAny { .. } | Self::TooManyBytes { .. } => "INPUT_TOO_LARGE",
            Self::TooLong { .. } | Self::SideTooLong { .. } => "MEDIA_LIMIT_EXCEEDED",
            Self::Truncated { .. } => "MEDIA_TRUNCATED",
            Self::Damaged { .. } => "MEDIA_DAMAGED",
            Self::UnknownFormat | Self::Unsupported { .. } => "MEDIA_FORMAT_UNSUPPORTED",
        }
    }
}

/// Why a file's own statements cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not taken.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The file cannot be read.
    #[error("the file cannot be read")]
    Io(#[from] io::Error),
}

pub(crate) fn damaged(media_type: Type, detail: impl Into<String>) -> Refused {
    Refused::Damaged { media_type, detail: detail.into() }
}
