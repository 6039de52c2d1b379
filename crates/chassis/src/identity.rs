//! Who calls, between the services: a token that the caller signs for each call and the service verifies before anything else. The
//! gateway says with it for which account, by which key and with which scope it calls; the other services say who they are.
//!
//! Invariants: a token holds for one service, for a minute, and for nothing but the scope or the name that it says; who has none of
//! the shared keys can make none. Nothing is kept of a token that was verified: a call pays for one MAC.

use std::{
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderName, HeaderValue};
use uuid::Uuid;

use crate::keyring::{InternalKeys, Keyring, MAC_BYTES};

/// The metadata of a call that carries its token.
pub const HEADER: HeaderName = HeaderName::from_static("x-rushes-identity");
/// The name of the operators' commands among the services.
pub const OPERATOR: &str = "operator";
/// How long a token holds; the clocks of two machines may differ by less than what is left of it.
pub const LIFETIME: Duration = Duration::from_secs(60);
/// How long a token may be shown again once it was made, so that three quarters of its time are left for the call and for clocks.
pub const REUSE: Duration = Duration::from_secs(15);

const PURPOSE: &str = "calls between services";
/// A MAC as base64url without padding.
const MAC_TEXT: usize = (MAC_BYTES * 8).div_ceil(6);

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    /// The account on whose behalf, if on any.
    pub account: Option<Uuid>,
    /// By what right.
    pub by: By<'a>,
}

/// By what right somebody calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By<'a> {
    /// An API key, for public methods.
    Key {
        /// Its id; nil for the operators' commands, which have the shared keys and need no key of an account.
        id: Uuid,
        /// What it may do in this call: names of scopes with `+` between them.
        scopes: &'a str,
    },
    /// A service, for internal methods.
    Service(&'a str),
}

/// Why a token is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is none.
    Missing,
    /// None of the shared keys has signed it.
    Forged,
    /// It was made for another service.
    Elsewhere,
    /// Its time is over.
    Expired,
}

impl Refused {
    /// The reason's name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Forged => "forged",
            Self::Elsewhere => "elsewhere",
            Self::Expired => "expired",
        }
    }
}

/// Signs and verifies tokens; clones share the keys.
#[derive(Clone, Debug)]
pub struct Identities(Arc<Keyring>);

impl Identities {
    /// Tokens that are signed with these keys.
    #[must_use]
    pub fn new(keys: &InternalKeys) -> Self {
        Self(Arc::new(keys.of(PURPOSE)))
    }

    /// A token for calls to `service` from now on.
    #[must_use]
    pub fn sign(&self, identity: &Identity<'_>, service: &str) -> HeaderValue {
        self.sign_at(identity, service, SystemTime::now())
    }

    /// A token for calls to `service` that is made at `now`.
    #[must_use]
    pub fn sign_at(&self, identity: &Identity<'_>, service: &str, now: SystemTime) -> HeaderValue {
        let expiry = seconds(now + LIFETIME);
        // Long enough for every token of ours, so that it is allocated once.
        let mut text = String::with_capacity(224);
        let kind = if matches!(identity.by, By::Key { .. }) { "k" } else { "s" };
        push(&mut text, kind);
        push(&mut text, expiry.to_string());
        push(&mut text, service);
        push_id(&mut text, identity.account);
        match identity.by {
            By::Key { id, scopes } => {
                push_id(&mut text, Some(id));
                push(&mut text, scopes);
            }
            By::Service(name) => push(&mut text, name),
        }
        let mac = self.0.sign(&[text.as_bytes()]);
        URL_SAFE_NO_PAD.encode_string(mac, &mut text);
        // Names of services and scopes are ASCII; were one not, the token would be nobody's.
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("-"))
    }

    /// Who calls `service` with this token at `now`.
    ///
    /// # Errors
    /// Why the token is not believed.
    pub fn verify<'a>(&self, token: &'a HeaderValue, service: &str, now: SystemTime) -> Result<Identity<'a>, Refused> {
        let text = token.to_str().map_err(|_| Refused::Forged)?;
        let at = text.len().checked_sub(MAC_TEXT).ok_or(Refused::Forged)?;
        let (signed, mac) = text.split_at_checked(at).ok_or(Refused::Forged)?;
        let mut bytes = [0; MAC_BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(mac, &mut bytes).map_err(|_| Refused::Forged)?;
        if length != MAC_BYTES || !self.0.verify(&[signed.as_bytes()], &bytes) {
            return Err(Refused::Forged);
        }
        // From here on every part is one of ours.
        let mut parts = signed.split_terminator('.');
        let mut next = || parts.next().ok_or(Refused::Forged);
        let (kind, expiry, audience, account) = (next()?, next()?, next()?, next()?);
        if audience != service {
            return Err(Refused::Elsewhere);
        }
        let expiry = u64::from_str(expiry).map_err(|_| Refused::Forged)?;
        if seconds(now) >= expiry {
            return Err(Refused::Expired);
        }
        let account = match account {
            "-" => None,
            id => Some(Uuid::try_parse(id).map_err(|_| Refused::Forged)?),
        };
        let by = match kind {
            "k" => By::Key { id: Uuid::try_parse(next()?).map_err(|_| Refused::Forged)?, scopes: next()? },
            _ => By::Service(next()?),
        };
        Ok(Identity { account, by })
    }
}

impl By<'_> {
    /// Whether it is a key with this scope.
    #[must_use]
    pub fn has_scope(&self, wanted: &str) -> bool {
        matches!(self, Self::Key { scopes, .. } if scopes.split('+').any(|scope| scope == wanted))
    }
}

fn push(text: &mut String, part: impl AsRef<str>) {
    text.push_str(part.as_ref());
    text.push('.');
}

fn push_id(text: &mut String, id: Option<Uuid>) {
    match id {
        Some(id) => push(text, id.simple().encode_lower(&mut Uuid::encode_buffer())),
        None => push(text, "-"),
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Tokens that one process shows to one service; the one without an account is made once in [`REUSE`].
#[derive(Debug)]
pub(crate) struct Shown {
    identities: Identities,
    by: By<'static>,
    last: Mutex<Option<(Instant, HeaderValue)>>,
}

impl Shown {
    pub(crate) fn new(keys: &InternalKeys, by: By<'static>) -> Self {
        Self { identities: Identities::new(keys), by, last: Mutex::default() }
    }

    /// A token for `service`, on behalf of `account`.
    pub(crate) fn to(&self, service: &str, account: Option<Uuid>) -> HeaderValue {
        let identity = Identity { account, by: self.by };
        if account.is_some() {
            return self.identities.sign(&identity, service);
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, token)) = last.as_ref().filter(|(made, _)| made.elapsed() < REUSE) {
            return token.clone();
        }
        let token = self.identities.sign(&identity, service);
        *last = Some((Instant::now(), token.clone()));
        token
    }
}

#[cfg(test)]
mod tests;
