//! Pages: sizes, and the cursors that opaque tokens carry. Who makes tokens seals them for an account and a listing; what is in one is
//! no secret and no proof of a right, and every query names its account all the same.

use uuid::Uuid;

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

impl Cursor {
    /// What a token of the page after this carries.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&self.position.to_be_bytes());
        bytes[4..].copy_from_slice(self.id.as_bytes());
        bytes
    }

    /// The cursor that [`Cursor::to_bytes`] wrote.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (position, id) = bytes.split_first_chunk()?;
        Some(Self { position: i32::from_be_bytes(*position), id: Uuid::from_slice(id).ok()? })
    }
}

/// Where the page after a token begins; `None` for the first page, which has an empty one. `open` gives a token's bytes, if it is of the
/// account and the listing that are asked about.
///
/// # Errors
/// [`Error::Token`] when it is not.
pub fn cursor(token: &str, open: impl FnOnce(&str) -> Option<Vec<u8>>) -> Result<Option<Cursor>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    open(token).and_then(|bytes| Cursor::from_bytes(&bytes)).map(Some).ok_or(Error::Token)
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
    fn a_page_begins_where_an_opened_token_says() {
        let end = Cursor { position: -3, id: Uuid::now_v7() };
        let opened = |bytes: &[u8]| cursor("token", |_| Some(bytes.to_vec()));
        assert_eq!(opened(&end.to_bytes()), Ok(Some(end)));
        assert_eq!(cursor("", |_| unreachable!("an empty token is the first page's")), Ok(None));
        assert_eq!(cursor("token", |_| None), Err(Error::Token));
        for length in (0..40).filter(|length| *length != end.to_bytes().len()) {
            assert_eq!(opened(&vec![1; length]), Err(Error::Token), "{length} bytes");
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
