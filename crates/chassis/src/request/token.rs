//! The read-your-writes token of the call that is being answered: what its caller brought, and what its reply will carry.
//!
//! Here it is bytes; the `cache` crate alone knows what they say. Invariant: only a call on an account's behalf has one.
//! A worker's report and a call between services bring none and are told none, so they pay nothing for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tonic::metadata::{BinaryMetadataValue, MetadataMap};

use crate::{caller, task::Scope};

/// The binary metadata that carries a token, in a request and in a reply.
pub const HEADER: &str = "rushes-token-bin";

/// The most tokens that are read of one request: one for each of a caller's own parallel writers.
pub const MOST: usize = 8;

/// How long a token is worth keeping: by then every server shows what was written, or refuses to answer.
pub const USEFUL: Duration = Duration::from_secs(10);

/// Both sides of one call's token.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    brought: Vec<Bytes>,
    told: Mutex<Option<Vec<u8>>>,
}

impl Exchange {
    /// What a request with these headers brings; nothing if it is not on an account's behalf.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Arc<Self>> {
        if !headers.contains_key(caller::ACCOUNT) {
            return None;
        }
        let mut tokens = HeaderMap::new();
        for value in headers.get_all(HEADER).iter().take(MOST) {
            tokens.append(HEADER, value.clone());
        }
        let tokens = MetadataMap::from_headers(tokens);
        let brought = tokens.get_all_bin(HEADER).iter().filter_map(|token| token.to_bytes().ok()).collect();
        Some(Arc::new(Self { brought, told: Mutex::default() }))
    }

    /// Puts what the reply carries into its headers.
    pub(crate) fn close(&self, headers: &mut HeaderMap) {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(told) = told {
            let mut metadata = MetadataMap::new();
            metadata.insert_bin(HEADER, BinaryMetadataValue::from_bytes(&told));
            headers.extend(metadata.into_headers());
        }
    }
}

/// The tokens that the current call's caller brought.
#[must_use]
pub fn brought() -> Vec<Bytes> {
    Scope::with(|scope| scope.token.as_ref().map(|token| token.brought.clone())).flatten().unwrap_or_default()
}

/// Whether the current call's reply can carry a token.
#[must_use]
pub fn is_awaited() -> bool {
    Scope::with(|scope| scope.token.is_some()).unwrap_or(false)
}

/// Changes the token that the current call's reply will carry: `change` gets what it carries so far.
pub fn tell(change: impl FnOnce(Option<Vec<u8>>) -> Vec<u8>) {
    let _ = Scope::with(|scope| {
        if let Some(token) = &scope.token {
            let mut told = token.told.lock().unwrap_or_else(PoisonError::into_inner);
            *told = Some(change(told.take()));
        }
    });
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(account: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.append(HEADER, HeaderValue::from_static("AQID"));
        headers.append(HEADER, HeaderValue::from_static("???"));
        headers.append(HEADER, HeaderValue::from_static("BA=="));
        if account {
            headers.insert(caller::ACCOUNT, HeaderValue::from_static("a"));
        }
        headers
    }

    #[tokio::test]
    async fn a_reply_carries_what_its_call_was_told() {
        let token = Exchange::of(&headers(true)).unwrap();
        let scope = Scope { token: Some(Arc::clone(&token)), ..Scope::default() };
        scope
            .run(async {
                assert!(is_awaited());
                assert_eq!(brought(), [vec![1, 2, 3], vec![4]], "what is not base64 is passed over");
                tell(|so_far| {
                    assert_eq!(so_far, None);
                    vec![1]
                });
                crate::task::spawn(async { tell(|so_far| [so_far.unwrap(), vec![2]].concat()) }).await.unwrap();
            })
            .await;
        let mut reply = HeaderMap::new();
        token.close(&mut reply);
        assert_eq!(reply[HEADER], "AQI");
    }

    #[tokio::test]
    async fn without_an_account_or_a_call_there_is_none() {
        assert!(Exchange::of(&headers(false)).is_none());
        tell(|_| unreachable!("nobody waits for it"));
        assert!(!is_awaited() && brought().is_empty());
    }
}
