//! What the gateway knows of an API key: whose it is, what it may do, and when it ends.

use std::time::{Duration, SystemTime};

use chassis::status::Failure;
use http::HeaderValue;
use proto::{Scope, accounts::v1::ApiKey};
use uuid::Uuid;

/// A key that dashboard knows, with the headers that it becomes.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    account: Uuid,
    scopes: Vec<String>,
    ends: Option<SystemTime>,
    revoked: bool,
    account_header: HeaderValue,
    scopes_header: HeaderValue,
}

/// Dashboard's answer makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("{0} cannot be read from an API key")]
struct Unreadable(&'static str);

impl Key {
    pub(super) fn read(key: ApiKey) -> Result<Self, Failure> {
        let unreadable = |what| Failure::internal(Unreadable(what));
        let account = key
            .account
            .strip_prefix("accounts/")
            .and_then(|id| Uuid::try_parse(id).ok())
            .ok_or_else(|| unreadable("the account"))?;
        let scopes = key.scopes.join(" ");
        Ok(Self {
            account,
            account_header: HeaderValue::try_from(account.hyphenated().to_string())
                .map_err(|_| unreadable("the account"))?,
            scopes_header: HeaderValue::try_from(scopes).map_err(|_| unreadable("the scopes"))?,
            scopes: key.scopes,
            ends: key.expire_time.map(|time| {
                let seconds = u64::try_from(time.seconds).unwrap_or(0);
                SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
            }),
            revoked: key.revoke_time.is_some(),
        })
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

    /// Refuses a key that has ended. The end of a key is compared with this machine's clock, because the answer that
    /// holds it may be older than the end.
    pub(super) fn alive(&self, now: SystemTime) -> Result<(), Failure> {
        if self.revoked {
            return Err(Failure::unauthenticated("KEY_EXPIRED", "this API key has been revoked"));
        }
        if self.ends.is_some_and(|ends| ends <= now) {
            return Err(Failure::unauthenticated("KEY_EXPIRED", "this API key has expired"));
        }
        Ok(())
    }

    /// Refuses a key without the scope that a method needs.
    pub(crate) fn check(&self, scope: Scope) -> Result<(), Failure> {
        let scope = scope.as_str();
        if self.scopes.iter().any(|has| has == scope) {
            return Ok(());
        }
        let message = format!("this API key lacks the scope `{scope}`");
        Err(Failure::denied("SCOPE_MISSING", message).and_metadata("scope", scope))
    }
}
