//! Own writes across processes: each write adds to the token of its reply, each read obeys those of its request.
//!
//! Invariant: a reply's token requires all that its request's did, so that a client need keep only the last one it got.

use chassis::request::token;
use coherence::token::Token;

use crate::key::Key;

/// What the tokens of the current call require.
pub(crate) struct Brought(Token);

impl Brought {
    /// All tokens of the current call as one. Bytes that are no token of ours requirement nothing.
    pub(crate) fn now() -> Self {
        let mut all = Token::default();
        for presented in token::presented().iter().filter_map(|bytes| Token::decode(bytes)) {
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
