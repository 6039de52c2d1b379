//! Accounts and their API keys.
//!
//! Invariant: an API key exists in full only in [`Secret`], from which the answer to the request that made it is written.
//! Only its SHA-256 is stored and cached.

use std::fmt;

use domain::api_key;
use domain::id::AccountId;
use domain::name::ApiKeyName;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

/// Every scope that a key may have.
pub(crate) const SCOPES: [&str; 4] = ["read", "write", "generate", OPERATE];
/// The scope that reaches across accounts. A key has it only when it is asked for by name; a key created without scopes
/// has all the others.
pub(crate) const OPERATE: &str = "operate";

/// The name and e-mail address of an account.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) display_name: String,
    pub(crate) email: String,
}

/// An account as stored.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) id: AccountId,
    pub(crate) profile: Profile,
    pub(crate) create_time: OffsetDateTime,
}

/// A key to be created.
#[derive(Clone, Debug)]
pub(crate) struct NewApiKey {
    pub(crate) scopes: Vec<String>,
    pub(crate) expire_time: Option<OffsetDateTime>,
}

/// A key as stored, without its secret.
#[derive(Clone, Debug)]
pub(crate) struct ApiKey {
    pub(crate) name: ApiKeyName,
    pub(crate) prefix: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) version: i64,
    pub(crate) expire_time: Option<OffsetDateTime>,
    pub(crate) revoke_time: Option<OffsetDateTime>,
}

/// A key after its revocation.
#[derive(Debug)]
pub(crate) struct RevokedKey {
    pub(crate) key: ApiKey,
    /// The hash under which the key is cached.
    pub(crate) sha256: Vec<u8>,
    /// Whether this request revoked it; an earlier one otherwise.
    pub(crate) is_new: bool,
}

/// A key in full, in the form of [`api_key`]. Its debug form does not show it.
pub(crate) struct Secret(String);

impl Secret {
    /// The length of what is shown to recognise a key by: `rsk_` and 24 of its bits.
    const PREFIX: usize = 8;

    /// Makes a new key from the operating system's source of randomness.
    pub(crate) fn generate() -> Result<Self, getrandom::Error> {
        let mut random = [0; 32];
        getrandom::fill(&mut random)?;
        Ok(Self(api_key::from_random(random)))
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    pub(crate) fn sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.0[..Self::PREFIX]
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({}…)", self.prefix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_new_each_time_and_its_debug_form_hides_it() {
        let (one, two) = (Secret::generate().unwrap(), Secret::generate().unwrap());
        assert_ne!(one.reveal(), two.reveal());
        assert!(api_key::is_well_formed(one.reveal()));
        assert!(one.reveal().starts_with(one.prefix()) && one.prefix().starts_with("rsk_"));
        assert!(!format!("{one:?}").contains(&one.reveal()[Secret::PREFIX..]));
    }
}
