//! Reads of a process without a database, which calls a service for them.
//!
//! Invariants: a load is answered from the primary and from no tier of the service, since the asker takes it for as fresh as its
//! question, and only what says its snapshot is kept. An answer from the service's tiers says its version, so that the asker serves
//! nothing older afterwards. The headers are internal: no client can send the one or sees the others.

use std::time::Duration;

use bytes::Bytes;
use coherence::asof::Asof;
use coherence::lifetime::Lifetime;
use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::metadata::MetadataMap;
use tonic::{Response, Status};

use crate::hit::Loaded;

/// The metadata of a request of such a process.
const ASK: HeaderName = HeaderName::from_static("x-rushes-ask");
/// The metadata of a reply that is a load: version, epoch, seq, the two lifetimes in milliseconds, and 0 for what does not exist.
const LOADED: &str = "x-rushes-loaded";
/// The metadata of a reply from a tier: its version.
const VERSION: &str = "x-rushes-version";

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A load from the primary.
    Load,
    /// An answer from wherever the service has it, with its version.
    Answer,
}

impl Ask {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Answer => "answer",
        }
    }

    /// Makes a request one that asks so.
    pub fn write(self, headers: &mut HeaderMap) {
        headers.insert(ASK, HeaderValue::from_static(self.as_str()));
    }

    /// What a request with this metadata asks for beside its answer.
    #[must_use]
    pub fn of(metadata: &MetadataMap) -> Option<Self> {
        let asked = metadata.as_ref().get(ASK)?;
        [Self::Load, Self::Answer].into_iter().find(|ask| asked == ask.as_str())
    }
}

/// The reply that is this load, as `body` shows it; of what does not exist it is the refusal `absent`.
///
/// # Errors
/// That refusal.
pub fn reply(loaded: &Loaded, body: Bytes, absent: impl Into<Status>) -> Result<Response<Bytes>, Status> {
    if loaded.version == 0 && loaded.body.is_empty() {
        let mut status = absent.into();
        write_loaded(loaded, status.metadata_mut());
        return Err(status);
    }
    let mut response = Response::new(body);
    write_loaded(loaded, response.metadata_mut());
    Ok(response)
}

/// Says in a reply's metadata that it is this load.
fn write_loaded(loaded: &Loaded, metadata: &mut MetadataMap) {
    let Loaded { version, asof: Asof { epoch, seq }, lifetime: Lifetime { l1, l2 }, body } = loaded;
    let exists = i32::from(*version != 0 || !body.is_empty());
    let text = format!("{version} {epoch} {seq} {} {} {exists}", l1.as_millis(), l2.as_millis());
    if let Ok(value) = text.parse() {
        metadata.insert(LOADED, value);
    }
}

/// Says in a reply's metadata of what version it is.
pub fn write_version(version: i64, metadata: &mut MetadataMap) {
    metadata.insert(VERSION, version.into());
}

/// The load that a reply with these headers is, with this body; nothing if it does not say so.
#[must_use]
pub fn loaded(headers: &HeaderMap, body: Bytes) -> Option<Loaded> {
    let mut numbers = headers.get(LOADED)?.to_str().ok()?.split(' ').map(str::parse::<i64>);
    let mut next = || numbers.next()?.ok();
    let (version, epoch, seq) = (next()?, next()?, next()?);
    let time = |ms| u64::try_from(ms).ok().map(Duration::from_millis);
    let lifetime = Lifetime { l1: time(next()?)?, l2: time(next()?)? };
    let body = if next()? == 0 { Bytes::new() } else { body };
    Some(Loaded { version, asof: Asof { epoch, seq }, body, lifetime })
}

/// The version that a reply with these headers says that it has.
#[must_use]
pub fn version(headers: &HeaderMap) -> Option<i64> {
    headers.get(VERSION)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(loaded: &Loaded) -> HeaderMap {
        let mut metadata = MetadataMap::new();
        write_loaded(loaded, &mut metadata);
        metadata.into_headers()
    }

    #[test]
    fn a_load_is_read_as_it_was_described() {
        let asof = Asof { epoch: -3, seq: 12 };
        let body = Bytes::from_static(b"body");
        let one = Loaded { version: 7, asof, body: body.clone(), lifetime: Lifetime::TERMINAL };
        assert_eq!(loaded(&described(&one), body), Some(one));
        for wrong in ["", "7 1 1 5 5", "7 1 1 5 -5 1", "x 1 1 5 5 1"] {
            let headers = HeaderMap::from_iter([(HeaderName::from_static(LOADED), wrong.parse().unwrap())]);
            assert_eq!(loaded(&headers, Bytes::new()), None, "{wrong}");
        }
    }

    #[test]
    fn what_does_not_exist_has_no_body_and_what_was_never_changed_has_one() {
        let (asof, frame) = (Asof { epoch: 1, seq: 1 }, Bytes::from_static(b"a frame"));
        let absent = Loaded { version: 0, asof, body: Bytes::new(), lifetime: Lifetime::ABSENT };
        assert_eq!(loaded(&described(&absent), frame.clone()), Some(absent));
        let new = Loaded { version: 0, asof, body: frame.clone(), lifetime: Lifetime::AGGREGATE };
        assert_eq!(loaded(&described(&new), frame), Some(new));
    }

    #[test]
    fn a_request_asks_for_what_was_written_into_it() {
        let asked = |headers: HeaderMap| Ask::of(&MetadataMap::from_headers(headers));
        assert_eq!(asked(HeaderMap::new()), None);
        for ask in [Ask::Load, Ask::Answer] {
            let mut headers = HeaderMap::new();
            ask.write(&mut headers);
            assert_eq!(asked(headers), Some(ask));
        }
        assert_eq!(asked(HeaderMap::from_iter([(ASK, HeaderValue::from_static("more"))])), None);
    }
}
