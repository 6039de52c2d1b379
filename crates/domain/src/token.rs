//! Opaque tokens that a client hands back: a body, and a checksum over it with the account and what it is for, so that a
//! token made up, altered, or carried to another account or use is refused, not obeyed.
//!
//! It is no secret and no proof of a right: every query names its account all the same.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::id::AccountId;

const SUM: usize = 8;

/// What the tokens of one account for one use have in common; cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct Seal(Fnv);

impl Seal {
    /// The seal of `account` for `purpose`, which names all that a token must not be carried to or from.
    #[must_use]
    pub fn new(account: AccountId, purpose: &[u8]) -> Self {
        Self(Fnv::new().over(account.0.as_bytes()).over(purpose))
    }

    /// The token with this body.
    #[must_use]
    pub fn token(self, body: &[u8]) -> String {
        let mut bytes = Vec::with_capacity(body.len() + SUM);
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(&self.0.over(body).sum().to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The body of a token; nothing when this seal did not make it.
    #[must_use]
    pub fn open(self, token: &str) -> Option<Vec<u8>> {
        let mut bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let body = bytes.len().checked_sub(SUM)?;
        let sum = self.0.over(&bytes[..body]).sum().to_be_bytes();
        if bytes[body..] != sum {
            return None;
        }
        bytes.truncate(body);
        Some(bytes)
    }
}

/// FNV-1a, 64 bits: tells accidents and tinkering, keeps no secret.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fnv(u64);

impl Fnv {
    pub(crate) const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn over(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)))
    }

    pub(crate) const fn sum(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_under_its_own_seal_only() {
        let account = AccountId::new();
        let seal = Seal::new(account, b"watch");
        for body in [&b""[..], b"a", &[7; 300]] {
            let token = seal.token(body);
            assert_eq!(seal.open(&token).as_deref(), Some(body));
            assert_eq!(Seal::new(account, b"other").open(&token), None);
            assert_eq!(Seal::new(AccountId::new(), b"watch").open(&token), None);
            for at in 0..token.len() {
                let mut forged = token.clone().into_bytes();
                forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
                assert_eq!(seal.open(&String::from_utf8(forged).unwrap()), None, "{at}");
            }
            assert_eq!(seal.open(&token[1..]), None);
            assert_eq!(seal.open(&format!("{token}A")), None);
        }
        for wrong in ["", "x", "é", "====", "AAAAAAAAAAA"] {
            assert_eq!(seal.open(wrong), None, "{wrong}");
        }
    }
}
