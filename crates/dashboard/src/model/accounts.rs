//! Accounts and their API keys.
//!
//! Invariant: an API key exists in full only in [`Secret`], from which the answer to the request that made it is written.
//! Only its SHA-256 is stored and cached.

use std::fmt;

use domain::api_key;
use domain::id::AccountId;
use domain::name::ApiKeyName;
use domain::network::Network;
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
    pub(crate) suspension: Option<Suspension>,
    /// What operators have set for it; `None` where they have set nothing.
    pub(crate) limits: Option<Limits>,
    pub(crate) erasure: Option<Erasure>,
}

/// Since when an account is being erased, and when nothing was left of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Erasure {
    pub(crate) since: OffsetDateTime,
    pub(crate) end: Option<OffsetDateTime>,
}

/// Since when an account is suspended, and why.
#[derive(Clone, Debug)]
pub(crate) struct Suspension {
    pub(crate) since: OffsetDateTime,
    pub(crate) note: String,
}

/// Calls a second, and at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) per_second: u32,
    pub(crate) burst: u32,
}

/// What an account may ask of the gateways and have in storage in place of the defaults; `None` where a default holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) people: Option<Rate>,
    pub(crate) polls: Option<Rate>,
    pub(crate) background: Option<Rate>,
    pub(crate) endpoint_tests: Option<Rate>,
    pub(crate) calls: Option<u32>,
    pub(crate) uploads: Option<u32>,
    pub(crate) watches: Option<u32>,
    /// Bytes in storage, at most `i64::MAX`.
    pub(crate) storage_bytes: Option<u64>,
    /// Assets in storage, at most `i64::MAX`.
    pub(crate) assets: Option<u64>,
}

impl Limits {
    /// Those that the gateways keep to.
    pub(crate) fn of_gateways(self) -> Self {
        Self { storage_bytes: None, assets: None, ..self }
    }
}

/// An account after an operator's change, with what is cached of its keys.
#[derive(Debug)]
pub(crate) struct ChangedAccount {
    pub(crate) account: Account,
    /// The hash and the new version of each key that has not ended, or that is gone.
    pub(crate) keys: Vec<(Vec<u8>, i64)>,
    /// Whether this request changed it; an earlier one otherwise.
    pub(crate) is_new: bool,
}

/// A key to be created.
#[derive(Clone, Debug)]
pub(crate) struct NewApiKey {
    pub(crate) scopes: Vec<String>,
    pub(crate) expire_time: Option<OffsetDateTime>,
    /// Where calls may come from; empty: from anywhere.
    pub(crate) networks: Vec<Network>,
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
    /// Where calls may come from; empty: from anywhere.
    pub(crate) networks: Vec<Network>,
}

/// A key with what the gateways need of its account.
#[derive(Clone, Debug)]
pub(crate) struct KeyWithAccount {
    pub(crate) key: ApiKey,
    pub(crate) suspend_time: Option<OffsetDateTime>,
    pub(crate) limits: Option<Limits>,
    /// Rises with every change of the account's suspension and limits.
    pub(crate) account_version: i64,
}

/// A key after a change.
#[derive(Debug)]
pub(crate) struct ChangedKey {
    pub(crate) key: ApiKey,
    /// The hash under which the key is cached.
    pub(crate) sha256: Vec<u8>,
    /// Whether this request changed it; an earlier one otherwise.
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
