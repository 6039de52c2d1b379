//! Tokens that clients hand back, of pages and of watches: a body, and a MAC over it with the account and what the token is for.
//!
//! Invariants: what opens was made by a service of this installation for the same account and purpose, and is unchanged; MACs are
//! compared in constant time. A token is no secret and gives no right: every query names its account all the same.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest;
use uuid::Uuid;

use super::{InternalKeys, Keyring, MAC_BYTES};

/// Makes and opens the tokens of one use; clones share the keys.
#[derive(Clone, Debug)]
pub struct Tokens(Arc<Keyring>);

impl Tokens {
    /// The tokens of one use, such as `pages`, which has keys of its own.
    #[must_use]
    pub fn new(keys: &InternalKeys, of: &str) -> Self {
        Self(Arc::new(keys.of(&format!("tokens of {of}"))))
    }

    /// The seal of `account` for `purpose`, which names all that a token must not be carried to or from.
    #[must_use]
    pub fn seal(&self, account: Uuid, purpose: &[u8]) -> Seal {
        Seal { keys: Arc::clone(&self.0), account, purpose: digest::digest(&digest::SHA256, purpose) }
    }
}

/// What the tokens of one account for one purpose have in common.
#[derive(Clone, Debug)]
pub struct Seal {
    keys: Arc<Keyring>,
    account: Uuid,
    /// A digest: a watch seals a token for each event, and what it watches may have thousands of names.
    purpose: digest::Digest,
}

impl Seal {
    /// The token with this body.
    #[must_use]
    pub fn token(&self, body: &[u8]) -> String {
        let mac = self.keys.sign(&self.parts(body));
        URL_SAFE_NO_PAD.encode([body, &mac].concat())
    }

    /// The body of a token; nothing when this seal did not make it.
    #[must_use]
    pub fn open(&self, token: &str) -> Option<Vec<u8>> {
        let mut bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (body, mac) = bytes.split_at_checked(bytes.len().checked_sub(MAC_BYTES)?)?;
        if !self.keys.verify(&self.parts(body), mac) {
            return None;
        }
        bytes.truncate(bytes.len() - MAC_BYTES);
        Some(bytes)
    }

    fn parts<'a>(&'a self, body: &'a [u8]) -> [&'a [u8]; 3] {
        [self.account.as_bytes(), self.purpose.as_ref(), body]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: Uuid = Uuid::from_u128(1);
    const OLD: &str = "old-old-old-old-old-old-old-old-old";
    const NEW: &str = "new-new-new-new-new-new-new-new-new";

    fn tokens(keys: &str, of: &str) -> Tokens {
        Tokens::new(&InternalKeys::parse(keys).unwrap(), of)
    }

    #[test]
    fn a_token_opens_under_its_own_seal_only() {
        let pages = tokens(OLD, "pages");
        let seal = pages.seal(ACCOUNT, b"projects");
        for body in [&b""[..], b"a", &[7; 300]] {
            let token = seal.token(body);
            assert_eq!(seal.open(&token).as_deref(), Some(body));
            assert_eq!(pages.seal(ACCOUNT, b"scenes").open(&token), None, "another listing's");
            assert_eq!(pages.seal(Uuid::from_u128(2), b"projects").open(&token), None, "another account's");
            assert_eq!(tokens(OLD, "watches").seal(ACCOUNT, b"projects").open(&token), None, "of another use");
            assert_eq!(tokens(NEW, "pages").seal(ACCOUNT, b"projects").open(&token), None, "of another installation");
            for at in 0..token.len() {
                let mut forged = token.clone().into_bytes();
                forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
                assert_eq!(seal.open(&String::from_utf8(forged).unwrap()), None, "{at}");
            }
            assert_eq!(seal.open(&token[1..]), None);
            assert_eq!(seal.open(&format!("{token}A")), None);
        }
        let empty_mac = URL_SAFE_NO_PAD.encode([0; MAC_BYTES]);
        for wrong in ["", "x", "é", "====", "AAAAAAAAAAA", &empty_mac] {
            assert_eq!(seal.open(wrong), None, "{wrong}");
        }
    }

    /// While keys change, processes with either list of them serve the same clients.
    #[test]
    fn tokens_outlive_a_change_of_keys_until_the_old_one_is_left_out() {
        let seal = |keys: &str| tokens(keys, "pages").seal(ACCOUNT, b"projects");
        let (old, behind, before, new) =
            (seal(OLD), seal(&format!("{OLD},{NEW}")), seal(&format!("{NEW},{OLD}")), seal(NEW));
        let body = b"body".to_vec();
        for (made, opens) in [(&old, &behind), (&behind, &before), (&before, &behind), (&old, &before), (&new, &before)]
        {
            assert_eq!(opens.open(&made.token(&body)), Some(body.clone()));
        }
        assert_eq!(new.open(&behind.token(&body)), None, "the old key is left out");
        assert_eq!(old.open(&before.token(&body)), None, "the new key signs as soon as it is first");
    }
}
