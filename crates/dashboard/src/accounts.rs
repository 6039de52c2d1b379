//! Accounts and their API keys.
//!
//! Invariant: an API key exists in full only in the answer to the request that made it; what is stored and cached is its
//! SHA-256, from which it cannot be had.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::id::{AccountId, NoticeId};
use domain::name::ApiKeyName;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::cache::Keys;
use crate::error::{Error, Violation};
use crate::notices::WELCOME;
use crate::store::Store;

/// What a key may be for.
pub(crate) const SCOPES: [&str; 4] = ["read", "write", "generate", OPERATE];
/// What a key is for only when asked for by name: it reaches across accounts. A key without scopes given has all others.
pub(crate) const OPERATE: &str = "operate";

/// What an account says of itself.
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

/// What is asked of a new key.
#[derive(Clone, Debug)]
pub(crate) struct KeyDraft {
    pub(crate) scopes: Vec<String>,
    pub(crate) expire_time: Option<OffsetDateTime>,
}

/// What is known of a key.
#[derive(Clone, Debug)]
pub(crate) struct ApiKey {
    pub(crate) name: ApiKeyName,
    pub(crate) prefix: String,
    pub(crate) scopes: Vec<String>,
    pub(crate) version: i64,
    pub(crate) expire_time: Option<OffsetDateTime>,
    pub(crate) revoke_time: Option<OffsetDateTime>,
}

/// A key in full: `rsk_` and 256 random bits in base64url. Its debug form does not show it.
pub(crate) struct Secret(String);

impl Secret {
    /// How much of a key is shown to recognise it by: `rsk_` and 24 of its bits.
    const PREFIX: usize = 8;

    /// A new key, from the operating system's source of randomness.
    fn new() -> Result<Self, Error> {
        let mut random = [0; 32];
        getrandom::fill(&mut random)?;
        Ok(Self(format!("rsk_{}", URL_SAFE_NO_PAD.encode(random))))
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

/// What can be done with accounts and keys.
#[derive(Clone)]
pub(crate) struct Accounts {
    store: Store,
    keys: Keys,
}

impl Accounts {
    pub(crate) fn new(store: Store, keys: Keys) -> Self {
        Self { store, keys }
    }

    /// Creates an account, with a notice that welcomes it.
    pub(crate) async fn create(&self, profile: Profile) -> Result<Account, Error> {
        self.store.create_account(profile, NoticeId::new(), WELCOME).await
    }

    /// Creates a key, which is shown in full here and never again.
    pub(crate) async fn create_key(&self, account: AccountId, draft: KeyDraft) -> Result<(ApiKey, Secret), Error> {
        let secret = Secret::new()?;
        let Some(key) = self.store.create_api_key(account, &draft, &secret).await? else {
            return Err(Error::Invalid(vec![Violation {
                field: "expire_time".to_owned(),
                reason: "INPUT_SCHEMA_VIOLATION",
                should: "must be in the future".to_owned(),
            }]));
        };
        // Someone may have tried it before it was made; what was remembered then is wrong now.
        self.keys.wrote(&secret.sha256(), key.version).await;
        Ok((key, secret))
    }

    /// Ends a key for good; one that has ended stays as it is.
    pub(crate) async fn revoke_key(&self, name: ApiKeyName) -> Result<ApiKey, Error> {
        let (key, sha256) = self.store.revoke_api_key(name).await?;
        self.keys.wrote(&sha256, key.version).await;
        Ok(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_new_each_time_and_its_debug_form_hides_it() {
        let (one, two) = (Secret::new().unwrap(), Secret::new().unwrap());
        assert_ne!(one.reveal(), two.reveal());
        assert_eq!(one.reveal().len(), 4 + 43);
        assert!(one.reveal().starts_with(one.prefix()) && one.prefix().starts_with("rsk_"));
        assert!(!format!("{one:?}").contains(&one.reveal()[Secret::PREFIX..]));
    }
}
