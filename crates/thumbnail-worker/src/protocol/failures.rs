//! The reasons for which a file is not taken, on their way from a decoder: each variant as a number, and back.
//!
//! Invariant: what arrives is what was sent; a test sends each. A number that nobody knows is a damaged file.

use std::time::Duration;

use super::Failure;
use crate::media::{self, Type};
use crate::pictures::{self, Format};
use crate::videos::Missing;

/// A reason in the file for which work cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A picture is not taken.
    #[error(transparent)]
    Picture(#[from] pictures::Refused),
    /// A video or a sound is not taken.
    #[error(transparent)]
    Media(#[from] media::Refused),
    /// A video has no poster.
    #[error(transparent)]
    Video(#[from] Missing),
    /// The file cannot be read: a fault of ours.
    #[error("the file cannot be read: {0}")]
    Unreadable(String),
}

/// All types, by the numbers that they have in messages.
const TYPES: [Type; 9] = [
    Type::Picture(Format::Jpeg),
    Type::Picture(Format::Png),
    Type::Picture(Format::Webp),
    Type::Mp4,
    Type::Webm,
    Type::Mov,
    Type::M4a,
    Type::Wav,
    Type::Mp3,
];

/// A type's number.
pub(crate) fn number_of(media_type: Type) -> u32 {
    TYPES.iter().position(|one| *one == media_type).map_or(0, |at| at as u32)
}

/// The type of a number.
pub(crate) fn type_of(number: u32) -> Option<Type> {
    TYPES.get(number as usize).copied()
}

/// The containers that a reason names.
const CONTAINERS: [&str; 2] = ["WebM", "fragmented MP4"];

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        let failure =
            |kind, subject, numbers: &[u64], detail: String| Self { kind, subject, numbers: numbers.to_vec(), detail };
        let format = |format| number_of(Type::Picture(format));
        let none = String::new;
        match reason {
            Reason::Picture(refused) => {
                use pictures::Refused as R;
                match refused {
                    R::TooManyBytes { bytes, limit } => failure(1, 0, &[bytes, limit], none()),
                    R::TooManyPixels { width, height, limit } => {
                        failure(2, 0, &[width.into(), height.into(), limit], none())
                    }
                    R::SideTooLong { width, height, limit } => {
                        failure(3, 0, &[width.into(), height.into(), limit.into()], none())
                    }
                    R::TooMuchWork { format: of, detail } => failure(4, format(of), &[], detail),
                    R::Empty => failure(5, 0, &[], none()),
                    R::UnknownFormat => failure(6, 0, &[], none()),
                    R::Truncated { format: of } => failure(7, format(of), &[], none()),
                    R::Damaged { format: of, detail } => failure(8, format(of), &[], detail),
                    R::Unsupported { format: of, detail } => failure(9, format(of), &[], detail),
                }
            }
            Reason::Media(refused) => {
                use media::Refused as R;
                match refused {
                    R::UnknownFormat => failure(20, 0, &[], none()),
                    R::LongerThanAny { bytes, limit } => failure(21, 0, &[bytes, limit], none()),
                    R::TooManyBytes { media_type, bytes, limit } => {
                        failure(22, number_of(media_type), &[bytes, limit], none())
                    }
                    R::TooLong { media_type, plays, limit } => {
                        failure(23, number_of(media_type), &[nanos(plays), nanos(limit)], none())
                    }
                    R::SideTooLong { width, height, limit } => {
                        failure(24, 0, &[width.into(), height.into(), limit.into()], none())
                    }
                    R::Truncated { media_type } => failure(25, number_of(media_type), &[], none()),
                    R::Damaged { media_type, detail } => failure(26, number_of(media_type), &[], detail),
                    R::Unsupported { media_type, detail } => failure(27, number_of(media_type), &[], detail),
                }
            }
            Reason::Video(missing) => match missing {
                Missing::NotAVideo => failure(40, 0, &[], none()),
                Missing::OtherContainer(name) => failure(41, u32::from(name == CONTAINERS[1]), &[], none()),
                Missing::OtherCodec(detail) => failure(42, 0, &[], detail),
                Missing::Undecoded(detail) => failure(43, 0, &[], detail),
                Missing::NoTrack => failure(44, 0, &[], none()),
                Missing::Damaged(detail) => failure(45, 0, &[], detail),
                Missing::TooLarge { width, height, limit } => {
                    failure(46, 0, &[width.into(), height.into(), limit], none())
                }
                Missing::Stopped => failure(47, 0, &[], none()),
                Missing::Ffmpeg(detail) => failure(48, 0, &[], detail),
            },
            Reason::Unreadable(detail) => failure(60, 0, &[], detail),
        }
    }
}

impl From<Failure> for Reason {
    fn from(failure: Failure) -> Self {
        let Failure { kind, subject, numbers, detail } = failure;
        let number = |at: usize| numbers.get(at).copied().unwrap_or_default();
        let short = |at: usize| u32::try_from(number(at)).unwrap_or(u32::MAX);
        let (width, height, limit) = (short(0), short(1), number(2));
        let media_type = type_of(subject).unwrap_or(Type::Mp4);
        let format = match media_type {
            Type::Picture(format) => format,
            _ => Format::Jpeg,
        };
        match kind {
            1..=9 => {
                use pictures::Refused as R;
                Self::Picture(match kind {
                    1 => R::TooManyBytes { bytes: number(0), limit: number(1) },
                    2 => R::TooManyPixels { width, height, limit },
                    3 => R::SideTooLong { width, height, limit: short(2) },
                    4 => R::TooMuchWork { format, detail },
                    5 => R::Empty,
                    6 => R::UnknownFormat,
                    7 => R::Truncated { format },
                    8 => R::Damaged { format, detail },
                    _ => R::Unsupported { format, detail },
                })
            }
            20..=27 => {
                use media::Refused as R;
                Self::Media(match kind {
                    20 => R::UnknownFormat,
                    21 => R::LongerThanAny { bytes: number(0), limit: number(1) },
                    22 => R::TooManyBytes { media_type, bytes: number(0), limit: number(1) },
                    23 => R::TooLong {
                        media_type,
                        plays: Duration::from_nanos(number(0)),
                        limit: Duration::from_nanos(number(1)),
                    },
                    24 => R::SideTooLong { width, height, limit: short(2) },
                    25 => R::Truncated { media_type },
                    26 => R::Damaged { media_type, detail },
                    _ => R::Unsupported { media_type, detail },
                })
            }
            40 => Self::Video(Missing::NotAVideo),
            41 => Self::Video(Missing::OtherContainer(CONTAINERS[usize::from(subject == 1)])),
            42 => Self::Video(Missing::OtherCodec(detail)),
            43 => Self::Video(Missing::Undecoded(detail)),
            44 => Self::Video(Missing::NoTrack),
            46 => Self::Video(Missing::TooLarge { width, height, limit }),
            47 => Self::Video(Missing::Stopped),
            48 => Self::Video(Missing::Ffmpeg(detail)),
            60 => Self::Unreadable(detail),
            _ => Self::Video(Missing::Damaged(detail)),
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_arrives_as_it_was_sent() {
        use media::Refused as M;
        use pictures::Refused as P;
        let (format, media_type, detail) = (Format::Webp, Type::Wav, "so it is".to_owned());
        let plays = Duration::from_millis(3_600_001);
        let pictures = [
            P::TooManyBytes { bytes: 5, limit: 4 },
            P::TooManyPixels { width: 9, height: 8, limit: 7 },
            P::SideTooLong { width: 9, height: 8, limit: 7 },
            P::TooMuchWork { format, detail: detail.clone() },
            P::Empty,
            P::UnknownFormat,
            P::Truncated { format },
            P::Damaged { format, detail: detail.clone() },
            P::Unsupported { format, detail: detail.clone() },
        ];
        let media = [
            M::UnknownFormat,
            M::LongerThanAny { bytes: 5, limit: 4 },
            M::TooManyBytes { media_type, bytes: 5, limit: 4 },
            M::TooLong { media_type, plays, limit: Duration::from_secs(3_600) },
            M::SideTooLong { width: 9, height: 8, limit: 7 },
            M::Truncated { media_type },
            M::Damaged { media_type, detail: detail.clone() },
            M::Unsupported { media_type, detail: detail.clone() },
        ];
        let videos = [
            Missing::NotAVideo,
            Missing::OtherContainer("WebM"),
            Missing::OtherContainer("fragmented MP4"),
            Missing::OtherCodec(detail.clone()),
            Missing::Undecoded(detail.clone()),
            Missing::NoTrack,
            Missing::Damaged(detail.clone()),
            Missing::TooLarge { width: 9, height: 8, limit: 7 },
            Missing::Stopped,
            Missing::Ffmpeg(detail.clone()),
        ];
        let all = pictures.into_iter().map(Reason::Picture).chain(media.into_iter().map(Reason::Media));
        for reason in all.chain(videos.into_iter().map(Reason::Video)).chain([Reason::Unreadable(detail)]) {
            assert_eq!(Reason::from(Failure::from(reason.clone())), reason);
        }
    }
}
