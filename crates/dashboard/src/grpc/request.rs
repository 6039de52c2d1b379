//! What the parsers of all requests share: the caller, the page, and the limits of texts.

use chassis::fields::Fields;
use chassis::request::caller::Caller;
use chassis::status::Failure;
use domain::id::AccountId;
use domain::page;
use prost_types::FieldMask;
use tonic::Request;

use crate::model::Page;

/// The longest title, in characters.
pub(super) const MAX_TITLE: usize = 200;
/// The longest description or script, in characters.
pub(super) const MAX_TEXT: usize = 2_000;
/// The longest e-mail address, in characters.
pub(super) const MAX_EMAIL: usize = 320;

/// The account that calls, and its message.
pub(super) fn unpack<T>(request: Request<T>) -> Result<(AccountId, T), Failure> {
    let caller = Caller::of(&request)?;
    Ok((AccountId(caller.account), request.into_inner()))
}

/// The page of `listing` that `page_size` and `page_token` ask for.
pub(super) fn parse_page(
    fields: &mut Fields,
    account: AccountId,
    listing: &str,
    size: i32,
    token: &str,
) -> Option<Page> {
    let (size, after) = fields.page(page::size(size), page::cursor(account, listing, token))?;
    Some(Page { size: i64::from(size), after })
}

/// The fields that an update changes, each one of `known`, which are paired with whether the request fills them: those that the
/// mask names; without a mask those that are filled (AIP-134).
pub(super) fn parse_update_mask<'k>(
    fields: &mut Fields,
    mask: Option<&FieldMask>,
    known: &[(&'k str, bool)],
) -> Vec<&'k str> {
    let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
    let named = fields.update_mask(Some(paths), known);
    // An update of nothing would only raise the version. Whoever sends one has forgotten the mask or the values.
    if paths.is_empty() && named.is_empty() {
        let names: Vec<_> = known.iter().map(|(field, _)| *field).collect();
        let names = names.join(", ");
        fields.wrong(
            "update_mask",
            format_args!(
                "must name the fields to change ({names}), unless the request fills one of them; it fills none"
            ),
        );
    }
    named
}
