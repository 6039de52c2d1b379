//! Accounts and their API keys: what each request does.

use chassis::fields::{Invalid, SCHEMA};
use domain::id::{AccountId, NoticeId};
use domain::name::ApiKeyName;

use crate::cache::CachedKeys;
use crate::error::Error;
use crate::events;
use crate::model::{Account, ApiKey, NewApiKey, Profile, RevokedKey, Secret};
use crate::notices::WELCOME;
use crate::store::Store;

/// The rules of accounts and keys.
#[derive(Clone)]
pub(crate) struct Accounts {
    store: Store,
    keys: CachedKeys,
}

impl Accounts {
    pub(crate) fn new(store: Store, keys: CachedKeys) -> Self {
        Self { store, keys }
    }

    /// Creates an account, with a notice that welcomes it.
    pub(crate) async fn create(&self, profile: Profile) -> Result<Account, Error> {
        let account = self.store.create_account(profile, NoticeId::new(), WELCOME).await?;
        events::account_created(account.id);
        Ok(account)
    }

    /// Creates a key, which is shown in full here and never again.
    pub(crate) async fn create_key(&self, account: AccountId, new: NewApiKey) -> Result<(ApiKey, Secret), Error> {
        let secret = Secret::generate()?;
        let Some(key) = self.store.create_api_key(account, &new, &secret).await? else {
            return Err(Invalid::field("expire_time", SCHEMA, "must be in the future").into());
        };
        // Somebody may have tried this key before it existed, and the cache may hold that there is none.
        self.keys.wrote(&secret.sha256(), key.version).await;
        events::api_key_created(&key);
        Ok((key, secret))
    }

    /// Ends a key for good; one that has ended stays as it is.
    pub(crate) async fn revoke_key(&self, name: ApiKeyName) -> Result<ApiKey, Error> {
        let RevokedKey { key, sha256, is_new } = self.store.revoke_api_key(name).await?;
        self.keys.wrote(&sha256, key.version).await;
        if is_new {
            events::api_key_revoked(&key);
        }
        Ok(key)
    }
}
