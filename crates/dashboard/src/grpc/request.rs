//! What the parsers of all requests share: the caller, and the limits of texts.

use std::collections::BTreeMap;

use chassis::request::caller::Caller;
use chassis::status::Failure;
use domain::id::AccountId;
use tonic::Request;

/// The longest title, in characters.
pub(super) const MAX_TITLE: usize = 200;
/// The longest description or script, in characters.
pub(super) const MAX_TEXT: usize = 2_000;
/// The longest note of why an operator does something, in characters.
pub(super) const MAX_NOTE: usize = 500;
/// The longest e-mail address, in characters.
pub(super) const MAX_EMAIL: usize = 320;

/// The account that calls, and its message.
pub(super) fn unpack<T>(request: Request<T>) -> Result<(AccountId, T), Failure> {
    let caller = Caller::of(&request)?;
    Ok((AccountId(caller.account), request.into_inner()))
}

/// Labels as parts of a request's body. Without labels there is none, so that the body is what it was before there were any, and a
/// repetition finds what was created then.
pub(super) fn label_parts(labels: &BTreeMap<String, String>) -> impl Iterator<Item = &[u8]> {
    labels.iter().flat_map(|(key, value)| [key.as_bytes(), value.as_bytes()])
}
