//! An API key as dashboard describes it: its account with what operators have set for it, its scopes, its networks, and its end.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use domain::{name::ApiKeyName, network::Network};
use http::HeaderValue;
use proto::{Scope, accounts::v1::ApiKey, limits::v1::Limits};
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
    is_suspended: bool,
    networks: Vec<Network>,
    own_limits: OwnLimits,
    account_header: HeaderValue,
    scopes_header: HeaderValue,
    id_header: HeaderValue,
}

/// What operators have set for an account in place of the limits that are every account's.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OwnLimits {
    pub(crate) limits: Option<Limits>,
    /// Rises with every change, so that an answer that is older than another is known as such.
    pub(crate) version: i64,
}

impl Key {
    pub(super) fn parse(key: ApiKey) -> Result<Self, Error> {
        let account = key
            .account
            .strip_prefix("accounts/")
            .and_then(|id| Uuid::try_parse(id).ok())
            .ok_or(Error::UnreadableKey("the account"))?;
        let scopes = key.scopes.join(" ");
        let id = ApiKeyName::parse(&key.name).map_err(|_| Error::UnreadableKey("the name"))?.key;
        // A network that cannot be read must not make the key one that is bound to nothing.
        let networks = key.allowed_networks.iter().map(|network| network.parse());
        let networks = networks.collect::<Result<_, _>>().map_err(|_| Error::UnreadableKey("a network"))?;
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
            is_suspended: key.account_suspend_time.is_some(),
            networks,
            own_limits: OwnLimits { limits: key.account_limits, version: key.account_version },
            id_header: HeaderValue::try_from(id.to_string()).map_err(|_| Error::UnreadableKey("the name"))?,
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

    /// The key's id, by which the audit log names who acts.
    pub(crate) fn id_header(&self) -> &HeaderValue {
        &self.id_header
    }

    /// What operators have set for its account.
    pub(crate) fn own_limits(&self) -> OwnLimits {
        self.own_limits
    }

    /// Refuses a key that has ended, is bound to other networks than that of `address`, or whose account is suspended. The expiry is
    /// compared with this machine's clock and not by dashboard, because the answer that holds it may be older than the expiry.
    pub(super) fn check_usable(&self, now: SystemTime, address: IpAddr) -> Result<(), Refusal> {
        if self.is_revoked {
            return Err(Refusal::Revoked);
        }
        if self.expire_time.is_some_and(|expiry| expiry <= now) {
            return Err(Refusal::Expired);
        }
        if !self.networks.is_empty() && !self.networks.iter().any(|network| network.contains(address)) {
            return Err(Refusal::Address);
        }
        if self.is_suspended {
            return Err(Refusal::Suspended);
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
