//! The tokens of pages: the cursor where a page ends, sealed for an account and a listing. What opens is of both.

use chassis::fields::Fields;
use chassis::keyring::InternalKeys;
use chassis::keyring::tokens::Tokens;
use domain::id::AccountId;
use domain::page::{self, Cursor, Page};

/// Makes page tokens, and reads pages that are asked for; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Pages(Tokens);

impl Pages {
    pub(crate) fn new(keys: &InternalKeys) -> Self {
        Self(Tokens::new(keys, "pages"))
    }

    /// The token of the page after `last`; empty where none follows. `listing` names what is listed, restrictions included.
    pub(crate) fn token(&self, account: AccountId, listing: &str, last: Option<Cursor>) -> String {
        last.map(|cursor| self.0.seal(account.0, listing.as_bytes()).token(&cursor.to_bytes())).unwrap_or_default()
    }

    /// The page of `listing` that `page_size` and `page_token` ask for.
    pub(crate) fn parse(
        &self,
        fields: &mut Fields,
        account: AccountId,
        listing: &str,
        size: i32,
        token: &str,
    ) -> Option<Page> {
        let open = |token: &str| self.0.seal(account.0, listing.as_bytes()).open(token);
        fields.page(page::size(size), page::cursor(token, open)).map(Page::from)
    }
}
