//! Own writes, across processes: each write marks the token in its reply, each read obeys the one in its request.
//!
//! Invariant: a reply's token demands all that its request's did, so that a client need keep only the last one it got.
//! Nothing here is needed for a call that brought no token and writes nothing.

use coherence::token::Token;

use crate::key::Key;

/// What the current call's caller has written, as far as it says so.
pub(crate) struct Brought(Token);

impl Brought {
    /// All tokens of the current call as one. Bytes that are no token of ours demand nothing.
    pub(crate) fn now() -> Self {
        let mut all = Token::default();
        for token in chassis::token::brought().iter().filter_map(|bytes| Token::decode(bytes)) {
            all.absorb(&token);
        }
        Self(all)
    }

    /// The least version of `key` to be shown, where `least` is asked for besides.
    pub(crate) fn least(&self, key: &Key, least: Option<i64>) -> Option<i64> {
        if self.0.is_empty() { least } else { self.0.version(key.as_str()).max(least) }
    }
}

/// Makes the current call's reply say that `key` was written up to `version`.
pub(crate) fn tell(key: &Key, version: i64) {
    chassis::token::tell(|so_far| {
        let mut token = match so_far {
            Some(bytes) => Token::decode(&bytes).unwrap_or_default(),
            None => Brought::now().0,
        };
        token.mark(key.as_str(), version);
        token.encode()
    });
}
