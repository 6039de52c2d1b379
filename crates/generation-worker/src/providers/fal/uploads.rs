//! fal's storage for inputs: a file is put whole, or in parts where it is large.
//!
//! Read on 2026-11-29: <https://docs.fal.ai/documentation/model-apis/fal-cdn>, and how `src/storage.js` of `@fal-ai/client` 1.10 does it: a
//! call to begin says where the file is put and where it is found then; parts of 10 MiB are put below the first address by their
//! numbers, from 1, and a last call there names them with what was answered of each.
//!
//! Invariant: what is not whole is found nowhere: an upload that breaks off leaves no address that anybody was told of.

use std::time::Duration;

use bytes::Bytes;
use http::header::ETAG;
use http::{HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use url::Url;

use crate::model::{CallOutcome, InputFile, Trouble};
use crate::providers::api::{Answer, Api, Operation, RawBody};

/// The largest file that is put whole.
const MAX_WHOLE: usize = 90 << 20;
/// How long a part is, but for the last.
const PART: usize = 10 << 20;
/// How often a part is put at most.
const MAX_TRIES: usize = 3;
/// How long an uploaded file is kept, in the header of the call that begins it.
const LIFECYCLE: HeaderName = HeaderName::from_static("x-fal-object-lifecycle");

/// Puts a file into fal's storage, and says where it is found for so long.
pub(super) async fn upload(api: &Api, file: &InputFile, bytes: Bytes, lasts: Duration) -> Result<Url, Trouble> {
    let in_parts = bytes.len() > MAX_WHOLE;
    let mut url = api.url(["storage", "upload", if in_parts { "initiate-multipart" } else { "initiate" }]);
    url.query_pairs_mut().append_pair("storage_type", "fal-cdn-v3");
    let body = json!({ "file_name": file.name.to_string(), "content_type": file.mime_type });
    let lifecycle = json!({ "expiration_duration_seconds": lasts.as_secs() }).to_string();
    let headers = HeaderValue::try_from(lifecycle).map(|value| (LIFECYCLE, value)).into_iter().collect();
    let answer = api.call_with(Operation::Upload, Method::POST, url, Some(&body), headers).await?;
    let answer = succeeded(answer)?;
    let places = answer.json();
    let place = |name: &str| Url::parse(places[name].as_str()?).ok();
    let (Some(address), Some(target)) = (place("file_url"), place("upload_url")) else {
        return Err(answer.trouble(CallOutcome::Unreadable));
    };
    if in_parts {
        put_parts(api, &target, &bytes).await?;
    } else {
        let whole = RawBody { content_type: file.mime_type.clone(), bytes };
        succeeded(api.send_file(Method::PUT, target, whole).await?)?;
    }
    Ok(address)
}

/// Puts a file in parts, one after another, so that no more of it is under way than one part.
async fn put_parts(api: &Api, target: &Url, bytes: &Bytes) -> Result<(), Trouble> {
    let mut parts: Vec<Value> = Vec::with_capacity(bytes.len().div_ceil(PART));
    for start in (0..bytes.len()).step_by(PART) {
        let number = parts.len() + 1;
        let part = bytes.slice(start..bytes.len().min(start + PART));
        let etag = put_part(api, &below(target, &number.to_string()), &part).await?;
        parts.push(json!({ "partNumber": number, "etag": etag }));
    }
    let named =
        RawBody { content_type: "application/json".to_owned(), bytes: json!({ "parts": parts }).to_string().into() };
    succeeded(api.send_file(Method::POST, below(target, "complete"), named).await?).map(drop)
}

/// Puts one part, again where the storage is out of order for a moment: putting a part twice leaves one. Gives what it is called by.
async fn put_part(api: &Api, url: &Url, part: &Bytes) -> Result<String, Trouble> {
    let mut tries = 0;
    loop {
        tries += 1;
        // Without a type: the file's own was said at the beginning.
        let body = RawBody { content_type: String::new(), bytes: part.clone() };
        let put = api.send_file(Method::PUT, url.clone(), body).await.and_then(succeeded);
        match put {
            Ok(answer) => {
                let said = answer.json()["etag"].as_str().map(str::to_owned);
                let etag = said.or_else(|| Some(answer.headers.get(ETAG)?.to_str().ok()?.to_owned()));
                return etag.ok_or_else(|| answer.trouble(CallOutcome::Unreadable));
            }
            Err(trouble) if tries < MAX_TRIES && passes(trouble.outcome) => {}
            Err(trouble) => return Err(trouble),
        }
    }
}

/// Whether the same may be taken a moment later.
const fn passes(outcome: CallOutcome) -> bool {
    matches!(outcome, CallOutcome::Unavailable | CallOutcome::Lost)
}

fn succeeded(answer: Answer) -> Result<Answer, Trouble> {
    if answer.status.is_success() { Ok(answer) } else { Err(answer.upload_trouble()) }
}

/// An address below another one, with the same query, which has what may be done there.
fn below(url: &Url, segment: &str) -> Url {
    let mut below = url.clone();
    if let Ok(mut path) = below.path_segments_mut() {
        path.pop_if_empty().push(segment);
    }
    below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_below_the_address_and_keep_its_signature() {
        let url = Url::parse("https://v3.fal.media/files/upload/x.mp4?token=a%2Fb").unwrap();
        assert_eq!(below(&url, "12").as_str(), "https://v3.fal.media/files/upload/x.mp4/12?token=a%2Fb");
    }
}
