//! The keys that webhooks' secrets are stored under.
//!
//! Invariants: what is stored opens only for the account and the endpoint that it was sealed for, so that no row's secret is of use in
//! another; the first key seals and every key opens; and a secret that no key opens is never taken for one in the clear, which has
//! another length.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};
use uuid::Uuid;

use crate::model::Secret;

/// The shortest key, in characters.
const MIN_KEY: usize = 32;
/// The first byte of what is sealed: how.
const FORM: u8 = 1;
/// The length of a key's id, in bytes.
pub(crate) const ID_BYTES: usize = 4;
/// The length of a secret, and of the tag behind it.
const SECRET_BYTES: usize = 32;
const TAG_BYTES: usize = 16;
/// The length of what is sealed: its form, its key's id, its nonce, the secret and a tag.
const SEALED_BYTES: usize = 1 + ID_BYTES + NONCE_LEN + SECRET_BYTES + TAG_BYTES;

/// A key, and the id by which what it has sealed names it.
struct Key {
    id: [u8; ID_BYTES],
    key: LessSafeKey,
}

/// The keys, the one that seals first; without any, secrets are stored in the clear.
#[derive(Default)]
pub struct SecretKeys(Vec<Key>);

/// The operating system returned no random bytes, or the cipher refused them.
#[derive(Debug, thiserror::Error)]
#[error("a secret cannot be sealed")]
pub(crate) struct Unsealable;

impl std::fmt::Debug for SecretKeys {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "SecretKeys({})", self.0.len())
    }
}

impl SecretKeys {
    /// Parses keys with commas between them, the one that seals first; `None` where one is too short to be a key.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let key = |text: &str| {
            let text = text.trim();
            // The setting is any text, and the cipher's key has 32 bytes.
            let derive = |purpose: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, text.as_bytes()), purpose);
            let mut id = [0; ID_BYTES];
            id.copy_from_slice(&derive(b"rushes secrets key id").as_ref()[..ID_BYTES]);
            let key = UnboundKey::new(&AES_256_GCM, derive(b"rushes secrets").as_ref()).ok()?;
            (text.len() >= MIN_KEY).then(|| Key { id, key: LessSafeKey::new(key) })
        };
        text.split(',').map(key).collect::<Option<_>>().map(Self)
    }

    /// The id of the key that seals; `None` where secrets are stored in the clear.
    pub(crate) fn sealing_id(&self) -> Option<[u8; ID_BYTES]> {
        self.0.first().map(|key| key.id)
    }

    /// A secret as it is stored for this endpoint of this account.
    pub(crate) fn seal(&self, account: Uuid, endpoint: Uuid, secret: Secret) -> Result<Vec<u8>, Unsealable> {
        let Some(Key { id, key }) = self.0.first() else { return Ok(secret.0.to_vec()) };
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| Unsealable)?;
        let mut sealed = Vec::with_capacity(SEALED_BYTES);
        sealed.push(FORM);
        sealed.extend_from_slice(id);
        sealed.extend_from_slice(&nonce);
        let mut body = secret.0.to_vec();
        let owner = Aad::from(owner(account, endpoint));
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), owner, &mut body).map_err(|_| Unsealable)?;
        sealed.extend_from_slice(&body);
        Ok(sealed)
    }

    /// The secret that was stored for this endpoint of this account; `None` where no key opens it.
    pub(crate) fn open(&self, account: Uuid, endpoint: Uuid, stored: &[u8]) -> Option<Secret> {
        if let Ok(clear) = <[u8; SECRET_BYTES]>::try_from(stored) {
            return Some(Secret(clear));
        }
        let (&[FORM], rest) = stored.split_first_chunk()? else { return None };
        let (id, rest) = rest.split_first_chunk::<ID_BYTES>()?;
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>()?;
        let mut body = body.to_vec();
        let Key { key, .. } = self.0.iter().find(|key| key.id == *id)?;
        let owner = Aad::from(owner(account, endpoint));
        let opened = key.open_in_place(Nonce::assume_unique_for_key(*nonce), owner, &mut body).ok()?;
        <[u8; SECRET_BYTES]>::try_from(&*opened).ok().map(Secret)
    }
}

/// Whose secret it is.
fn owner(account: Uuid, endpoint: Uuid) -> [u8; 32] {
    let mut owner = [0; 32];
    owner[..16].copy_from_slice(account.as_bytes());
    owner[16..].copy_from_slice(endpoint.as_bytes());
    owner
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "old-old-old-old-old-old-old-old-old";
    const NEW: &str = "new-new-new-new-new-new-new-new-new";

    fn keys(text: &str) -> SecretKeys {
        SecretKeys::parse(text).unwrap()
    }

    #[test]
    fn a_secret_opens_for_its_endpoint_alone_and_keys_change_in_three_steps() {
        let (account, endpoint, secret) = (Uuid::now_v7(), Uuid::now_v7(), Secret([7; 32]));
        let open = |keys: &SecretKeys, stored: &[u8]| keys.open(account, endpoint, stored).map(|secret| secret.0);
        let (old, both, new) = (keys(OLD), keys(&format!("{NEW}, {OLD}")), keys(NEW));
        let sealed = old.seal(account, endpoint, secret).unwrap();
        assert_eq!(sealed.len(), SEALED_BYTES);
        assert!(!sealed.windows(8).any(|part| part == [7; 8]), "it is not there to be read");
        assert_ne!(old.seal(account, endpoint, secret).unwrap(), sealed, "twice the same secret is not seen");
        assert_eq!(open(&old, &sealed), Some([7; 32]));
        assert_eq!((open(&both, &sealed), open(&new, &sealed)), (Some([7; 32]), None));
        assert_eq!(open(&new, &both.seal(account, endpoint, secret).unwrap()), Some([7; 32]), "the first seals");
        assert!(old.open(account, Uuid::now_v7(), &sealed).is_none(), "another endpoint");
        assert!(old.open(Uuid::now_v7(), endpoint, &sealed).is_none(), "another account");
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert_eq!(open(&old, &altered), None, "{at}");
            assert_eq!(open(&old, &sealed[..at]).is_some(), at == 32, "{at}: as long as one in the clear");
        }
    }

    #[test]
    fn without_keys_secrets_are_stored_as_they_are_and_those_of_before_open() {
        let (account, endpoint, secret) = (Uuid::now_v7(), Uuid::now_v7(), Secret([9; 32]));
        let none = SecretKeys::default();
        let clear = none.seal(account, endpoint, secret).unwrap();
        assert_eq!(clear, [9; 32]);
        assert_eq!(keys(NEW).open(account, endpoint, &clear).map(|secret| secret.0), Some([9; 32]));
        assert!(none.open(account, endpoint, &keys(NEW).seal(account, endpoint, secret).unwrap()).is_none());
    }

    #[test]
    fn a_short_key_is_none_and_neither_a_key_nor_a_secret_is_shown() {
        for text in ["short", "", "old-old-old-old-old-old-old-old-old,"] {
            assert!(SecretKeys::parse(text).is_none(), "{text}");
        }
        assert_eq!(format!("{:?}", keys(OLD)), "SecretKeys(1)");
        assert_eq!(format!("{:?}", Secret([7; 32])), "Secret(…)");
    }
}
