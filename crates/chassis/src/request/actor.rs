//! Who acts, as the audit log names it: the API key that a call came with, or the internal caller.
//!
//! Invariant: an actor is read from what the gateway and our own processes set, never from what a request says in its message.

use tonic::metadata::MetadataMap;

use super::caller;

/// Metadata with the id of the API key that a call came with, a hyphenated UUID. The gateway sets it.
pub const KEY: &str = "x-rushes-key";
/// Metadata with the name of the process that calls past the gateway, such as `operator`.
pub const SERVICE: &str = "x-rushes-service";
/// The longest name of a process that is taken, in characters.
const MAX_SERVICE: usize = 60;

/// Who acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor(String);

impl Actor {
    /// Who makes this request: `accounts/{account}/apiKeys/{key}`, `accounts/{account}`, or `service: {name}`.
    #[must_use]
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        let metadata = request.metadata();
        if let Ok(caller) = caller::Caller::of(request) {
            let account = caller.account;
            return Self(match read(metadata, KEY).and_then(|key| uuid::Uuid::try_parse(key).ok()) {
                Some(key) => format!("accounts/{account}/apiKeys/{key}"),
                None => format!("accounts/{account}"),
            });
        }
        let name: String = read(metadata, SERVICE).unwrap_or("unknown").chars().take(MAX_SERVICE).collect();
        Self(format!("service: {name}"))
    }

    /// Its name in the audit log.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn read<'m>(metadata: &'m MetadataMap, name: &str) -> Option<&'m str> {
    metadata.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(metadata: &[(&'static str, &str)]) -> String {
        let mut request = tonic::Request::new(());
        for (name, value) in metadata {
            request.metadata_mut().insert(*name, value.parse().unwrap());
        }
        Actor::of(&request).0
    }

    #[test]
    fn a_key_is_named_in_full_and_whoever_shows_none_by_account_or_process() {
        const ACCOUNT: &str = "0198f2a4-0000-7000-8000-000000000001";
        const OF_KEY: &str = "0198f2a4-0000-7000-8000-000000000002";
        let both = [(caller::ACCOUNT, ACCOUNT), (KEY, OF_KEY)];
        assert_eq!(actor(&both), format!("accounts/{ACCOUNT}/apiKeys/{OF_KEY}"));
        assert_eq!(actor(&both[..1]), format!("accounts/{ACCOUNT}"));
        assert_eq!(actor(&[(caller::ACCOUNT, ACCOUNT), (KEY, "root")]), format!("accounts/{ACCOUNT}"));
        assert_eq!(actor(&[(SERVICE, "operator")]), "service: operator");
        assert_eq!(actor(&[(KEY, OF_KEY)]), "service: unknown", "a key is nobody's without its account");
        assert_eq!(actor(&[(SERVICE, &"s".repeat(500))]).len(), "service: ".len() + MAX_SERVICE);
    }
}
