//! Own writes across processes: each write adds to the token of its reply, each read obeys those of its request.
//!
//! Invariant: a reply's token requires all that its request's did, so that a client need keep only the last one it got.

use bytes::Bytes;
use chassis::request::token;
use coherence::token::{Token, hash};
use moka::future::Cache;
use moka::ops::compute::Op;

use crate::key::Key;

/// How many keys' writes are kept by a process through which they went.
const MAX_WRITTEN: u64 = 100_000;

/// What the tokens of the current call require.
pub(crate) struct Brought(Token);

impl Brought {
    /// All tokens of the current call as one. Bytes that are no token of ours requirement nothing.
    pub(crate) fn now() -> Self {
        Self::of(&token::presented())
    }

    fn of(presented: &[Bytes]) -> Self {
        let mut all = Token::default();
        for presented in presented.iter().filter_map(|bytes| Token::decode(bytes)) {
            all.absorb(&presented);
        }
        Self(all)
    }

    /// The least version of `key` that may be answered, where `min_version` is asked for besides.
    pub(crate) fn min_version(&self, key: &Key, min_version: Option<i64>) -> Option<i64> {
        if self.0.is_empty() { min_version } else { self.0.version(key.as_str()).max(min_version) }
    }
}

/// Adds to the token of the current call's reply that `key` was written up to `version`.
pub(crate) fn add_to_reply(key: &Key, version: i64) {
    token::update_reply(|so_far| {
        let mut token = match so_far {
            Some(bytes) => Token::decode(&bytes).unwrap_or_default(),
            None => Brought::now().0,
        };
        token.mark(key.as_str(), version);
        token.encode()
    });
}

/// The least version of `key` that a caller with these tokens may be answered.
#[must_use]
pub fn required(tokens: &[Bytes], key: &Key) -> Option<i64> {
    if tokens.is_empty() { None } else { Brought::of(tokens).min_version(key, None) }
}

/// What was written through this process in other ones, by the tokens of their replies: to whoever reads here it is as if this process
/// had written it. Cheap to clone.
///
/// It lasts for as long as a token is worth keeping. Of more than a hundred thousand keys written meanwhile the oldest are forgotten, and
/// bound no reader sooner than the second that binds all.
#[derive(Clone, Debug)]
pub struct WrittenThrough(Cache<u64, i64>);

impl Default for WrittenThrough {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(MAX_WRITTEN).time_to_live(token::LIFETIME).build())
    }
}

impl WrittenThrough {
    /// Takes note of a reply's token, before the reply goes on.
    pub async fn note(&self, token: &[u8]) {
        let Some(token) = Token::decode(token) else { return };
        for (mark, version) in token.marks() {
            let newer = |old: Option<moka::Entry<u64, i64>>| match old {
                Some(old) if *old.value() > version => Op::Nop,
                _ => Op::Put(version),
            };
            self.0.entry(mark).and_compute_with(|old| std::future::ready(newer(old))).await;
        }
    }

    /// The least version of `key` that may be answered here.
    pub async fn version(&self, key: &Key) -> Option<i64> {
        self.0.get(&hash(key.as_str())).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[tokio::test]
    async fn a_reply_s_token_binds_later_reads_and_an_older_one_takes_nothing_back() {
        let (key, other) = (Key::row("gen", Uuid::nil(), 1), Key::row("gen", Uuid::nil(), 2));
        let written = WrittenThrough::default();
        assert_eq!(written.version(&key).await, None);
        for (version, then) in [(7, 7), (3, 7), (8, 8)] {
            let mut token = Token::default();
            token.mark(key.as_str(), version);
            written.note(&token.encode()).await;
            assert_eq!(written.version(&key).await, Some(then));
        }
        written.note(b"no token").await;
        assert_eq!(written.version(&other).await, None);
    }

    #[test]
    fn all_tokens_of_a_request_are_obeyed() {
        let key = Key::row("gen", Uuid::nil(), 1);
        let token = |version| {
            let mut token = Token::default();
            token.mark(key.as_str(), version);
            Bytes::from(token.encode())
        };
        assert_eq!(required(&[], &key), None);
        assert_eq!(required(&[token(4), token(2), Bytes::from_static(b"?")], &key), Some(4));
    }
}
