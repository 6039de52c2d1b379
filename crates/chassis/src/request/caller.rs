//! Who is asking. The gateway authenticates, removes whatever `x-rushes-*` metadata came from outside and sets its own;
//! a service behind it reads the account from there and from nowhere else.

use tonic::metadata::MetadataValue;
use uuid::Uuid;

use crate::status::Failure;

/// Prefix of all metadata that only Rushes' own processes may set.
pub const INTERNAL_PREFIX: &str = "x-rushes-";
/// Metadata with the account's id, a hyphenated UUID.
pub const ACCOUNT: &str = "x-rushes-account";
/// Metadata with the scopes of the credential, separated by spaces.
pub const SCOPES: &str = "x-rushes-scopes";

/// The authenticated account of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The account that every query of this request is about.
    pub account: Uuid,
    /// What the credential may do; empty when the gateway sent none.
    pub scopes: Vec<String>,
}

impl Caller {
    /// The caller of `request`.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when the request did not come through the gateway.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, Failure> {
        let read = |name| request.metadata().get(name).and_then(|v| v.to_str().ok());
        let account = read(ACCOUNT)
            .and_then(|text| Uuid::try_parse(text).ok())
            .ok_or_else(|| Failure::unauthenticated("KEY_MISSING", "the request carries no account"))?;
        let scopes = read(SCOPES).unwrap_or_default().split_ascii_whitespace().map(str::to_owned).collect();
        Ok(Self { account, scopes })
    }

    /// A caller with no scopes, for calls that a service makes on an account's behalf.
    #[must_use]
    pub fn account(account: Uuid) -> Self {
        Self { account, scopes: Vec::new() }
    }

    /// Sets this caller on an outgoing request between Rushes' own processes.
    pub fn attach<T>(&self, request: &mut tonic::Request<T>) {
        let metadata = request.metadata_mut();
        if let Ok(value) = MetadataValue::try_from(self.account.hyphenated().to_string()) {
            metadata.insert(ACCOUNT, value);
        }
        if let Ok(value) = MetadataValue::try_from(self.scopes.join(" ")) {
            metadata.insert(SCOPES, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_attached_is_read_back() {
        let caller = Caller { account: Uuid::from_u128(7), scopes: vec!["projects.read".into(), "work".into()] };
        let mut request = tonic::Request::new(());
        caller.attach(&mut request);
        assert_eq!(Caller::of(&request).unwrap(), caller);
    }

    #[test]
    fn a_request_without_an_account_has_no_caller() {
        let mut request = tonic::Request::new(());
        assert!(Caller::of(&request).is_err());
        request.metadata_mut().insert(ACCOUNT, MetadataValue::from_static("root"));
        assert!(Caller::of(&request).is_err());
    }
}
