//! Where in a provider's answer the outputs lie. Models answer in many shapes: an address, a list, an object, the bytes as text.
//!
//! Invariant: only what is an address or a `data:` URI is one, so that a shape that is not understood is an output that is
//! missing, and never a request to somewhere. What is said of a file here only chooses between several: its bytes decide.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;

use crate::model::{MediaKind, Order};

/// The endings of addresses that say what lies there.
const ENDINGS: [(&str, MediaKind); 13] = [
    (".mp4", MediaKind::Video),
    (".webm", MediaKind::Video),
    (".mov", MediaKind::Video),
    (".m4v", MediaKind::Video),
    (".png", MediaKind::Image),
    (".jpg", MediaKind::Image),
    (".jpeg", MediaKind::Image),
    (".webp", MediaKind::Image),
    (".gif", MediaKind::Image),
    (".wav", MediaKind::Audio),
    (".mp3", MediaKind::Audio),
    (".m4a", MediaKind::Audio),
    (".ogg", MediaKind::Audio),
];
/// The beginnings of fields' names that say what lies there.
const FIELDS: [(&str, MediaKind); 6] = [
    ("video", MediaKind::Video),
    ("image", MediaKind::Image),
    ("thumbnail", MediaKind::Image),
    ("cover", MediaKind::Image),
    ("mask", MediaKind::Image),
    ("audio", MediaKind::Audio),
];

/// An address, and what lies there as far as it is said.
struct Found {
    address: String,
    kind: Option<MediaKind>,
}

/// The addresses of an order's outputs in `answer`, at most as many as there may be: below the order's pointer, where it has one.
/// Of several those of the ordered kinds, else those of which nothing is said, else all.
pub(super) fn find(answer: &Value, order: &Order) -> Vec<String> {
    let answer = match &order.output {
        Some(pointer) => answer.pointer(pointer),
        None => Some(answer),
    };
    let mut found = Vec::new();
    if let Some(answer) = answer {
        collect(answer, None, &mut found);
    }
    let ordered = |file: &Found| file.kind.is_some_and(|kind| order.output_kinds.contains(&kind));
    let unsaid = |file: &Found| file.kind.is_none();
    if found.iter().any(ordered) {
        found.retain(ordered);
    } else if found.iter().any(unsaid) {
        found.retain(unsaid);
    }
    let mut addresses: Vec<String> = Vec::new();
    for file in found {
        // Some models name their output twice.
        if !addresses.contains(&file.address) {
            addresses.push(file.address);
        }
    }
    addresses.truncate(order.max_outputs);
    addresses
}

/// All addresses in a value, in order, each with its kind by its type, its ending or the field that it is in.
fn collect(value: &Value, within: Option<MediaKind>, found: &mut Vec<Found>) {
    match value {
        Value::String(text) if is_address(text) => {
            let kind = kind_of_address(text).or(within);
            found.push(Found { address: text.clone(), kind });
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, within, found)),
        Value::Object(fields) => {
            let of_type = fields.get("content_type").and_then(Value::as_str).and_then(MediaKind::of);
            for (name, field) in fields {
                let named = FIELDS.iter().find(|(beginning, _)| name.starts_with(beginning)).map(|(_, kind)| *kind);
                // The type is that of the object's own address, not of what lies beside it.
                let kind = if name == "url" { of_type.or(within) } else { named.or(of_type).or(within) };
                collect(field, kind, found);
            }
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn kind_of_address(text: &str) -> Option<MediaKind> {
    if let Some(data) = text.strip_prefix("data:") {
        return MediaKind::of(data.split([';', ',']).next()?);
    }
    let path = text.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
    ENDINGS.iter().find(|(ending, _)| path.ends_with(ending)).map(|(_, kind)| *kind)
}

fn is_address(text: &str) -> bool {
    ["https://", "http://", "data:"].iter().any(|scheme| text.starts_with(scheme))
}

/// The bytes of a `data:` URI, without its scheme: `video/mp4;base64,AAAA`.
pub(super) fn decode_data(data: &str) -> Option<Bytes> {
    let (head, body) = data.split_once(',')?;
    head.ends_with(";base64").then(|| STANDARD.decode(body.trim()).ok())?.map(Bytes::from)
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    pub(in super::super) fn order(kind: MediaKind, max_outputs: usize, output: Option<&str>) -> Order {
        Order {
            key: uuid::Uuid::nil(),
            provider: "test".to_owned(),
            model: "acme/model".to_owned(),
            input: serde_json::Map::new(),
            files: Vec::new(),
            output: output.map(str::to_owned),
            refusals: Vec::new(),
            moderation: Vec::new(),
            unasked: Vec::new(),
            output_kinds: vec![kind],
            max_outputs,
            max_run_time: None,
        }
    }

    fn video(answer: &Value) -> Vec<String> {
        find(answer, &order(MediaKind::Video, 1, None))
    }

    #[test]
    fn an_output_is_found_in_every_shape() {
        let (url, picture) = ("https://replicate.delivery/x/out.mp4?sig=1", "https://replicate.delivery/x/cover.png");
        for answer in [
            json!(url),
            json!([url]),
            json!([picture, url]),
            json!({"video": url, "cover": picture}),
            json!({"cover": picture, "files": [{"url": url}]}),
            json!({"video": {"url": url, "content_type": "video/mp4"}, "thumbnail": {"url": picture}}),
            json!({"a": {"url": picture, "content_type": "image/png"}, "b": {"url": url, "content_type": "video/mp4"}}),
            json!({"videos": [{"url": url}]}),
        ] {
            assert_eq!(video(&answer), [url], "{answer}");
        }
        let plain = json!({"video": {"url": "https://v3.fal.media/file", "content_type": "video/mp4"}, "a": picture});
        assert_eq!(video(&plain), ["https://v3.fal.media/file"]);
        assert_eq!(video(&json!(picture)), [picture], "a file that may be a video all the same");
        for none in [json!(null), json!({}), json!([]), json!("out.mp4"), json!(7), json!({"video": null})] {
            assert_eq!(video(&none), [""; 0], "{none}");
        }
    }

    #[test]
    fn several_outputs_come_in_their_order_as_many_as_may_be_and_of_the_ordered_kind() {
        let still = |name: &str| format!("https://a.test/{name}.png");
        let answer = json!({"images": [{"url": still("1")}, {"url": still("2")}, {"url": still("3")}], "seed": 1});
        assert_eq!(find(&answer, &order(MediaKind::Image, 2, None)), [still("1"), still("2")]);
        assert_eq!(find(&answer, &order(MediaKind::Image, 4, Some("/images"))).len(), 3);
        assert_eq!(find(&answer, &order(MediaKind::Image, 4, Some("/images/1"))), [still("2")]);
        let mixed = json!({
            "video": {"url": "https://a.test/v", "content_type": "video/mp4", "thumbnail": "https://a.test/t"},
            "audio": {"url": "https://a.test/s"},
        });
        assert_eq!(find(&mixed, &order(MediaKind::Video, 4, None)), ["https://a.test/v"]);
        assert_eq!(find(&mixed, &order(MediaKind::Audio, 4, None)), ["https://a.test/s"]);
        assert_eq!(find(&mixed, &order(MediaKind::Image, 4, None)), ["https://a.test/t"]);
        let twice = json!(["https://a.test/1.png", "https://a.test/1.png"]);
        assert_eq!(find(&twice, &order(MediaKind::Image, 4, None)).len(), 1);
    }

    #[test]
    fn the_order_says_where_the_output_lies() {
        let answer = json!({"result": {"low": "https://a/low.mp4", "high": "https://a/high.mp4"}});
        let at = |pointer| find(&answer, &order(MediaKind::Video, 4, Some(pointer)));
        assert_eq!(at("/result/high"), ["https://a/high.mp4"]);
        assert!(at("/result/none").is_empty());
    }

    #[test]
    fn data_is_decoded_and_anything_else_is_not() {
        assert_eq!(decode_data("video/mp4;base64,AAEC").as_deref(), Some(&[0, 1, 2][..]));
        for none in ["video/mp4,AAEC", "video/mp4;base64", "video/mp4;base64,?", ""] {
            assert_eq!(decode_data(none), None, "{none}");
        }
    }
}
