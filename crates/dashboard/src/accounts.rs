//! Accounts and their API keys: what each request does.
//!
//! Invariant: who acts is stored with every change, in its transaction.

use chassis::fields::{Invalid, SCHEMA};
use chassis::request::actor::Actor;
use domain::id::{AccountId, NoticeId};
use domain::name::ApiKeyName;
use domain::network::Network;
use domain::page::{Cursor, Page};

use crate::cache::CachedKeys;
use crate::error::Error;
use crate::events;
use crate::model::{Account, ApiKey, ChangedAccount, ChangedKey, Limits, NewApiKey, Profile, Secret};
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
    pub(crate) async fn create(&self, profile: Profile, actor: &Actor) -> Result<Account, Error> {
        let account = self.store.create_account(profile, NoticeId::new(), WELCOME, actor).await?;
        events::account_created(account.id);
        Ok(account)
    }

    /// An account with what operators have set for it.
    pub(crate) async fn get(&self, account: AccountId) -> Result<Account, Error> {
        self.store.account(account).await
    }

    /// Refuses every call of an account until it is reactivated; what was started goes on. `by` is whose operator asks: who suspends
    /// their own account could not take it back.
    pub(crate) async fn suspend(
        &self,
        account: AccountId,
        note: &str,
        by: AccountId,
        actor: &Actor,
    ) -> Result<Account, Error> {
        if account == by {
            return Err(Error::OwnAccount);
        }
        let changed = self.publish(self.store.suspend_account(account, note, actor).await?).await;
        if changed.is_new {
            events::account_suspended(account, note);
        }
        Ok(changed.account)
    }

    /// Ends a suspension.
    pub(crate) async fn reactivate(&self, account: AccountId, actor: &Actor) -> Result<Account, Error> {
        let changed = self.publish(self.store.reactivate_account(account, actor).await?).await;
        if changed.is_new {
            events::account_reactivated(account);
        }
        Ok(changed.account)
    }

    /// Sets what an account may ask of the gateways and have in storage; without anything, what every account may.
    pub(crate) async fn set_limits(&self, account: AccountId, limits: Limits, actor: &Actor) -> Result<Account, Error> {
        let changed = self.publish(self.store.set_account_limits(account, limits, actor).await?).await;
        if changed.is_new {
            events::account_limits_set(account, limits != Limits::default());
        }
        Ok(changed.account)
    }

    /// Begins to erase an account that is suspended; one that is being erased stays as it is. `by` is whose operator asks.
    pub(crate) async fn erase(&self, account: AccountId, by: AccountId, actor: &Actor) -> Result<Account, Error> {
        if account == by {
            return Err(Error::OwnAccount);
        }
        let changed = self.publish(self.store.erase_account(account, actor).await?).await;
        if changed.is_new {
            events::account_erased(account);
        }
        Ok(changed.account)
    }

    /// An account, a page of its keys, and the cursor of the next one.
    pub(crate) async fn own(
        &self,
        account: AccountId,
        page: Page,
    ) -> Result<(Account, Vec<ApiKey>, Option<Cursor>), Error> {
        let found = self.store.account(account).await?;
        let mut keys = self.store.api_keys(account, page).await?;
        let next = page.cut(&mut keys, |key| Cursor { position: 0, id: key.name.key.0 });
        Ok((found, keys, next))
    }

    /// Creates a key, which is shown in full here and never again.
    pub(crate) async fn create_key(
        &self,
        account: AccountId,
        new: NewApiKey,
        actor: &Actor,
    ) -> Result<(ApiKey, Secret), Error> {
        let secret = Secret::generate()?;
        let Some(key) = self.store.create_api_key(account, &new, &secret, actor).await? else {
            return Err(Invalid::field("expire_time", SCHEMA, "must be in the future").into());
        };
        // Somebody may have tried this key before it existed, and the cache may hold that there is none.
        self.keys.wrote(&secret.sha256(), key.version).await;
        events::api_key_created(&key);
        Ok((key, secret))
    }

    /// Binds a key to other networks than before.
    pub(crate) async fn update_key(
        &self,
        name: ApiKeyName,
        networks: &[Network],
        actor: &Actor,
    ) -> Result<ApiKey, Error> {
        let ChangedKey { key, sha256, .. } = self.store.bind_api_key(name, networks, actor).await?;
        self.keys.wrote(&sha256, key.version).await;
        events::api_key_bound(&key);
        Ok(key)
    }

    /// Ends a key for good; one that has ended stays as it is.
    pub(crate) async fn revoke_key(&self, name: ApiKeyName, actor: &Actor) -> Result<ApiKey, Error> {
        let ChangedKey { key, sha256, is_new } = self.store.revoke_api_key(name, actor).await?;
        self.keys.wrote(&sha256, key.version).await;
        if is_new {
            events::api_key_revoked(&key);
        }
        Ok(key)
    }

    /// Tells the cache of each key whose account was changed.
    async fn publish(&self, changed: ChangedAccount) -> ChangedAccount {
        for (sha256, version) in &changed.keys {
            self.keys.wrote(sha256, *version).await;
        }
        changed
    }
}
