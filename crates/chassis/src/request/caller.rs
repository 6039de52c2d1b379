//! Who is asking. The server verifies the token of a call ([`crate::identity`]) and puts what it says beside the request; a handler
//! reads the account from there and from nowhere else, and no metadata is believed.

use uuid::Uuid;

use crate::status::Failure;

/// Prefix of all metadata that only Rushes' own processes may set.
pub const INTERNAL_PREFIX: &str = "x-rushes-";

/// The account of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The account that every query of this request is about.
    pub account: Uuid,
    /// The id of the API key that was shown; `None` where a service calls.
    pub key: Option<Uuid>,
}

/// Who a server has found to call, in the extensions of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The account on whose behalf, if on any.
    pub account: Option<Uuid>,
    /// The id of the API key, nil for the operators' commands; `None` where a service calls.
    pub key: Option<Uuid>,
    /// The service that calls, `operator` for the operators' commands; `None` where a key was shown.
    pub service: Option<&'static str>,
}

/// On whose behalf a request between the services goes out, in its extensions until the channel has signed it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnBehalf(pub(crate) Uuid);

impl Verified {
    /// Who calls, as the server has verified it.
    #[must_use]
    pub fn of<T>(request: &tonic::Request<T>) -> Option<Self> {
        request.extensions().get().copied()
    }
}

impl Caller {
    /// The caller of `request`.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` when the request is on no account's behalf.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<Self, Failure> {
        let verified = Verified::of(request);
        let caller = verified.and_then(|Verified { account, key, .. }| Some(Self { account: account?, key }));
        caller.ok_or_else(|| Failure::unauthenticated("KEY_MISSING", "the request carries no account"))
    }

    /// The caller of calls that a service makes on an account's behalf.
    #[must_use]
    pub fn account(account: Uuid) -> Self {
        Self { account, key: None }
    }

    /// Makes an outgoing request one on this account's behalf: the channel that it goes through signs it so.
    pub fn attach<T>(&self, request: &mut tonic::Request<T>) {
        request.extensions_mut().insert(OnBehalf(self.account));
    }
}

/// The account on whose behalf an outgoing request was made, taken out of its extensions.
pub fn take_account(extensions: &mut http::Extensions) -> Option<Uuid> {
    extensions.remove().map(|OnBehalf(account)| account)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_server_has_verified_is_a_caller() {
        let mut request = tonic::Request::new(());
        request.metadata_mut().insert("x-rushes-account", Uuid::from_u128(7).to_string().parse().unwrap());
        Caller::account(Uuid::from_u128(7)).attach(&mut request);
        assert!(Caller::of(&request).is_err(), "neither metadata nor what is to be sent is believed");
        let by_service = Verified { account: None, key: None, service: Some("gateway") };
        request.extensions_mut().insert(by_service);
        assert!(Caller::of(&request).is_err(), "on no account's behalf");
        let key = Some(Uuid::from_u128(9));
        request.extensions_mut().insert(Verified { account: Some(Uuid::from_u128(8)), key, service: None });
        assert_eq!(Caller::of(&request).unwrap(), Caller { account: Uuid::from_u128(8), key });
    }

    #[test]
    fn an_account_is_attached_once() {
        let mut request = tonic::Request::new(());
        Caller::account(Uuid::from_u128(7)).attach(&mut request);
        assert_eq!(take_account(request.extensions_mut()), Some(Uuid::from_u128(7)));
        assert_eq!(take_account(request.extensions_mut()), None);
    }
}
