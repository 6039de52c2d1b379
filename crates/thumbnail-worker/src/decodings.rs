//! The kinds of work that decoders do, as calls of the pool.
//!
//! Invariant: what a decoder answers is held against what was asked before anybody uses it: a file may have taken the decoder over.

use std::time::Duration;

use crate::decode_pool::{DecodePool, Error, Input, Reason};
use crate::media::{Class, Facts, Type};
use crate::model::Spec;
use crate::pictures::{Layout, Pixels};
use crate::posters::{Pictures, Sized};
use crate::protocol::{Done, Finished, Order, Work, number_of, type_of};

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Its type, size, length and sound.
    pub facts: Facts,
    /// Whether it carries a C2PA manifest.
    pub c2pa: bool,
}

/// The end of work: a result, or the reason in the file why there is none.
type Ended<T> = Result<Result<T, Reason>, Error>;

impl DecodePool {
    /// Decodes a picture to see that it is whole, and says what it says of itself.
    ///
    /// # Errors
    /// [`Error`] when the work was not done.
    pub async fn check_picture(&self, input: &Input) -> Ended<Measured> {
        measured(self.run(self.order(Work::CheckPicture, Spec::default()), input).await?)
    }

    /// Renders a picture as a WebP file of `spec`.
    ///
    /// # Errors
    /// [`Error`] when the work was not done.
    pub async fn render_picture(&self, input: &Input, spec: Spec) -> Ended<Vec<u8>> {
        first(self.run(self.order(Work::RenderPicture, spec), input).await?)
    }

    /// Renders the pictures that stand for a picture.
    pub(crate) async fn render_picture_posters(&self, input: &Input) -> Ended<Pictures> {
        pictures(self.run(self.order(Work::Posters, Spec::default()), input).await?)
    }

    /// Reads what a video or a sound says of itself, and whether it is whole.
    ///
    /// # Errors
    /// [`Error`] when the work was not done.
    pub async fn probe(&self, input: &Input, media_type: Type) -> Ended<Measured> {
        let order = Order { media_type: number_of(media_type), ..self.order(Work::Probe, Spec::default()) };
        measured(self.run(order, input).await?)
    }

    /// Reads what any file says of itself, whether it is whole or not.
    ///
    /// # Errors
    /// [`Error`] when the work was not done.
    pub async fn describe(&self, input: &Input, media_type: Type) -> Ended<Measured> {
        let order = Order { media_type: number_of(media_type), ..self.order(Work::Describe, Spec::default()) };
        measured(self.run(order, input).await?)
    }

    /// Finds the frame that stands for a video and renders it as a WebP file of `spec`.
    ///
    /// # Errors
    /// [`Error`] when the work was not done.
    pub async fn render_video(&self, input: &Input, spec: Spec) -> Ended<Vec<u8>> {
        first(self.run(self.order(Work::RenderVideo, spec), input).await?)
    }

    /// Finds the frame that stands for a video and renders the pictures of it.
    pub(crate) async fn render_video_posters(&self, input: &Input) -> Ended<Pictures> {
        pictures(self.run(self.order(Work::VideoPosters, Spec::default()), input).await?)
    }

    /// Renders a frame that another program has decoded as a WebP file of `spec`.
    pub(crate) async fn render_frame(&self, frame: Pixels, spec: Spec) -> Ended<Vec<u8>> {
        let (order, input) = self.frame(Work::RenderFrame, spec, frame);
        first(self.run(order, &input).await?)
    }

    /// Renders the pictures of a frame that another program has decoded.
    pub(crate) async fn render_frame_posters(&self, frame: Pixels) -> Ended<Pictures> {
        let (order, input) = self.frame(Work::FramePosters, Spec::default(), frame);
        pictures(self.run(order, &input).await?)
    }

    fn order(&self, work: Work, spec: Spec) -> Order {
        let Spec { width, height, quality } = spec;
        Order { work: work.into(), width, height, quality: quality.into(), limits: self.limits(), ..Order::default() }
    }

    fn frame(&self, work: Work, spec: Spec, frame: Pixels) -> (Order, Input) {
        debug_assert_eq!(frame.layout, Layout::Rgb, "the only layout that frames come in");
        let order = Order { frame_width: frame.width, frame_height: frame.height, ..self.order(work, spec) };
        (order, Input::Bytes(frame.bytes.into()))
    }
}

fn measured(done: Result<Done, Reason>) -> Ended<Measured> {
    let done = match done {
        Ok(done) => done,
        Err(reason) => return Ok(Err(reason)),
    };
    let facts = done.facts.as_ref().and_then(|facts| Some((facts, type_of(facts.media_type)?)));
    let (facts, media_type) = facts.ok_or_else(unexpected)?;
    let is_sound = media_type.class() == Class::Sound;
    let (width, height) = if is_sound { (0, 0) } else { (facts.width, facts.height) };
    // Columns of the database hold no more, and no number but a real one.
    if i32::try_from(width.max(height)).is_err() || !facts.frame_rate.is_finite() {
        return Err(unexpected());
    }
    let (duration, frame_rate) = (Duration::from_nanos(facts.duration_ns), facts.frame_rate);
    let audio = facts.audio;
    Ok(Ok(Measured { facts: Facts { media_type, width, height, duration, frame_rate, audio }, c2pa: facts.c2pa }))
}

fn first(done: Result<Done, Reason>) -> Ended<Vec<u8>> {
    match done {
        Ok(done) => done.files.into_iter().next().and_then(checked).map(|file| Ok(file.webp)).ok_or_else(unexpected),
        Err(reason) => Ok(Err(reason)),
    }
}

fn pictures(done: Result<Done, Reason>) -> Ended<Pictures> {
    let Done { files, thumbhash, .. } = match done {
        Ok(done) => done,
        Err(reason) => return Ok(Err(reason)),
    };
    let files: Vec<Finished> = files.into_iter().filter_map(checked).collect();
    let [square, large, small] = <[Finished; 3]>::try_from(files).map_err(|_| unexpected())?;
    if thumbhash.len() > 64
        || [&large, &small].into_iter().any(|file| !(1..=1_024).contains(&file.width.max(file.height)))
    {
        return Err(unexpected());
    }
    let sized = |Finished { webp, width, height }| Sized { webp, width, height };
    Ok(Ok(Pictures { square: square.webp, large: sized(large), small: sized(small), thumbhash }))
}

/// A file that is what it is to be: it goes out to browsers as WebP.
fn checked(file: Finished) -> Option<Finished> {
    (file.webp.starts_with(b"RIFF") && file.webp.get(8..12) == Some(b"WEBP")).then_some(file)
}

fn unexpected() -> Error {
    Error::Panicked("the decoder's answer is none to what was asked".to_owned())
}
