//! WebM: whole where no element reaches beyond the file.

use super::facts::{Facts, of_video};
use crate::formats::{Error, Refused, Type, damaged};
use crate::source::Source;
use crate::videos::webm::Contents;

pub(super) fn probe(source: &dyn Source) -> Result<Facts, Error> {
    let media_type = Type::Webm;
    let contents = Contents::read(source)?;
    let unsupported = |detail: &str| Refused::Unsupported { media_type, detail: detail.to_owned() };
    if contents.is_endless() {
        return Err(damaged(media_type, "it has more elements than any video needs").into());
    }
    if contents.is_cut() {
        return Err(Refused::Truncated { media_type }.into());
    }
    if !contents.is_webm() {
        return Err(unsupported("it is another Matroska").into());
    }
    let video = contents.facts().ok_or_else(|| unsupported("it has no video track"))?;
    if !contents.has_blocks() {
        return Err(Refused::Truncated { media_type }.into());
    }
    Ok(of_video(media_type, &video))
}
