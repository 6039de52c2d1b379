//! What a model does: as its provider says, else by what it takes and makes.

use super::field::Field;
use super::names;
use super::output;
use crate::document::Document;
use crate::{Kind, MediaKind, Role};

pub(super) fn guess(document: &Document, fields: &[Field]) -> Kind {
    let category = match document.category.as_deref() {
        Some("text-to-video") => Some(Kind::TextToVideo),
        Some("image-to-video") => Some(Kind::ImageToVideo),
        Some("video-to-video") => Some(Kind::VideoToVideo),
        Some("text-to-image") => Some(Kind::TextToImage),
        Some("image-to-image") => Some(Kind::ImageToImage),
        Some("text-to-speech" | "text-to-audio" | "speech-to-speech" | "audio-to-audio") => Some(Kind::Speech),
        Some("audio-to-video") => Some(Kind::LipSync),
        _ => None,
    };
    let name = document.model.to_ascii_lowercase();
    let takes = |role: Role| {
        let of = |field: &&Field| field.is_file() && names::role(field.name, field.items().is_some()) == Some(role);
        fields.iter().find(of).map(|field| field.required)
    };
    if name.contains("upscale") {
        return Kind::Upscale;
    }
    // A face, or a film of one, and a voice.
    let video = category.is_none_or(|kind| matches!(kind, Kind::TextToVideo | Kind::ImageToVideo | Kind::VideoToVideo));
    if video
        && takes(Role::Audio) == Some(true)
        && fields.iter().any(|field| field.required && field.is_file() && !is_audio(field))
    {
        return Kind::LipSync;
    }
    // A text-to-video model that must have a picture is none.
    let needs_picture = takes(Role::FirstFrame) == Some(true) || takes(Role::Reference) == Some(true);
    match category {
        Some(Kind::TextToVideo) if takes(Role::Source) == Some(true) => return Kind::VideoToVideo,
        Some(Kind::TextToVideo) if needs_picture => return Kind::ImageToVideo,
        Some(kind) => return kind,
        None => {}
    }
    let frames = fields.iter().any(|field| !super::media::frames(field).is_empty());
    let picture = frames || takes(Role::FirstFrame).or_else(|| takes(Role::Reference)).is_some();
    match output::documented(document).first() {
        Some(MediaKind::Audio) => Kind::Speech,
        Some(MediaKind::Image) if picture => Kind::ImageToImage,
        Some(MediaKind::Image) => Kind::TextToImage,
        _ if takes(Role::Source) == Some(true) => Kind::VideoToVideo,
        _ if picture => Kind::ImageToVideo,
        _ => Kind::TextToVideo,
    }
}

fn is_audio(field: &Field) -> bool {
    names::role(field.name, false) == Some(Role::Audio)
}
