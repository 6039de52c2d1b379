//! The read-your-writes tokens of the call that is being answered: those that its request presents, and the one that its
//! reply carries.
//!
//! Here they are bytes; the `cache` crate alone knows what they say. Invariant: only a call on an account's behalf has any.
//! A worker's report and a call between services present none and get none, so they pay nothing for it.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use tonic::metadata::{BinaryMetadataValue, MetadataMap};

use super::scope::{Scope, Tokens};

/// The binary metadata that carries a token, in a request and in a reply.
pub const HEADER: &str = "rushes-token-bin";

/// The tokens that are read of one request at most: one for each of a caller's own parallel writers.
pub const MAX_PER_REQUEST: usize = 8;

/// How long a token is worth keeping: by then every server shows what was written, or refuses to answer.
pub const LIFETIME: Duration = Duration::from_secs(10);

impl Tokens {
    /// The tokens that a request on an account's behalf presents with these headers.
    pub(crate) fn of(headers: &HeaderMap) -> Arc<Self> {
        Arc::new(Self { presented: read(headers), ..Self::default() })
    }

    /// Moves the reply's token into its headers.
    pub(crate) fn write_reply(&self, headers: &mut HeaderMap) {
        let reply = self.reply.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(token) = reply {
            headers.remove(HEADER);
            append(headers, &token);
        }
    }
}

/// The tokens in these headers; what is none is passed over.
#[must_use]
pub fn read(headers: &HeaderMap) -> Vec<Bytes> {
    if !headers.contains_key(HEADER) {
        return Vec::new();
    }
    let mut tokens = HeaderMap::new();
    for value in headers.get_all(HEADER).iter().take(MAX_PER_REQUEST) {
        tokens.append(HEADER, value.clone());
    }
    let tokens = MetadataMap::from_headers(tokens);
    tokens.get_all_bin(HEADER).iter().filter_map(|token| token.to_bytes().ok()).collect()
}

/// Adds a token to these headers.
pub fn append(headers: &mut HeaderMap, token: &[u8]) {
    let mut metadata = MetadataMap::new();
    metadata.insert_bin(HEADER, BinaryMetadataValue::from_bytes(token));
    for value in metadata.into_headers().get_all(HEADER) {
        headers.append(HEADER, value.clone());
    }
}

/// The tokens that the current request presents.
#[must_use]
pub fn presented() -> Vec<Bytes> {
    Scope::with(|scope| scope.tokens.as_ref().map(|tokens| tokens.presented.clone())).flatten().unwrap_or_default()
}

/// Whether the current call's reply can carry a token.
#[must_use]
pub fn is_expected() -> bool {
    Scope::with(|scope| scope.tokens.is_some()).unwrap_or(false)
}

/// Changes the token that the current call's reply will carry: `change` gets what it carries so far.
pub fn update_reply(change: impl FnOnce(Option<Vec<u8>>) -> Vec<u8>) {
    let _ = Scope::with(|scope| {
        if let Some(tokens) = &scope.tokens {
            let mut reply = tokens.reply.lock().unwrap_or_else(PoisonError::into_inner);
            *reply = Some(change(reply.take()));
        }
    });
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.append(HEADER, HeaderValue::from_static("AQID"));
        headers.append(HEADER, HeaderValue::from_static("???"));
        headers.append(HEADER, HeaderValue::from_static("BA=="));
        headers
    }

    #[tokio::test]
    async fn a_reply_carries_what_its_call_put_in() {
        let tokens = Tokens::of(&headers());
        let scope = Scope { tokens: Some(Arc::clone(&tokens)), ..Scope::default() };
        scope
            .run(async {
                assert!(is_expected());
                assert_eq!(presented(), [vec![1, 2, 3], vec![4]], "what is not base64 is passed over");
                update_reply(|so_far| {
                    assert_eq!(so_far, None);
                    vec![1]
                });
                let more = async { update_reply(|so_far| [so_far.unwrap(), vec![2]].concat()) };
                crate::request::spawn(more).await.unwrap();
            })
            .await;
        let mut reply = HeaderMap::new();
        tokens.write_reply(&mut reply);
        assert_eq!(reply[HEADER], "AQI");
    }

    #[tokio::test]
    async fn without_a_call_there_is_none() {
        update_reply(|_| unreachable!("nobody waits for it"));
        assert!(!is_expected() && presented().is_empty());
    }
}
