//! Who acts, as the audit log names it: the API key that a call came with, or the service that called by itself.
//!
//! Invariant: an actor is what the server has verified of the caller, never what a request says.

use super::caller::Verified;
use crate::identity::OPERATOR;

/// Who acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor(String);

impl Actor {
    /// Who makes this request: `accounts/{account}/apiKeys/{key}`, `accounts/{account}`, or `service: {name}`.
    #[must_use]
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        Self(match Verified::of(request) {
            Some(Verified { service: Some(service), .. }) => format!("service: {service}"),
            // The operators' commands have the shared keys, and the id of no key.
            Some(Verified { key: Some(key), .. }) if key.is_nil() => format!("service: {OPERATOR}"),
            Some(Verified { account: Some(account), key: Some(key), .. }) => {
                format!("accounts/{account}/apiKeys/{key}")
            }
            Some(Verified { account: Some(account), .. }) => format!("accounts/{account}"),
            _ => "service: unknown".to_owned(),
        })
    }

    /// Its name in the audit log.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn actor(verified: Option<Verified>) -> String {
        let mut request = tonic::Request::new(());
        if let Some(verified) = verified {
            request.extensions_mut().insert(verified);
        }
        request.metadata_mut().insert("x-rushes-service", "somebody".parse().unwrap());
        Actor::of(&request).0
    }

    #[test]
    fn a_key_is_named_in_full_and_whoever_shows_none_by_its_service() {
        let (account, key) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let of = |account, key, service| actor(Some(Verified { account, key, service }));
        assert_eq!(of(Some(account), Some(key), None), format!("accounts/{account}/apiKeys/{key}"));
        assert_eq!(of(Some(account), None, None), format!("accounts/{account}"));
        assert_eq!(of(Some(account), Some(Uuid::nil()), None), "service: operator");
        assert_eq!(of(None, None, Some("operator")), "service: operator");
        assert_eq!(of(Some(account), None, Some("generation-worker")), "service: generation-worker");
        assert_eq!(of(None, Some(key), None), "service: unknown", "a key is nobody's without its account");
        assert_eq!(actor(None), "service: unknown", "no metadata is believed");
    }
}
