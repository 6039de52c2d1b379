//! The storages of the doubled providers, to which clients upload the files of their inputs.
//!
//! Invariant: what was uploaded is there, byte by byte, until the double ends; what was only announced is not.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::Method;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::refusals;
use crate::server::{ApiRequest, FileBody, Reply};

/// The largest file that is taken whole by fal's storage.
const MAX_WHOLE: usize = 100 << 20;
/// The smallest part of a file, but for its last.
const MIN_PART: usize = 5 << 20;

/// What was uploaded, by the names that it was given.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    kept: Mutex<HashMap<String, Bytes>>,
    /// The parts of files that are not whole, by number.
    parts: Mutex<HashMap<String, BTreeMap<usize, Bytes>>>,
}

impl Uploads {
    /// Keeps a file under a name.
    fn keep(&self, name: &str, bytes: Bytes) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), bytes);
    }

    /// What lies under a name.
    pub(crate) fn get(&self, name: &str) -> Option<Bytes> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// SHA-256 of everything that was uploaded, sorted.
    pub(crate) fn sha256(&self) -> Vec<String> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut hashes: Vec<_> = kept.values().map(|bytes| hex::encode(Sha256::digest(bytes))).collect();
        hashes.sort_unstable();
        hashes
    }

    /// Where the file of a name is fetched from.
    fn url(address: SocketAddr, name: &str) -> String {
        format!("http://{address}/uploads/{name}")
    }

    /// Replicate's `files.create`: a form with one part called `content`.
    pub(crate) fn create(&self, request: &ApiRequest, address: SocketAddr) -> Reply {
        let Some(bytes) = content_of_form(request) else {
            return Reply::Json(400, json!({"detail": "Missing content", "status": 400}));
        };
        let name = Uuid::now_v7().simple().to_string();
        let size = bytes.len();
        self.keep(&name, bytes);
        Reply::Json(201, json!({"id": name, "size": size, "urls": {"get": Self::url(address, &name)}}))
    }

    /// fal's storage: an upload is begun, and says where the file is to be put.
    pub(crate) fn initiate(&self, request: &ApiRequest, address: SocketAddr, in_parts: bool) -> Reply {
        let lifecycle = request.headers.get("x-fal-object-lifecycle").and_then(|value| value.to_str().ok());
        let lifecycle: serde_json::Value =
            lifecycle.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
        let Some(file_name) = request.body["file_name"].as_str().filter(|_| request.body["content_type"].is_string())
        else {
            return Reply::Json(422, json!({"detail": "file_name and content_type are required"}));
        };
        // What does not run out would lie there for ever; the real one lets it.
        if !lifecycle["expiration_duration_seconds"].is_u64() {
            return Reply::Json(422, json!({"detail": "the double wants uploads that run out"}));
        }
        let name = format!("{}-{file_name}", Uuid::now_v7().simple());
        if in_parts {
            self.parts.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone(), BTreeMap::new());
        }
        let put = format!("http://{address}/fal-put/{name}?signature=secret");
        Reply::Json(200, json!({"file_url": Self::url(address, &name), "upload_url": put}))
    }

    /// Where a file of fal's is put, by whoever knows the address: whole, or below it in parts.
    pub(crate) fn put(&self, request: &ApiRequest, name: &str) -> Reply {
        if request.query != "signature=secret" {
            return Reply::Json(403, json!({"detail": "Forbidden"}));
        }
        let below = request.path.get(1).map(String::as_str);
        match (&request.method, below) {
            (&Method::PUT, None) if request.raw.len() > MAX_WHOLE => {
                Reply::Json(413, json!({"detail": "Payload Too Large"}))
            }
            (&Method::PUT, None) => {
                self.keep(name, request.raw.clone());
                Reply::Json(200, json!({}))
            }
            (&Method::PUT, Some(number)) => self.put_part(name, number, &request.raw),
            (&Method::POST, Some("complete")) => self.complete(name, &request.body["parts"]),
            _ => Reply::Json(405, json!({"detail": "Method Not Allowed"})),
        }
    }

    fn put_part(&self, name: &str, number: &str, bytes: &Bytes) -> Reply {
        let number = number.parse().ok().filter(|number| (1..=10_000).contains(number));
        let mut all = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        match (all.get_mut(name), number) {
            (Some(parts), Some(number)) => {
                parts.insert(number, bytes.clone());
                Reply::Json(200, json!({"partNumber": number, "etag": etag(bytes)}))
            }
            _ => Reply::Json(404, json!({"detail": "no such upload"})),
        }
    }

    /// Makes a file of its parts, if they are named whole, in order and as they came.
    fn complete(&self, name: &str, named: &serde_json::Value) -> Reply {
        let refused = |why: &str| Reply::Json(400, json!({"detail": why}));
        let mut all = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(parts) = all.get(name) else { return refused("no such upload") };
        let named = named.as_array().map(Vec::as_slice).unwrap_or_default();
        if named.is_empty() || named.len() != parts.len() {
            return refused("not every part is named");
        }
        let mut whole = Vec::new();
        for (at, part) in named.iter().enumerate() {
            let Some(bytes) = parts.get(&(at + 1)).filter(|_| part["partNumber"] == at + 1) else {
                return refused("the parts are not in their order");
            };
            if part["etag"] != etag(bytes) {
                return refused("a part is not the one that came");
            }
            if at + 1 < named.len() && bytes.len() < MIN_PART {
                return refused("a part is too small");
            }
            whole.extend_from_slice(bytes);
        }
        all.remove(name);
        drop(all);
        self.keep(name, whole.into());
        Reply::Json(200, json!({}))
    }

    /// Hands a file out.
    pub(crate) fn reply(&self, name: &str) -> Reply {
        match self.get(name) {
            Some(bytes) => Reply::File(FileBody::whole("application/octet-stream", bytes)),
            None => refusals::no_path(),
        }
    }
}

/// What a part is called by.
fn etag(bytes: &Bytes) -> String {
    hex::encode(&Sha256::digest(bytes)[..16])
}

/// The bytes of the part called `content`.
fn content_of_form(request: &ApiRequest) -> Option<Bytes> {
    let kind = request.headers.get("content-type")?.to_str().ok()?;
    let boundary = kind.strip_prefix("multipart/form-data")?.split_once("boundary=")?.1;
    let (start, end) = (format!("--{boundary}\r\n"), format!("\r\n--{boundary}--"));
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|window| window == what);
    let raw = &request.raw;
    let head = find(raw, start.as_bytes())? + start.len();
    let body = head + find(&raw[head..], b"\r\n\r\n")? + 4;
    let is_content = String::from_utf8_lossy(&raw[head..body]).contains("name=\"content\"");
    // From behind: the file may have anything in it.
    let last = raw.len().checked_sub(end.len() + 2)?;
    let ends = raw[last..].starts_with(end.as_bytes());
    (is_content && ends && body <= last).then(|| raw.slice(body..last))
}
