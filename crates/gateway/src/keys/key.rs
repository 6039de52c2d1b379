//! An API key as dashboard describes it: its account with what operators have set for it, its scopes, its networks, its end, and the
//! tokens that say to services who calls by it.

use std::{
    net::IpAddr,
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use chassis::identity::{By, Identities, Identity, REUSE};
use domain::{name::ApiKeyName, network::Network};
use http::HeaderValue;
use proto::{Scope, accounts::v1::ApiKey};
use uuid::Uuid;

use crate::{
    error::{Error, Refusal},
    limits::{Caller, OwnLimits, Owners},
};

/// A key that dashboard knows.
#[derive(Debug)]
pub(crate) struct Key {
    id: Uuid,
    name: String,
    account: Uuid,
    scopes: Vec<String>,
    expire_time: Option<SystemTime>,
    is_revoked: bool,
    is_suspended: bool,
    networks: Vec<Network>,
    own_limits: OwnLimits,
    /// Looked up by the first call, for as long as this answer is acted on.
    owners: OnceLock<Owners>,
    tokens: Mutex<Vec<Token>>,
}

/// A token for the calls of a key to one service with one scope.
#[derive(Debug)]
struct Token {
    service: &'static str,
    scope: Scope,
    made: Instant,
    value: HeaderValue,
}

impl Key {
    pub(super) fn parse(key: ApiKey) -> Result<Self, Error> {
        let account = key
            .account
            .strip_prefix("accounts/")
            .and_then(|id| Uuid::try_parse(id).ok())
            .ok_or(Error::UnreadableKey("the account"))?;
        let id = ApiKeyName::parse(&key.name).map_err(|_| Error::UnreadableKey("the name"))?.key;
        // A network that cannot be read must not make the key one that is bound to nothing.
        let networks = key.allowed_networks.iter().map(|network| network.parse());
        let networks = networks.collect::<Result<_, _>>().map_err(|_| Error::UnreadableKey("a network"))?;
        Ok(Self {
            id: id.0,
            name: key.name,
            account,
            owners: OnceLock::new(),
            tokens: Mutex::default(),
            scopes: key.scopes,
            expire_time: key.expire_time.map(|time| {
                let seconds = u64::try_from(time.seconds).unwrap_or(0);
                SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
            }),
            is_revoked: key.revoke_time.is_some(),
            is_suspended: key.account_suspend_time.is_some(),
            networks,
            own_limits: OwnLimits { limits: key.account_limits, version: key.account_version },
        })
    }

    /// `accounts/{account}/apiKeys/{key}`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn account(&self) -> Uuid {
        self.account
    }

    /// A token that says to `service` that this key calls. It names `scope` alone, which the method asks for: whoever takes it away from a
    /// read does with it nothing but reads. Calls within some seconds share one.
    pub(crate) fn token(&self, identities: &Identities, service: &'static str, scope: Scope) -> HeaderValue {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        // At most one for each service and scope, a dozen.
        let found = tokens.iter().position(|token| token.service == service && token.scope == scope);
        if let Some(token) = found.and_then(|at| tokens.get(at)).filter(|token| token.made.elapsed() < REUSE) {
            return token.value.clone();
        }
        let by = By::Key { id: self.id, scopes: scope.as_str() };
        let value = identities.sign(&Identity { account: Some(self.account), by }, service);
        let token = Token { service, scope, made: Instant::now(), value: value.clone() };
        match found.and_then(|at| tokens.get_mut(at)) {
            Some(old) => *old = token,
            None => tokens.push(token),
        }
        value
    }

    /// Who its calls are counted for.
    pub(crate) fn caller(&self) -> Caller<'_> {
        Caller { key: &self.name, account: self.account, own: &self.own_limits, owners: &self.owners }
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
