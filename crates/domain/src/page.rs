//! Pages: sizes and opaque tokens. A token holds the last key of a page, what was listed, and a checksum over both with
//! the account, so that a token made up, altered, or carried to another listing or account is refused, not obeyed. It is
//! no secret and no proof of a right: every query names its account all the same.

use uuid::Uuid;

use crate::id::AccountId;
use crate::token::Fnv;

/// How many are returned when the caller does not say.
pub const DEFAULT_SIZE: u32 = 20;
/// How many are returned at most.
pub const MAX_SIZE: u32 = 100;

/// Why a page cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A negative size.
    #[error("must not be negative; 0 means {DEFAULT_SIZE}, and more than {MAX_SIZE} means {MAX_SIZE}")]
    Size,
    /// Not a token of this listing.
    #[error("must be the next_page_token of the same listing, unchanged")]
    Token,
}

/// How many to return: 0 means [`DEFAULT_SIZE`], more than [`MAX_SIZE`] means [`MAX_SIZE`] (AIP-158).
///
/// # Errors
/// [`Error::Size`] when negative.
pub fn size(asked: i32) -> Result<u32, Error> {
    match u32::try_from(asked) {
        Err(_) => Err(Error::Size),
        Ok(0) => Ok(DEFAULT_SIZE),
        Ok(size) => Ok(size.min(MAX_SIZE)),
    }
}

/// Where a page ends: a position (0 where the listing has none) and the last id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The last row's sort key before its id.
    pub position: i32,
    /// The last row's id.
    pub id: Uuid,
}

const BYTES: usize = 4 + 16 + 8;

/// The token for the page after `cursor`. `listing` names what is listed, restrictions included.
#[must_use]
pub fn token(account: AccountId, listing: &str, cursor: Cursor) -> String {
    let mut bytes = [0; BYTES];
    bytes[..4].copy_from_slice(&cursor.position.to_be_bytes());
    bytes[4..20].copy_from_slice(cursor.id.as_bytes());
    let checksum = checksum(account, listing, &bytes[..20]);
    bytes[20..].copy_from_slice(&checksum.to_be_bytes());
    let mut text = String::with_capacity(BYTES * 2);
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
    }
    text
}

/// Where the page after a token begins; `None` for the first page.
///
/// # Errors
/// [`Error::Token`] when it is not a token of this listing and account.
pub fn cursor(account: AccountId, listing: &str, token: &str) -> Result<Option<Cursor>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    let digits = token.as_bytes();
    if digits.len() != BYTES * 2 || digits.iter().any(u8::is_ascii_uppercase) {
        return Err(Error::Token);
    }
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16).ok_or(Error::Token);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).map_err(|_| Error::Token)?;
    }
    let (body, sum) = bytes.split_at(20);
    if sum != checksum(account, listing, body).to_be_bytes() {
        return Err(Error::Token);
    }
    let (position, id) = body.split_at(4);
    Ok(Some(Cursor {
        position: i32::from_be_bytes(position.try_into().map_err(|_| Error::Token)?),
        id: Uuid::from_slice(id).map_err(|_| Error::Token)?,
    }))
}

fn checksum(account: AccountId, listing: &str, body: &[u8]) -> u64 {
    Fnv::new().over(account.0.as_bytes()).over(listing.as_bytes()).over(body).sum()
}

/// A page that is asked for: how many rows, and after which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// 1 to [`MAX_SIZE`].
    pub size: u32,
    /// `None` for the first page.
    pub after: Option<Cursor>,
}

impl From<(u32, Option<Cursor>)> for Page {
    fn from((size, after): (u32, Option<Cursor>)) -> Self {
        Self { size, after }
    }
}

impl Page {
    /// The first page in its usual size.
    pub const FIRST: Self = Self { size: DEFAULT_SIZE, after: None };

    /// Whether this is the first page in its usual size.
    #[must_use]
    pub fn is_usual(self) -> bool {
        self == Self::FIRST
    }

    /// How many rows to read: one more than the page has, which says whether another follows.
    #[must_use]
    pub fn rows(self) -> i64 {
        i64::from(self.size) + 1
    }

    /// The position and id that the page's rows come after, in listings that run upward.
    #[must_use]
    pub fn start(self) -> (i32, Uuid) {
        self.after.map_or((-1, Uuid::nil()), |cursor| (cursor.position, cursor.id))
    }

    /// The id that the page's rows come before, in listings that run from new to old.
    #[must_use]
    pub fn below(self) -> Uuid {
        self.after.map_or(Uuid::max(), |cursor| cursor.id)
    }

    /// Cuts the [`Page::rows`] that were read to the page's size, and returns the cursor of the next page if there is one;
    /// `key` is what a row is listed by.
    pub fn cut<T>(self, rows: &mut Vec<T>, key: impl Fn(&T) -> Cursor) -> Option<Cursor> {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let more = rows.len() > size;
        rows.truncate(size);
        rows.last().filter(|_| more).map(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size(0), Ok(DEFAULT_SIZE));
        assert_eq!(size(7), Ok(7));
        assert_eq!(size(i32::MAX), Ok(MAX_SIZE));
        assert_eq!(size(-1), Err(Error::Size));
    }

    #[test]
    fn a_token_works_for_its_own_listing_only() {
        let account = AccountId::new();
        let end = Cursor { position: -3, id: Uuid::now_v7() };
        let made = token(account, "projects", end);
        assert_eq!(cursor(account, "projects", &made), Ok(Some(end)));
        assert_eq!(cursor(account, "projects", ""), Ok(None));
        assert_eq!(cursor(account, "scenes", &made), Err(Error::Token));
        assert_eq!(cursor(AccountId::new(), "projects", &made), Err(Error::Token));
        for at in 0..made.len() {
            let mut forged = made.clone().into_bytes();
            forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
            let forged = String::from_utf8(forged).unwrap();
            assert_eq!(cursor(account, "projects", &forged), Err(Error::Token), "{at}");
        }
        for wrong in ["x", "zz", &made[2..], &made.to_uppercase(), "é".repeat(28).as_str()] {
            assert_eq!(cursor(account, "projects", wrong), Err(Error::Token), "{wrong}");
        }
    }

    #[test]
    fn a_page_is_cut_where_more_follows() {
        let page = Page { size: 2, after: None };
        let key = |n: &u128| Cursor { position: 0, id: Uuid::from_u128(*n) };
        let mut rows = vec![1, 2, 3];
        assert_eq!(page.cut(&mut rows, key), Some(key(&2)));
        assert_eq!(rows, [1, 2]);
        assert_eq!(page.cut(&mut rows, key), None);
        assert_eq!(page.cut(&mut Vec::new(), key), None);
    }

    #[test]
    fn a_page_begins_after_its_cursor_or_at_the_end_of_the_listing() {
        let first = Page::FIRST;
        let cursor = Cursor { position: 7, id: Uuid::from_u128(9) };
        let next = Page::from((DEFAULT_SIZE, Some(cursor)));
        assert_eq!((first.start(), first.below()), ((-1, Uuid::nil()), Uuid::max()));
        assert_eq!((next.start(), next.below()), ((7, cursor.id), cursor.id));
        assert!(first.is_usual() && !next.is_usual() && !Page { size: 7, ..first }.is_usual());
        assert_eq!(first.rows(), 21);
    }
}
