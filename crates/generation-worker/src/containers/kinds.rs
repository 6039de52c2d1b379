//! The containers that are delivered, and why a file is none.

use crate::model::{CallOutcome, MediaKind};

/// A container that is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Container {
    Mp4,
    QuickTime,
    Webm,
    Jpeg,
    Png,
    Webp,
    Wav,
    Mp3,
    M4a,
}

/// Why a file is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flawed {
    /// It is nothing that is delivered.
    NoOutput(&'static str),
    /// It ends too soon, or lacks what a player needs.
    Cut(&'static str),
}

impl Container {
    /// The ending of its files, without a dot.
    pub(crate) const fn extension(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
            Self::QuickTime => "mov",
            Self::Webm => "webm",
            Self::Jpeg => "jpg",
            Self::Png => "png",
            Self::Webp => "webp",
            Self::Wav => "wav",
            Self::Mp3 => "mp3",
            Self::M4a => "m4a",
        }
    }

    /// What its files are.
    pub(crate) const fn kind(self) -> MediaKind {
        match self {
            Self::Mp4 | Self::QuickTime | Self::Webm => MediaKind::Video,
            Self::Jpeg | Self::Png | Self::Webp => MediaKind::Image,
            Self::Wav | Self::Mp3 | Self::M4a => MediaKind::Audio,
        }
    }
}

impl Flawed {
    /// What it means for the delivery, with a sentence for operators.
    pub(crate) const fn outcome(self) -> (CallOutcome, &'static str) {
        match self {
            Self::NoOutput(detail) => (CallOutcome::FileUnusable, detail),
            Self::Cut(detail) => (CallOutcome::FileCut, detail),
        }
    }
}
