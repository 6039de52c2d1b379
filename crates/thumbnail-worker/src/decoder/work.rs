//! What a decoder does for each kind of work.
//!
//! Invariant: sizes that a file states are held against the limits, and what decoding will hold is said and admitted, before the first
//! pixel is decoded.

use std::io;
use std::time::Duration;

use crate::formats::Index;
use crate::media::{self, Type};
use crate::model::Spec;
use crate::pictures::{self, Header, Layout, Orientation, Pixels, fit};
use crate::posters::{self, Pictures, Sized};
use crate::protocol::{Done, Facts, Finished, Limits, Order, Reason, Work, number_of, type_of};
use crate::source::{OnDisk, Source};
use crate::stop::Stop;
use crate::videos::frames;

/// A file as it comes.
pub(super) enum Input {
    Bytes(Vec<u8>),
    File(OnDisk),
}

/// Does the work of an order; `admit` says what it weighs and waits for room. Its time begins then.
pub(super) fn perform(
    order: &Order,
    input: Input,
    admit: &mut dyn FnMut(u64) -> io::Result<()>,
) -> Result<Done, Reason> {
    let spec = Spec { width: order.width, height: order.height, quality: order.quality.clamp(1, 100) as u8 };
    let limits = &order.limits;
    let media_type = type_of(order.media_type).ok_or(media::Refused::UnknownFormat);
    let time = Duration::from_millis(order.stop_after_ms);
    let mut admit = |weight| admit(weight).map(|()| Stop::after(time)).map_err(unreadable);
    match order.work() {
        Work::CheckPicture => {
            let bytes = input.read_whole(limits)?;
            let header = Header::read(&bytes, &limits.pictures())?;
            let stop = admit(header.weight(&spec))?;
            pictures::decode(&bytes, &header, &spec, &stop)?;
            let (width, height) = header.upright();
            let media_type = Type::Picture(header.format);
            facts(&media::Facts { width, height, ..media::Facts::unknown(media_type) }, &&bytes[..])
        }
        Work::RenderPicture => {
            let limits = limits.of_stored();
            let bytes = input.read_whole(&limits)?;
            let header = Header::read(&bytes, &limits.pictures())?;
            let stop = admit(header.weight(&spec))?;
            Ok(finished(pictures::render(&bytes, &header, &spec, &stop)?))
        }
        Work::Posters => {
            let limits = limits.of_stored();
            let bytes = input.read_whole(&limits)?;
            let header = Header::read(&bytes, &limits.pictures())?;
            let stop = admit(header.weight(&posters::COVER))?;
            let pixels = pictures::decode_srgb(&bytes, &header, &posters::COVER, &stop)?;
            drop(bytes);
            Ok(Pictures::render(pixels, header.orientation).into())
        }
        Work::Probe => {
            let source = input.source();
            facts(&media::probe(source, media_type?)?, source)
        }
        Work::Describe => {
            let source = input.source();
            facts(&media::describe(source, media_type?, limits.of_stored().picture_bytes), source)
        }
        Work::RenderVideo => with_poster(&input, limits, &mut admit, |frame, orientation| {
            finished(fit::render_webp(frame, orientation, &spec))
        }),
        Work::VideoPosters => {
            with_poster(&input, limits, &mut admit, |frame, orientation| Pictures::render(frame, orientation).into())
        }
        Work::RenderFrame => {
            let frame = input.into_frame(order)?;
            admit(frame.bytes.len() as u64 * 2 + (40 << 20))?;
            Ok(finished(fit::render_webp(frame, Orientation::Upright, &spec)))
        }
        Work::FramePosters => {
            let frame = input.into_frame(order)?;
            admit(frame.bytes.len() as u64 * 2)?;
            Ok(Pictures::render(frame, Orientation::Upright).into())
        }
    }
}

fn with_poster(
    input: &Input,
    limits: &Limits,
    admit: &mut dyn FnMut(u64) -> Result<Stop, Reason>,
    make: impl FnOnce(Pixels, Orientation) -> Done,
) -> Result<Done, Reason> {
    let source = input.source();
    let index = Index::found(source);
    let video = frames::open_file(&index, source, &limits.videos())?;
    // The largest thumbnail's encoding comes when the frames are gone still in part.
    let stop = admit(video.weight() + (40 << 20))?;
    let poster = video.poster(&stop)?;
    Ok(make(poster.pixels, poster.orientation))
}

impl Input {
    fn source(&self) -> &dyn Source {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::File(file) => file,
        }
    }

    /// A picture's bytes.
    fn read_whole(self, limits: &Limits) -> Result<Vec<u8>, Reason> {
        let length = self.source().length();
        if length > limits.picture_bytes {
            return Err(pictures::Refused::TooManyBytes { bytes: length, limit: limits.picture_bytes }.into());
        }
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::File(file) => {
                let mut bytes = vec![0; usize::try_from(length).map_err(unreadable)?];
                let read = file.read_at(0, &mut bytes).map_err(unreadable)?;
                bytes.truncate(read);
                Ok(bytes)
            }
        }
    }

    /// Pixels in RGB of the size that the order states.
    fn into_frame(self, order: &Order) -> Result<Pixels, Reason> {
        let (width, height) = (order.frame_width, order.frame_height);
        match self {
            Self::Bytes(bytes)
                if bytes.len() as u64 == u64::from(width) * u64::from(height) * 3 && width * height > 0 =>
            {
                Ok(Pixels { width, height, layout: Layout::Rgb, bytes })
            }
            _ => Err(unreadable("a frame has another size than was said")),
        }
    }
}

fn facts(facts: &media::Facts, source: &dyn Source) -> Result<Done, Reason> {
    let c2pa = media::has_c2pa(source, facts.media_type).map_err(unreadable)?;
    let media::Facts { media_type, width, height, duration, frame_rate, audio } = *facts;
    // Nobody has pictures of so many pixels: a file that states them states nothing.
    let (width, height) = if i32::try_from(width.max(height)).is_ok() { (width, height) } else { (0, 0) };
    let media_type = number_of(media_type);
    let duration_ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let facts = Facts { media_type, width, height, duration_ns, frame_rate, audio, c2pa };
    Ok(Done { facts: Some(facts), ..Done::default() })
}

fn finished(webp: Vec<u8>) -> Done {
    Done { files: vec![Finished { webp, width: 0, height: 0 }], ..Done::default() }
}

impl From<Pictures> for Done {
    fn from(pictures: Pictures) -> Self {
        let sized = |Sized { webp, width, height }| Finished { webp, width, height };
        let square = Finished { webp: pictures.square, width: 0, height: 0 };
        let files = vec![square, sized(pictures.large), sized(pictures.small)];
        Self { files, thumbhash: pictures.thumbhash, facts: None }
    }
}

impl From<media::Error> for Reason {
    fn from(error: media::Error) -> Self {
        match error {
            media::Error::Refused(refused) => Self::Media(refused),
            media::Error::Io(error) => unreadable(error),
        }
    }
}

fn unreadable(error: impl std::fmt::Display) -> Reason {
    Reason::Unreadable(error.to_string())
}
