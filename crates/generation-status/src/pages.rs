//! The tokens of pages, and how much one takes. A token is the cursor where a page ends, sealed for an account and a listing; what opens
//! is of both.

use chassis::fields::Fields;
use chassis::keyring::InternalKeys;
use chassis::keyring::tokens::Tokens;
use domain::id::AccountId;
use domain::page::{self, Cursor, Page};

/// What one page takes: far less than the 4 MiB that clients of gRPC take by default.
pub(crate) const MAX_PAGE_BYTES: usize = 1 << 20;

/// How many things of these sizes, from the first, so many bytes hold: at least one, if there is one.
pub(crate) fn fitting(sizes: impl IntoIterator<Item = usize>, max_bytes: usize) -> usize {
    let mut bytes = 0;
    let fits = sizes.into_iter().enumerate().take_while(|(at, size)| {
        bytes += size;
        *at == 0 || bytes <= max_bytes
    });
    fits.count()
}

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
        fields.page(page::size(size), self.cursor(account, listing, token)).map(Page::from)
    }

    /// Where the page after a token begins; `None` for the first page.
    pub(crate) fn cursor(&self, account: AccountId, listing: &str, token: &str) -> Result<Option<Cursor>, page::Error> {
        page::cursor(token, |token| self.0.seal(account.0, listing.as_bytes()).open(token))
    }
}

#[cfg(test)]
mod tests {
    use super::fitting;

    #[test]
    fn as_many_fit_as_the_bytes_hold_and_always_one() {
        let sizes =
            [(vec![], 0), (vec![11], 1), (vec![11, 0], 1), (vec![4, 6], 2), (vec![4, 6, 1], 2), (vec![4, 7, 1], 1)];
        for (sizes, fits) in sizes {
            assert_eq!(fitting(sizes.clone(), 10), fits, "{sizes:?}");
        }
    }
}
