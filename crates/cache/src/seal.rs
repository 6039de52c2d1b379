//! The seal of values in Redis: a MAC before the body, over the space, the key, the version and the body.
//!
//! Invariant: of what comes out of Redis only that is believed which one of our processes put there for this key under this version.
//! Whoever can write to Redis can take an entry away, and can put an older one of the same key back while its proof is kept young;
//! he cannot make one.

use bytes::Bytes;
use chassis::keyring::{Keyring, MAC_BYTES};

/// What the keys of seals are derived for.
pub(crate) const PURPOSE: &str = "cached values";

/// Seals and opens values; without keys both pass them on as they are.
pub(crate) struct Seal {
    space: String,
    keys: Option<Keyring>,
}

impl Seal {
    pub(crate) fn new(space: &str, keys: Option<Keyring>) -> Self {
        Self { space: space.to_owned(), keys }
    }

    /// Whether values are sealed.
    pub(crate) fn is_on(&self) -> bool {
        self.keys.is_some()
    }

    /// A value as it is put into Redis.
    pub(crate) fn close(&self, key: &str, version: i64, body: &Bytes) -> Bytes {
        let Some(keys) = &self.keys else { return body.clone() };
        let mac = keys.sign(&self.parts(key, &version.to_be_bytes(), body));
        [&mac[..], body].concat().into()
    }

    /// The body of a value from Redis; nothing where no process of ours made it.
    pub(crate) fn open(&self, key: &str, version: i64, mut sealed: Bytes) -> Option<Bytes> {
        let Some(keys) = &self.keys else { return Some(sealed) };
        if sealed.len() < MAC_BYTES {
            return None;
        }
        let mac = sealed.split_to(MAC_BYTES);
        keys.verify(&self.parts(key, &version.to_be_bytes(), &sealed), &mac).then_some(sealed)
    }

    fn parts<'a>(&'a self, key: &'a str, version: &'a [u8], body: &'a [u8]) -> [&'a [u8]; 4] {
        [self.space.as_bytes(), key.as_bytes(), version, body]
    }
}

#[cfg(test)]
mod tests {
    use chassis::keyring::InternalKeys;

    use super::*;

    #[test]
    fn a_value_is_believed_under_its_own_key_and_version_alone() {
        let keys = InternalKeys::parse("test-test-test-test-test-test-test").map(|keys| keys.of(PURPOSE));
        let seal = Seal::new("space", keys.clone());
        let body = Bytes::from_static(b"scopes: read");
        let sealed = seal.close("api_key:1", 7, &body);
        assert_eq!(seal.open("api_key:1", 7, sealed.clone()), Some(body.clone()));
        assert_eq!(seal.open("api_key:2", 7, sealed.clone()), None, "another key's");
        assert_eq!(seal.open("api_key:1", 8, sealed.clone()), None, "an older version's");
        assert_eq!(Seal::new("other", keys).open("api_key:1", 7, sealed.clone()), None, "another database's");
        assert_eq!(seal.open("api_key:1", 7, [&sealed[..], b" operate"].concat().into()), None);
        assert_eq!(seal.open("api_key:1", 7, body.clone()), None, "one without a seal");
        assert_eq!(seal.open("api_key:1", 7, Bytes::new()), None);
        let plain = Seal::new("space", None);
        assert_eq!(plain.open("a", 1, plain.close("a", 1, &body)), Some(body));
    }
}
