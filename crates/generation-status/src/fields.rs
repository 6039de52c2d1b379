//! Validation of a request's fields: every field is checked before the request is refused, so that a client sees all that is
//! wrong with it at once.
//!
//! Invariant: a value that [`Fields::done`] returns has passed every check that was made before.

use std::fmt::Display;

use domain::id::{AccountId, GenerationId};
use domain::page::{self, Cursor};
use uuid::Uuid;

use crate::error::{Error, Violation};

/// Of a note or a reason.
const MAX_NOTE_CHARACTERS: usize = 500;

/// The reason of a refusal for anything but a page token.
const SCHEMA_VIOLATION: &str = "INPUT_SCHEMA_VIOLATION";

/// The violations found in a request so far.
#[derive(Default)]
pub(crate) struct Fields(Vec<Violation>);

impl Fields {
    /// Adds a violation: `field` is wrong, and what it should be.
    pub(crate) fn wrong(&mut self, field: impl Into<String>, should: impl Display) {
        self.0.push(Violation { field: field.into(), reason: SCHEMA_VIOLATION, should: should.to_string() });
    }

    /// The value, or `None` and a violation that says why `field` cannot be read.
    pub(crate) fn take<T, E: Display>(&mut self, field: impl Into<String>, read: Result<T, E>) -> Option<T> {
        read.map_err(|error| self.wrong(field, error)).ok()
    }

    /// 1 to `max` characters, not only white space.
    pub(crate) fn prompt(&mut self, field: &str, text: &str, max: usize) -> Option<String> {
        let count = text.chars().count();
        if text.trim().is_empty() || count > max {
            self.wrong(field, format_args!("must have 1 to {max} characters, not only spaces; it has {count}"));
        } else if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            self.wrong(field, "must not hold control characters other than line ends and tabs");
        } else {
            return Some(text.to_owned());
        }
        None
    }

    /// A UUID that the caller chose, in any of its usual spellings.
    pub(crate) fn request_id(&mut self, text: &str) -> Option<Uuid> {
        match Uuid::try_parse(text) {
            Ok(id) if !id.is_nil() => Some(id),
            _ => {
                self.wrong("request_id", "must be a UUID that is not zero; choose one for each request");
                None
            }
        }
    }

    /// Who does something, and why, for the history: one line of 1 to 500 characters.
    pub(crate) fn note(&mut self, text: &str) -> Option<String> {
        self.line("note", text, "who and why")
    }

    /// Why something is done, for the account: one line of 1 to 500 characters.
    pub(crate) fn reason(&mut self, text: &str) -> Option<String> {
        self.line("reason", text, "why")
    }

    fn line(&mut self, field: &str, text: &str, what: &str) -> Option<String> {
        if text.trim().is_empty() || text.chars().count() > MAX_NOTE_CHARACTERS || text.chars().any(char::is_control) {
            self.wrong(field, format_args!("must say {what}, in one line of 1 to {MAX_NOTE_CHARACTERS} characters"));
            return None;
        }
        Some(text.to_owned())
    }

    /// The id in `models/{model}`, whether or not there is such a model.
    pub(crate) fn model(&mut self, field: &str, name: &str) -> Option<String> {
        let id = name.strip_prefix("models/").filter(|id| (1..=200).contains(&id.len()) && !id.contains('/'));
        if id.is_none() {
            self.wrong(field, "must be models/{model}");
        }
        id.map(str::to_owned)
    }

    /// `min` to `max` names of generations.
    pub(crate) fn generations(
        &mut self,
        field: &str,
        names: &[String],
        min: usize,
        max: usize,
    ) -> Option<Vec<GenerationId>> {
        if names.len() < min || names.len() > max {
            self.wrong(field, format_args!("must hold {min} to {max} names; it holds {}", names.len()));
            return None;
        }
        let read = |(at, name): (usize, &String)| self.take(format!("{field}[{at}]"), GenerationId::from_name(name));
        let ids: Vec<_> = names.iter().enumerate().filter_map(read).collect();
        (ids.len() == names.len()).then_some(ids)
    }

    /// The page that a size and a token ask for.
    pub(crate) fn page(&mut self, account: AccountId, listing: &str, size: i32, token: &str) -> Option<Page> {
        let size = self.take("page_size", page::size(size));
        let after = page::cursor(account, listing, token).map_err(|error| {
            let reason = "PAGE_TOKEN_INVALID";
            self.0.push(Violation { field: "page_token".to_owned(), reason, should: error.to_string() });
        });
        size.zip(after.ok()).map(|(size, after)| Page { size: i64::from(size), after })
    }

    /// The values, if there was no violation.
    pub(crate) fn done<T>(self, values: Option<T>) -> Result<T, Error> {
        match values {
            Some(values) if self.0.is_empty() => Ok(values),
            _ => Err(Error::Invalid(self.0)),
        }
    }
}

/// A page to be read: how many rows, after which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// 1 to [`page::MAX_SIZE`].
    pub(crate) size: i64,
    /// `None` for the first page.
    pub(crate) after: Option<Cursor>,
}

impl Page {
    /// The generation that the page's rows are older than.
    pub(crate) fn before(self) -> Option<GenerationId> {
        self.after.map(|cursor| GenerationId(cursor.id))
    }

    /// Cuts `rows`, of which one more than the size was read, and returns the cursor of the next page if there is one. Rows are
    /// listed by `id`.
    pub(crate) fn cut<T>(self, rows: &mut Vec<T>, id: impl Fn(&T) -> Uuid) -> Option<Cursor> {
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        let more = rows.len() > size;
        rows.truncate(size);
        rows.last().filter(|_| more).map(|row| Cursor { position: 0, id: id(row) })
    }
}
