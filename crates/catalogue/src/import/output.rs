//! Where a result has its outputs, and what they are.

use domain::provider::Provider;
use serde_json::{Map, Value};

use super::{field, names};
use crate::document::Document;
use crate::{Kind, MediaKind};

/// Where a result has its outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// As a JSON pointer; `None`: the whole result.
    pub at: Option<String>,
    /// What they are; empty where nothing tells it.
    pub kinds: Vec<MediaKind>,
}

/// Fields of results by what is in them, the most usual first.
const FIELDS: [(MediaKind, &[&str]); 3] = [
    (MediaKind::Video, &["video", "videos", "output_video", "video_url"]),
    (MediaKind::Image, &["images", "image", "output_image", "image_url"]),
    (MediaKind::Audio, &["audio", "audio_file", "audio_url", "audios", "speech"]),
];

impl Output {
    pub(super) fn guess(document: &Document, kind: Kind) -> Self {
        let kinds = documented(document);
        let made = match kind {
            Kind::TextToVideo | Kind::ImageToVideo | Kind::VideoToVideo | Kind::LipSync => MediaKind::Video,
            Kind::TextToImage | Kind::ImageToImage => MediaKind::Image,
            Kind::Speech => MediaKind::Audio,
            Kind::Upscale => kinds.first().copied().unwrap_or(MediaKind::Video),
        };
        let Some(properties) = properties(document) else {
            // A text that is an address, or a list of them: what it is only the kind tells.
            return Self { at: None, kinds: vec![made] };
        };
        let mut fields = FIELDS;
        fields.sort_by_key(|(kind, _)| *kind != made);
        for (kind, names) in fields {
            if let Some(name) = names.iter().find(|name| properties.get(**name).is_some_and(has_file)) {
                return Self { at: Some(format!("/{name}")), kinds: vec![kind] };
            }
        }
        // Sound that is taken apart, and the like: the first file by whatever name.
        let other = properties
            .iter()
            .filter(|(name, schema)| !names::is_no_medium(name) && is_object(schema) && has_file(schema));
        let place = |schema: &Value| schema.get("x-order").and_then(Value::as_u64).unwrap_or(u64::MAX);
        match other.min_by_key(|(name, schema)| (place(schema), name.to_owned())) {
            Some((name, _)) => Self { at: Some(format!("/{name}")), kinds: vec![made] },
            None => Self::default(),
        }
    }
}

/// Names of fields in which results say whether outputs were flagged, with what they are flagged as.
const MODERATION: [(&str, &str); 5] = [
    ("has_nsfw_concepts", "nsfw"),
    ("nsfw_content_detected", "nsfw"),
    ("nsfw_detected", "nsfw"),
    ("nsfw", "nsfw"),
    ("moderation_flagged", "moderation"),
];

/// The fields in which a result says whether outputs were flagged, as pointers into the whole answer, and what as.
pub(super) fn moderation(document: &Document) -> Vec<(String, &'static str)> {
    let Some(properties) = properties(document) else { return Vec::new() };
    // Where the answer is more than the result.
    let within = if matches!(document.provider, Provider::Replicate | Provider::Cog) { "/output" } else { "" };
    let says = |schema: &Value| {
        let Some(schema) = schema.as_object() else { return false };
        field::branches(schema).into_iter().any(|node| {
            let items = node.get("items").and_then(Value::as_object);
            field::has_type(node, "boolean") || items.is_some_and(|items| field::has_type(items, "boolean"))
        })
    };
    let found = MODERATION.iter().filter(|(name, _)| properties.get(*name).is_some_and(says));
    found.map(|(name, category)| (format!("{within}/{name}"), *category)).collect()
}

/// Whether a field of a result is an object, or a list of them: a text by an unknown name is no address.
fn is_object(schema: &Value) -> bool {
    let Some(schema) = schema.as_object() else { return false };
    field::branches(schema).into_iter().any(|node| {
        let node = node.get("items").and_then(Value::as_object).unwrap_or(node);
        field::branches(node).into_iter().any(|node| node.contains_key("properties"))
    })
}

/// The kinds of files that a result says it has.
pub(super) fn documented(document: &Document) -> Vec<MediaKind> {
    let Some(properties) = properties(document) else { return Vec::new() };
    let has = |names: &[&str]| names.iter().any(|name| properties.get(*name).is_some_and(has_file));
    FIELDS.iter().filter(|(_, names)| has(names)).map(|(kind, _)| *kind).collect()
}

fn properties(document: &Document) -> Option<&Map<String, Value>> {
    if document.provider == Provider::OpenRouter {
        return None;
    }
    document.output.as_ref()?.get("properties")?.as_object()
}

/// Whether a field of a result is a file, or a list of them: an object with an address, or an address.
fn has_file(schema: &Value) -> bool {
    let Some(schema) = schema.as_object() else { return false };
    field::branches(schema).into_iter().any(|node| {
        let node = node.get("items").and_then(Value::as_object).unwrap_or(node);
        let node = field::branches(node).into_iter().find(|node| !field::has_type(node, "null")).unwrap_or(node);
        field::has_type(node, "string") || node.get("properties").is_some_and(|of| of.get("url").is_some())
    })
}
