//! The reasons for which a picture is refused.

use super::format::Format;

/// Why a picture is not taken. The text says what was found and what is allowed; it is meant for the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The file is longer than allowed.
    #[error("the file has {bytes} bytes, at most {limit} are taken")]
    TooManyBytes {
        /// Length of the file, or as much of it as had come when it was refused.
        bytes: u64,
        /// The limit that was passed.
        limit: u64,
    },
    /// The header states more pixels than allowed.
    #[error("the picture is {width} x {height} pixels, at most {limit} pixels in all are taken")]
    TooManyPixels {
        /// Stated width in pixels.
        width: u32,
        /// Stated height in pixels.
        height: u32,
        /// The limit that was passed.
        limit: u64,
    },
    /// The header states a side longer than allowed.
    #[error("the picture is {width} x {height} pixels, at most {limit} a side are taken")]
    SideTooLong {
        /// Stated width in pixels.
        width: u32,
        /// Stated height in pixels.
        height: u32,
        /// The limit that was passed.
        limit: u32,
    },
    /// The file asks for far more work than its size in pixels explains.
    #[error("the {format} file is built to be slow to decode: {detail}")]
    TooMuchWork {
        /// The file's format.
        format: Format,
        /// What was found.
        detail: String,
    },
    /// There are no bytes at all.
    #[error("the file is empty")]
    Empty,
    /// The first bytes are those of no format that is read.
    #[error("the content is not a JPEG, PNG or WebP picture; its name does not matter, its first bytes do")]
    UnknownFormat,
    /// The file ends before its picture does.
    #[error("the {format} file ends before its picture does")]
    Truncated {
        /// The file's format.
        format: Format,
    },
    /// The file breaks the rules of its own format.
    #[error("the {format} file is damaged: {detail}")]
    Damaged {
        /// The file's format.
        format: Format,
        /// What the decoder said.
        detail: String,
    },
    /// The file is right, but of a kind that is not read.
    #[error("this kind of {format} is not read: {detail}")]
    Unsupported {
        /// The file's format.
        format: Format,
        /// What is missing here.
        detail: String,
    },
}

impl Refused {
    /// Decoding took longer than it may.
    pub(super) fn stopped(format: Format) -> Self {
        Self::TooMuchWork { format, detail: "it was stopped after as long as any may take".to_owned() }
    }

    /// The reason in the error's details, in upper snake case.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooManyBytes { .. } => "INPUT_TOO_LARGE",
            Self::TooManyPixels { .. } | Self::SideTooLong { .. } | Self::TooMuchWork { .. } => "IMAGE_LIMIT_EXCEEDED",
            Self::Truncated { .. } => "IMAGE_TRUNCATED",
            Self::Damaged { .. } => "IMAGE_DAMAGED",
            Self::Empty | Self::UnknownFormat | Self::Unsupported { .. } => "IMAGE_FORMAT_UNSUPPORTED",
        }
    }
}
