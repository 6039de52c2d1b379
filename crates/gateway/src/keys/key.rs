//! An API key as dashboard describes it: its account, its scopes, and its end.

use std::time::{Duration, SystemTime};

use http::HeaderValue;
use proto::{Scope, accounts::v1::ApiKey};
use uuid::Uuid;

use crate::error::{Error, Refusal};

/// A key that dashboard knows, with the headers that it becomes.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    name: String,
    account: Uuid,
    scopes: Vec<String>,
    expire_time: Option<SystemTime>,
    is_revoked: bool,
    account_header: HeaderValue,
    scopes_header: HeaderValue,
}

impl Key {
    pub(super) fn parse(key: ApiKey) -> Result<Self, Error> {
        let account = key
            .account
            .strip_prefix("accounts/")
            .and_then(|id| Uuid::try_parse(id).ok())
            .ok_or(Error::UnreadableKey("the account"))?;
        let scopes = key.scopes.join(" ");
        Ok(Self {
            name: key.name,
            account,
            account_header: HeaderValue::try_from(account.hyphenated().to_string())
                .map_err(|_| Error::UnreadableKey("the account"))?,
            scopes_header: HeaderValue::try_from(scopes).map_err(|_| Error::UnreadableKey("the scopes"))?,
            scopes: key.scopes,
            expire_time: key.expire_time.map(|time| {
                let seconds = u64::try_from(time.seconds).unwrap_or(0);
                SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
            }),
            is_revoked: key.revoke_time.is_some(),
        })
    }

    /// `accounts/{account}/apiKeys/{key}`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn account(&self) -> Uuid {
        self.account
    }

    pub(crate) fn account_header(&self) -> &HeaderValue {
        &self.account_header
    }

    pub(crate) fn scopes_header(&self) -> &HeaderValue {
        &self.scopes_header
    }

    /// Refuses a key that has ended. The expiry is compared with this machine's clock and not by dashboard, because the
    /// answer that holds it may be older than the expiry.
    pub(super) fn check_alive(&self, now: SystemTime) -> Result<(), Refusal> {
        if self.is_revoked {
            return Err(Refusal::Revoked);
        }
        if self.expire_time.is_some_and(|expiry| expiry <= now) {
            return Err(Refusal::Expired);
        }
        Ok(())
    }

    /// Refuses a key without the scope that a method needs.
    pub(crate) fn check_scope(&self, scope: Scope) -> Result<(), Error> {
        match self.scopes.iter().any(|has| has == scope.as_str()) {
            true => Ok(()),
            false => Err(Error::ScopeMissing(scope)),
        }
    }
}
