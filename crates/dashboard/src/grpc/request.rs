//! Taking a request apart.

use chassis::caller::Caller;
use chassis::status::Failure;
use domain::id::AccountId;
use tonic::Request;

/// The account that calls, and its message.
pub(super) fn unpack<T>(request: Request<T>) -> Result<(AccountId, T), Failure> {
    let caller = Caller::of(&request)?;
    Ok((AccountId(caller.account), request.into_inner()))
}
