//! The caller of a request, which every handler of an account's data reads first.

use chassis::request::caller::Caller;
use chassis::status::Failure;
use domain::id::AccountId;
use tonic::Request;

/// The account that asks, and its message.
pub(super) fn authenticated<T>(request: Request<T>) -> Result<(AccountId, T), Failure> {
    let caller = Caller::of(&request)?;
    Ok((AccountId(caller.account), request.into_inner()))
}
