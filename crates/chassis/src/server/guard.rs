//! Who may call what at a service's two doors: public methods for keys with the method's scope at one, internal methods for the
//! services that the method names at the other.
//!
//! Invariants: a call that a guard lets in has a token of ours for this service that has not run out, and what the token says is
//! beside the request; a method of the other door is as unknown as one that does not exist.

use std::time::SystemTime;

use http::{HeaderMap, HeaderValue};

use super::methods::{Access, Method};
use crate::{
    identity::{self, By, Identities, Identity, Refused},
    metrics,
    request::caller::Verified,
    status::Failure,
};

/// What a door asks of every call.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    identities: Identities,
    /// The service that tokens must be for.
    service: &'static str,
}

impl Guard {
    pub(super) fn new(identities: Identities, service: &'static str) -> Self {
        Self { identities, service }
    }

    /// Takes the token out of a call's headers and says who calls.
    pub(super) fn admit(&self, method: &Method, headers: &mut HeaderMap) -> Result<Verified, Failure> {
        let token = headers.remove(identity::HEADER);
        let Some(access) = method.access else {
            return Err(Failure::unimplemented("there is no such method at this port"));
        };
        let identity = self.verify(token.as_ref()).map_err(|refused| {
            refuse(refused.as_str());
            Failure::unauthenticated("IDENTITY_REFUSED", sentence(refused))
        })?;
        match (access, identity.by) {
            (Access::Scope(scope), By::Key { id, .. }) if identity.by.has_scope(scope) => {
                Ok(Verified { account: identity.account, key: Some(id), service: None })
            }
            (Access::Scope(scope), _) => {
                refuse("scope");
                Err(Failure::denied("SCOPE_MISSING", format!("the call was not made with the scope {scope}"))
                    .and_metadata("scope", scope))
            }
            (Access::Services(names), By::Service(name)) if names.contains(&name) => {
                let service = names.iter().find(|known| **known == name).copied();
                Ok(Verified { account: identity.account, key: None, service })
            }
            (Access::Services(_), _) => {
                refuse("caller");
                Err(Failure::denied("CALLER_NOT_ALLOWED", "the caller is not one of those that may call this method"))
            }
        }
    }

    fn verify<'a>(&self, token: Option<&'a HeaderValue>) -> Result<Identity<'a>, Refused> {
        self.identities.verify(token.ok_or(Refused::Missing)?, self.service, SystemTime::now())
    }
}

fn refuse(reason: &'static str) {
    metrics::IDENTITIES_REFUSED.with([reason]).increment(1);
}

/// What to do, for who reads the log of a service that was refused.
fn sentence(refused: Refused) -> &'static str {
    match refused {
        Refused::Missing => "the call has no token of a service: it must come through the gateway or from a service",
        Refused::Forged => {
            "the call's token was signed with none of the keys here: RUSHES_INTERNAL_KEYS must be the same for all"
        }
        Refused::Elsewhere => "the call's token is for another service",
        Refused::Expired => "the call's token has run out: the clocks of the services may differ by half a minute",
    }
}
