//! The keys that addresses are signed with, shared by the gateway and the services.
//!
//! Invariant: the first signs and all verify, so that a key is exchanged by putting another before it, and taken away when the last
//! address that it signed has run out.

use std::fmt;
use std::sync::Arc;

use ring::hmac;

use crate::settings::{Error, Source};

/// The setting of the keys.
pub(super) const SETTING: &str = "RUSHES_URL_KEYS";
/// The shortest secret, in characters.
const MIN_SECRET: usize = 32;
/// The longest id, in characters: it is in every address.
const MAX_ID: usize = 8;
const WHAT: &str = "id:secret, or several separated by commas, of which the first signs: an id of up to 8 lower-case letters and \
                    digits, a secret of 32 or more random characters; the same for the gateway and all services";

/// Keys by id.
#[derive(Clone)]
pub struct Keys(Arc<[(String, hmac::Key)]>);

impl fmt::Debug for Keys {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.0.iter().map(|(id, _)| id)).finish()
    }
}

impl Keys {
    /// Parses `id:secret,…`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let keys = text.split(',').map(|key| {
            let (id, secret) = key.trim().split_once(':')?;
            let is_id = !id.is_empty()
                && id.len() <= MAX_ID
                && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
            let is_secret = secret.len() >= MIN_SECRET && !secret.contains(char::is_whitespace);
            (is_id && is_secret).then(|| (id.to_owned(), hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())))
        });
        let keys = keys.collect::<Option<Vec<_>>>()?;
        let distinct = keys.iter().enumerate().all(|(at, (id, _))| keys[..at].iter().all(|(other, _)| other != id));
        distinct.then(|| Self(keys.into()))
    }

    /// Reads `RUSHES_URL_KEYS`; nothing where it is not set.
    ///
    /// # Errors
    /// When it holds no keys.
    pub fn read(source: &Source) -> Result<Option<Self>, Error> {
        let Some(text) = source.optional::<String>(SETTING, WHAT)? else { return Ok(None) };
        Self::parse(&text).map(Some).ok_or_else(|| Error::wrong(SETTING, WHAT))
    }

    /// Reads `RUSHES_URL_KEYS`, which has to be set.
    pub(super) fn read_required(source: &Source) -> Result<Self, Error> {
        let text = source.required::<String>(SETTING, WHAT)?;
        Self::parse(&text).ok_or_else(|| Error::wrong(SETTING, WHAT))
    }

    /// Signs; gives the key's id as well.
    pub(super) fn sign(&self, message: impl Fn(&str) -> String) -> (&str, hmac::Tag) {
        // There is always a first.
        let (id, key) = &self.0[0];
        (id, hmac::sign(key, message(id).as_bytes()))
    }

    /// Whether the key of this id has signed it.
    pub(super) fn verify(&self, id: &str, message: &str, mac: &[u8]) -> bool {
        let key = self.0.iter().find(|(known, _)| known == id);
        key.is_some_and(|(_, key)| hmac::verify(key, message.as_bytes(), mac).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn keys_have_ids_of_their_own_and_long_secrets() {
        assert!(Keys::parse(&format!("a:{SECRET}, 2b:{SECRET}")).is_some());
        for wrong in
            ["", SECRET, "a:short", &format!("A:{SECRET}"), &format!(":{SECRET}"), &format!("a:{SECRET},a:{SECRET}")]
        {
            assert!(Keys::parse(wrong).is_none(), "{wrong}");
        }
        let keys = Keys::parse(&format!("a:{SECRET}")).unwrap();
        assert_eq!(format!("{keys:?}"), "[\"a\"]");
    }

    #[test]
    fn the_first_signs_and_all_verify() {
        let (old, new) = (format!("a:{SECRET}"), format!("b:{SECRET}x"));
        let before = Keys::parse(&old).unwrap();
        let during = Keys::parse(&format!("{new},{old}")).unwrap();
        let after = Keys::parse(&new).unwrap();
        let message = |id: &str| format!("{id} signs");
        let (id, mac) = before.sign(message);
        assert_eq!(id, "a");
        assert!(during.verify(id, &message(id), mac.as_ref()));
        assert!(!after.verify(id, &message(id), mac.as_ref()), "it was taken away");
        let (id, mac) = during.sign(message);
        assert_eq!(id, "b");
        assert!(after.verify(id, &message(id), mac.as_ref()));
        assert!(!during.verify("a", &message(id), mac.as_ref()));
    }
}
