//! MP4 and QuickTime: whole where its boxes fill the file and its tables lead to nothing beyond it.

use super::facts::{Facts, of_video, sound};
use crate::formats::{Container, Error, Index, Refused, Type, damaged};
use crate::source::Source;
use crate::videos::mp4::Movie;
use crate::videos::{Missing, movie_facts};

pub(super) fn probe(source: &dyn Source, media_type: Type) -> Result<Facts, Error> {
    let Index { movie, fragments } = Index::read(source, media_type)?;
    let movie = movie.ok_or_else(|| damaged(media_type, "it has no index (moov)"))?;
    let movie = Movie::read(&movie, &fragments);
    if movie.elsewhere {
        return Err(
            Refused::Unsupported { media_type, detail: "its frames or its sound lie in another file".into() }.into()
        );
    }
    let container = if media_type == Type::Mov { Container::Mov } else { Container::Mp4 };
    let unsupported = |detail: &str| Refused::Unsupported { media_type, detail: detail.to_owned() };
    let facts = match (media_type, &movie.video, movie.sound) {
        (Type::M4a, _, Some(duration)) | (Type::Mp4, Err(Missing::NoTrack), Some(duration)) => {
            sound(Type::M4a, duration)
        }
        (Type::M4a, _, None) => return Err(unsupported("it has no sound").into()),
        (_, Err(Missing::Damaged(detail)), _) => return Err(damaged(media_type, detail.clone()).into()),
        _ => match movie_facts(container, &movie) {
            Some(video) => of_video(media_type, &video),
            None => return Err(unsupported("it has no video track").into()),
        },
    };
    match movie.end {
        Some(end) if end > source.length() => Err(Refused::Truncated { media_type: facts.media_type }.into()),
        None => Err(damaged(media_type, "its sample table is not whole").into()),
        Some(_) => Ok(facts),
    }
}
