//! What a model's input is held against: its schema, as far as the double reads one, and the files that it names.
//!
//! Invariant: a field that the model does not have is dropped, as the real ones do, and written down; a file that cannot be had, by
//! whichever of the three ways it is given, is refused as the real ones refuse it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::order::{Given, Wrong};
use crate::uploads::Uploads;

/// The fields of an input that a model does not have.
pub(crate) fn stray(schema: &Value, input: &Value) -> Vec<String> {
    let Some(properties) = schema["properties"].as_object() else { return Vec::new() };
    let fields = input.as_object().into_iter().flat_map(|input| input.keys());
    fields.filter(|name| !properties.contains_key(*name)).cloned().collect()
}

/// The first field that is missing or has a value that the schema does not allow.
pub(crate) fn wrong(schema: &Value, input: &Value) -> Option<Wrong> {
    let wrong = |field: &str, message: &str| Some(Wrong { field: field.to_owned(), message: Some(message.to_owned()) });
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    if let Some(field) = required.into_iter().find(|field| input[*field].is_null()) {
        return wrong(field, "Field required");
    }
    for (field, value) in input.as_object()? {
        let rule = &schema["properties"][field];
        let fits = match rule["type"].as_str() {
            Some("string") => value.is_string(),
            Some("integer") => value.is_i64() || value.is_u64(),
            Some("number") => value.is_number(),
            Some("boolean") => value.is_boolean(),
            Some("array") => value.is_array(),
            Some("object") => value.is_object(),
            _ => true,
        };
        let number = value.as_f64();
        let above = rule["minimum"].as_f64().zip(number).is_none_or(|(minimum, value)| value >= minimum);
        let below = rule["maximum"].as_f64().zip(number).is_none_or(|(maximum, value)| value <= maximum);
        let listed = rule["enum"].as_array().is_none_or(|values| values.contains(value));
        if !(fits && above && below && listed) {
            return wrong(field, "Input is not one of the values that are allowed");
        }
    }
    None
}

/// Every file that an input names, fetched.
pub(crate) async fn files(input: &Value, uploads: &Uploads, client: &reqwest::Client) -> Result<Vec<Given>, Wrong> {
    let mut addresses = Vec::new();
    collect(input, &mut String::new(), &mut addresses);
    let mut given = Vec::new();
    for (pointer, address) in addresses {
        let (form, bytes) = if let Some(data) = address.strip_prefix("data:") {
            ("data", decode(data))
        } else if let Some((_, name)) = address.split_once("/uploads/") {
            ("upload", uploads.get(name))
        } else {
            ("url", fetch(client, &address).await)
        };
        let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else {
            let field = pointer.split('/').nth(1).unwrap_or_default().to_owned();
            return Err(Wrong { field, message: Some("Failed to download the file.".to_owned()) });
        };
        given.push(Given { pointer, form: form.to_owned(), sha256: hex::encode(Sha256::digest(&bytes)) });
    }
    Ok(given)
}

/// The input as it is written down: without the bytes of files, and without addresses that are signed.
pub(crate) fn redacted(input: &Value) -> Value {
    match input {
        Value::String(text) if is_address(text) => {
            let head = text.split([',', '?']).next().unwrap_or_default();
            Value::String(head.chars().take(60).collect::<String>() + "…")
        }
        Value::Array(items) => items.iter().map(redacted).collect(),
        Value::Object(fields) => fields.iter().map(|(name, field)| (name.clone(), redacted(field))).collect(),
        other => other.clone(),
    }
}

fn collect(value: &Value, pointer: &mut String, found: &mut Vec<(String, String)>) {
    let length = pointer.len();
    let mut below = |step: &str, value: &Value| {
        pointer.push('/');
        pointer.push_str(step);
        collect(value, pointer, found);
        pointer.truncate(length);
    };
    match value {
        Value::Array(items) => items.iter().enumerate().for_each(|(at, item)| below(&at.to_string(), item)),
        Value::Object(fields) => fields.iter().for_each(|(name, field)| below(name, field)),
        Value::String(text) if is_address(text) => found.push((pointer.clone(), text.clone())),
        _ => {}
    }
}

fn is_address(text: &str) -> bool {
    ["data:", "http://", "https://"].iter().any(|scheme| text.starts_with(scheme)) && !text.contains(' ')
}

fn decode(data: &str) -> Option<Bytes> {
    let (head, body) = data.split_once(',')?;
    let is_media = ["image/", "video/", "audio/"].iter().any(|kind| head.starts_with(kind));
    (is_media && head.ends_with(";base64")).then(|| STANDARD.decode(body).ok())?.map(Bytes::from)
}

/// As the strictest of the real ones: no redirect, a length and a type, the same for a HEAD.
async fn fetch(client: &reqwest::Client, address: &str) -> Option<Bytes> {
    let timeout = Duration::from_secs(5);
    let head = client.head(address).timeout(timeout).send().await.ok()?;
    let whole = client.get(address).timeout(timeout).send().await.ok()?;
    let kind = whole.headers().get("content-type")?.to_str().ok()?.to_owned();
    let length: usize = whole.headers().get("content-length")?.to_str().ok()?.parse().ok()?;
    let is_media = ["image/", "video/", "audio/"].iter().any(|media| kind.starts_with(media));
    let well = head.status() == 200 && whole.status() == 200 && is_media;
    let bytes = whole.bytes().await.ok()?;
    (well && bytes.len() == length).then_some(bytes)
}
