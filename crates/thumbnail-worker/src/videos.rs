//! Videos: what a file states of itself, and the frame that is its poster.
//!
//! Invariant: a video without a usable picture is no error but [`Missing`], which says why in one sentence; a hostile one costs
//! at most what [`Limits`] say, because sizes are read and checked before the decoder sees a byte.

mod appearance;
mod brightness;
mod chooser;
mod colour;
pub mod frames;
mod light;
mod missing;
pub mod mp4;
mod shape;
mod sps;
mod units;
pub(crate) mod webm;

use crate::formats::{Index, Type};
use crate::source::Source;
use mp4::Track;
use sps::Sps;

pub use crate::formats::Container;
pub(crate) use appearance::Appearance;
pub(crate) use brightness::luma_of;
pub(crate) use chooser::Chooser;
pub(crate) use colour::{ColourDescription, UNKNOWN};
pub use frames::Limits;
pub(crate) use light::ToSrgb;
pub use missing::Missing;
pub use shape::Facts;
pub(crate) use shape::display_size;

/// Reads what a file states of itself; nothing for a file that is no video.
#[must_use]
pub fn facts(bytes: &[u8]) -> Option<Facts> {
    facts_of(&Index::found(&bytes), &bytes)
}

/// Reads what a file with this index states of itself; nothing for a file that is no video.
pub(crate) fn facts_of(index: &Index, source: &dyn Source) -> Option<Facts> {
    let container = container_of(source)?;
    // A file that these parsers cannot read may be one that ffmpeg can: it is a video all the same.
    let facts = match container {
        Container::Mp4 | Container::Mov => {
            index.movie.as_ref().and_then(|movie| movie_facts(container, &mp4::Movie::read(movie, &index.fragments)))
        }
        Container::Webm => webm::Contents::read(source).ok().and_then(|contents| contents.facts()),
    };
    Some(facts.unwrap_or_else(|| Facts::unknown(container)))
}

/// The container by a file's first bytes.
pub(crate) fn container_of(source: &dyn Source) -> Option<Container> {
    let mut head = [0; Type::SNIFFED];
    let read = source.read_at(0, &mut head).ok()?;
    Container::sniff(&head[..read])
}

/// What an index states of its video; nothing when there is none that can be read.
pub(crate) fn movie_facts(container: Container, movie: &mp4::Movie<'_>) -> Option<Facts> {
    let track = movie.video.as_ref().ok()?;
    let parameters = track.avc.iter().flat_map(|avc| &avc.parameter_sets);
    let stated =
        track.pixel_aspect.or_else(|| parameters.filter_map(|unit| Sps::read(unit)).find_map(|sps| sps.pixel_aspect));
    let (width, height) = display_size(track.width, track.height, stated);
    let (width, height) = track.orientation.turned(width, height);
    let &Track { duration, orientation, .. } = track;
    let (frame_rate, audio) = (movie.frame_rate, movie.sound.is_some());
    Some(Facts { container, width, height, duration, orientation, frame_rate, audio })
}
