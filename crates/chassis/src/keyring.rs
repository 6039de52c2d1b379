//! The keys that the services of one installation share: what is signed with them comes from one of the services, and from nobody who
//! only reaches a port, Redis or an address on the internet.
//!
//! Invariants: each purpose has keys of its own, derived from the shared ones, so that nothing signed for one purpose holds for
//! another; the first key signs and every key verifies, so that keys are changed without a moment at which something is refused; and
//! what is signed is a list of parts with their lengths, so that no two lists are signed alike.

pub mod tokens;

use ring::hmac;

use crate::settings::{Error, Source};

/// The setting of the keys.
pub const SETTING: &str = "RUSHES_INTERNAL_KEYS";
/// What the setting should be.
const EXPECTED: &str =
    "32 or more random characters, the same for all services; with commas between several while they change";
/// The shortest key, in characters.
const MIN_KEY: usize = 32;
/// The longest list of parts that is signed without an allocation, in bytes with their lengths.
const SHORT: usize = 320;
/// The length of a MAC, in bytes.
pub const MAC_BYTES: usize = 32;

/// What is signed for one purpose; clones share nothing secret but the keys themselves.
#[derive(Clone)]
pub struct Keyring(Vec<Key>);

#[derive(Clone)]
struct Key {
    id: String,
    key: hmac::Key,
}

/// The shared keys, from which the keys of each purpose are derived.
#[derive(Clone)]
pub struct InternalKeys(Vec<hmac::Key>);

impl std::fmt::Debug for InternalKeys {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("InternalKeys")
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Keyring")
    }
}

impl InternalKeys {
    /// Parses keys with commas between them, the one that signs first.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let keys: Vec<_> = text.split(',').map(str::trim).collect();
        let long_enough = keys.iter().all(|key| key.len() >= MIN_KEY);
        let key = |key: &&str| hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
        long_enough.then(|| Self(keys.iter().map(key).collect()))
    }

    /// Reads `RUSHES_INTERNAL_KEYS`; nothing where it is not set.
    ///
    /// # Errors
    /// When a key is too short to be one.
    pub fn read(source: &Source) -> Result<Option<Self>, Error> {
        let Some(text) = source.optional::<String>(SETTING, EXPECTED)? else { return Ok(None) };
        Self::parse(&text).map(Some).ok_or_else(|| Error::wrong(SETTING, EXPECTED))
    }

    /// Reads `RUSHES_INTERNAL_KEYS`, which must be set.
    ///
    /// # Errors
    /// When it is missing, or a key is too short to be one.
    pub fn required(source: &Source) -> Result<Self, Error> {
        Self::read(source)?.ok_or_else(|| Error::wrong(SETTING, EXPECTED))
    }

    /// The keys of one purpose.
    #[must_use]
    pub fn of(&self, purpose: &str) -> Keyring {
        let derived = |key: &hmac::Key| {
            let bytes = hmac::sign(key, format!("rushes {purpose}").as_bytes());
            let key = hmac::Key::new(hmac::HMAC_SHA256, bytes.as_ref());
            let id = hex::encode(&hmac::sign(&key, b"rushes key id").as_ref()[..4]);
            Key { id, key }
        };
        Keyring(self.0.iter().map(derived).collect())
    }
}

impl Keyring {
    /// The id of the key that signs, eight hex digits; it tells nothing of the key.
    #[must_use]
    pub fn id(&self) -> &str {
        self.0.first().map_or("", |key| &key.id)
    }

    /// The MAC of these parts, by the key that signs.
    #[must_use]
    pub fn sign(&self, parts: &[&[u8]]) -> [u8; MAC_BYTES] {
        let mut mac = [0; MAC_BYTES];
        if let Some(Key { key, .. }) = self.0.first() {
            signed(parts, |bytes| mac.copy_from_slice(hmac::sign(key, bytes).as_ref()));
        }
        mac
    }

    /// Whether `mac` is that of these parts by any of the keys; compared in constant time.
    #[must_use]
    pub fn verify(&self, parts: &[&[u8]], mac: &[u8]) -> bool {
        signed(parts, |bytes| self.0.iter().any(|key| hmac::verify(&key.key, bytes, mac).is_ok()))
    }

    /// Whether `mac` is that of these parts by the key of this id.
    #[must_use]
    pub fn verify_by(&self, id: &str, parts: &[&[u8]], mac: &[u8]) -> bool {
        signed(parts, |bytes| self.0.iter().any(|key| key.id == id && hmac::verify(&key.key, bytes, mac).is_ok()))
    }
}

/// Gives `with` the parts as they are signed; short ones without an allocation, since one list is signed or verified for each call.
fn signed<T>(parts: &[&[u8]], with: impl FnOnce(&[u8]) -> T) -> T {
    let length = parts.iter().map(|part| part.len() + 8).sum();
    let (mut short, mut long) = ([0; SHORT], Vec::new());
    let bytes = match short.get_mut(..length) {
        Some(bytes) => bytes,
        None => {
            long.resize(length, 0);
            long.as_mut_slice()
        }
    };
    let mut rest = &mut *bytes;
    for part in parts {
        let (prefix, after) = rest.split_at_mut(8);
        prefix.copy_from_slice(&(part.len() as u64).to_be_bytes());
        let (body, after) = after.split_at_mut(part.len());
        body.copy_from_slice(part);
        rest = after;
    }
    with(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "old-old-old-old-old-old-old-old-old";
    const NEW: &str = "new-new-new-new-new-new-new-new-new";

    #[test]
    fn a_purpose_has_keys_of_its_own_and_a_key_is_changed_in_three_steps() {
        let (old, both, new) = (OLD.to_owned(), format!("{NEW}, {OLD}"), NEW.to_owned());
        let [old, both, new] = [old, both, new].map(|text| InternalKeys::parse(&text).unwrap().of("test"));
        let parts: [&[u8]; 2] = [b"one", b"two"];
        assert!(both.verify(&parts, &old.sign(&parts)), "what was signed before");
        assert!(new.verify(&parts, &both.sign(&parts)), "the first signs");
        assert!(!new.verify(&parts, &old.sign(&parts)) && !old.verify(&parts, &new.sign(&parts)));
        assert_eq!((both.id(), both.id() == old.id()), (new.id(), false));
        assert!(both.verify_by(old.id(), &parts, &old.sign(&parts)));
        assert!(!both.verify_by(new.id(), &parts, &old.sign(&parts)), "a key under another's id");
        let other = InternalKeys::parse(OLD).unwrap().of("another");
        assert!(!other.verify(&parts, &old.sign(&parts)), "another purpose");
        assert!(!old.verify(&[b"onet", b"wo"], &old.sign(&parts)), "other parts of the same bytes");
    }

    #[test]
    fn a_short_key_stops_the_start_and_is_not_shown() {
        for text in ["short", "", "old-old-old-old-old-old-old-old-old,", ","] {
            assert!(InternalKeys::parse(text).is_none(), "{text}");
        }
        let error = InternalKeys::read(&Source::of(&[(SETTING, "hidden")])).unwrap_err().to_string();
        assert!(error.starts_with(SETTING) && !error.contains("hidden"), "{error}");
        assert!(InternalKeys::required(&Source::of(&[])).unwrap_err().to_string().starts_with(SETTING));
        let keys = InternalKeys::parse(OLD).unwrap();
        assert!(!format!("{keys:?} {:?}", keys.of("test")).contains("old"));
    }
}
