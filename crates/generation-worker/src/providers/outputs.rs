//! Where in a provider's answer the output lies. Models answer in many shapes: an address, a list, an object, the bytes as text.
//!
//! Invariant: only what is an address or a `data:` URI is one, so that a shape that is not understood is an output that is
//! missing, and never a request to somewhere.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;

/// The endings of videos' addresses.
const VIDEO_ENDINGS: [&str; 4] = [".mp4", ".webm", ".mov", ".m4v"];

/// The address of the output in `answer`: at `pointer`, where the catalogue has one, else the first video, else the first address.
pub(super) fn find(answer: &Value, pointer: Option<&str>) -> Option<String> {
    let answer = match pointer {
        Some(pointer) => answer.pointer(pointer)?,
        None => answer,
    };
    let mut found = Vec::new();
    collect(answer, false, &mut found);
    let first = found.iter().position(|(_, video)| *video).unwrap_or_default();
    found.into_iter().nth(first).map(|(address, _)| address)
}

/// All addresses in a value, in order, each with whether it is a video's, by its type, its ending or the field that it is in.
fn collect(value: &Value, in_video: bool, found: &mut Vec<(String, bool)>) {
    match value {
        Value::String(text) if is_address(text) => {
            let path = text.split(['?', '#']).next().unwrap_or_default().to_ascii_lowercase();
            let video = in_video
                || path.starts_with("data:video/")
                || (!path.starts_with("data:") && VIDEO_ENDINGS.iter().any(|ending| path.ends_with(ending)));
            found.push((text.clone(), video));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, in_video, found)),
        Value::Object(fields) => {
            let of_type = fields.get("content_type").and_then(Value::as_str);
            for (name, field) in fields {
                let video = match of_type {
                    Some(kind) => kind.starts_with("video/"),
                    None => in_video || name.starts_with("video"),
                };
                collect(field, video, found);
            }
        }
        Value::String(_) | Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
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
mod tests {
    use serde_json::json;

    use super::*;

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
            assert_eq!(find(&answer, None).as_deref(), Some(url), "{answer}");
        }
        let plain = json!({"video": {"url": "https://v3.fal.media/file", "content_type": "video/mp4"}, "a": picture});
        assert_eq!(find(&plain, None).as_deref(), Some("https://v3.fal.media/file"));
        assert_eq!(find(&json!(picture), None).as_deref(), Some(picture), "a file that may be a video all the same");
        for none in [json!(null), json!({}), json!([]), json!("out.mp4"), json!(7), json!({"video": null})] {
            assert_eq!(find(&none, None), None, "{none}");
        }
    }

    #[test]
    fn the_catalogue_says_where_the_output_lies() {
        let answer = json!({"result": {"low": "https://a/low.mp4", "high": "https://a/high.mp4"}});
        assert_eq!(find(&answer, Some("/result/high")).as_deref(), Some("https://a/high.mp4"));
        assert_eq!(find(&answer, Some("/result/none")), None);
    }

    #[test]
    fn data_is_decoded_and_anything_else_is_not() {
        assert_eq!(decode_data("video/mp4;base64,AAEC").as_deref(), Some(&[0, 1, 2][..]));
        for none in ["video/mp4,AAEC", "video/mp4;base64", "video/mp4;base64,?", ""] {
            assert_eq!(decode_data(none), None, "{none}");
        }
    }
}
