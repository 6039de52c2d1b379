//! Validation of a request's fields. All of them are checked before the request is refused, so that a client sees every
//! wrong field at once.
//!
//! Invariant: a value that [`Fields::done`] returns has passed every check that was made before it.

use std::fmt::Display;

use domain::page;
use domain::{id::AccountId, page::Error as PageError};
use uuid::Uuid;

use crate::error::{Error, Violation};
use crate::model::Page;

/// The longest title, in characters.
pub(crate) const MAX_TITLE: usize = 200;
/// The longest description or script, in characters.
pub(crate) const MAX_TEXT: usize = 2_000;
/// The longest e-mail address, in characters.
pub(crate) const MAX_EMAIL: usize = 320;

/// The violations found in a request so far.
#[derive(Default)]
pub(crate) struct Fields(Vec<Violation>);

impl Fields {
    /// Records that `field` is wrong, and what it should be.
    pub(crate) fn wrong(&mut self, field: impl Into<String>, should: impl Display) {
        self.0.push(Violation::schema(field, should.to_string()));
    }

    /// The value, or nothing and a violation that says why `field` cannot be read.
    pub(crate) fn take<T, E: Display>(&mut self, field: impl Into<String>, read: Result<T, E>) -> Option<T> {
        read.map_err(|error| self.wrong(field, error)).ok()
    }

    /// One line of 1 to `max` characters that shows something.
    pub(crate) fn line(&mut self, field: &str, text: String, max: usize) -> Option<String> {
        let count = text.chars().count();
        if text.trim().is_empty() || count > max {
            self.wrong(field, format_args!("must have 1 to {max} characters, not only spaces; it has {count}"));
        } else if text.chars().any(char::is_control) {
            self.wrong(field, "must be one line without control characters");
        } else {
            return Some(text);
        }
        None
    }

    /// Up to `max` characters, lines and tabs among them.
    pub(crate) fn text(&mut self, field: &str, text: String, max: usize) -> Option<String> {
        let count = text.chars().count();
        if count > max {
            self.wrong(field, format_args!("must have at most {max} characters; it has {count}"));
        } else if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            self.wrong(field, "must not hold control characters other than line ends and tabs");
        } else {
            return Some(text);
        }
        None
    }

    /// A request id: a UUID in any of its usual spellings, or nothing when the client wants no protection.
    pub(crate) fn request_id(&mut self, text: &str) -> Option<Option<Uuid>> {
        if text.is_empty() {
            return Some(None);
        }
        match Uuid::try_parse(text) {
            Ok(id) if !id.is_nil() => Some(Some(id)),
            _ => {
                self.wrong("request_id", "must be a UUID that is not zero, or empty");
                None
            }
        }
    }

    /// Where a page begins and how long it is.
    pub(crate) fn page(&mut self, account: AccountId, listing: &str, size: i32, token: &str) -> Option<Page> {
        let size = self.take("page_size", page::size(size));
        let after = page::cursor(account, listing, token).map_err(|error: PageError| {
            let reason = "PAGE_TOKEN_INVALID";
            self.0.push(Violation { field: "page_token".to_owned(), reason, should: error.to_string() });
        });
        size.zip(after.ok()).map(|(size, after)| Page { size: i64::from(size), after })
    }

    /// The fields that a mask names, each one of `known`; all of them when the mask is absent or empty (AIP-134).
    pub(crate) fn mask<'k>(&mut self, paths: Option<&[String]>, known: &[&'k str]) -> Vec<&'k str> {
        let paths = paths.unwrap_or_default();
        if paths.is_empty() || paths == ["*"] {
            return known.to_vec();
        }
        for (at, path) in paths.iter().enumerate() {
            if !known.contains(&path.as_str()) {
                self.wrong(format!("update_mask.paths[{at}]"), format_args!("must be one of {}", known.join(", ")));
            }
        }
        known.iter().copied().filter(|field| paths.iter().any(|path| path == field)).collect()
    }

    /// The values, if nothing was wrong.
    pub(crate) fn done<T>(self, values: Option<T>) -> Result<T, Error> {
        match values {
            Some(values) if self.0.is_empty() => Ok(values),
            _ => Err(Error::Invalid(self.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_field_is_named() {
        let mut fields = Fields::default();
        let title = fields.line("project.title", "  ".to_owned(), MAX_TITLE);
        let body = fields.text("project.description", "x".repeat(MAX_TEXT + 1), MAX_TEXT);
        let id = fields.request_id("nonsense");
        let Err(Error::Invalid(violations)) = fields.done(title.zip(body).zip(id)) else {
            panic!("accepted");
        };
        let named: Vec<_> = violations.iter().map(|v| v.field.as_str()).collect();
        assert_eq!(named, ["project.title", "project.description", "request_id"]);
    }

    #[test]
    fn limits_count_characters_not_bytes() {
        let mut fields = Fields::default();
        assert!(fields.line("t", "é".repeat(MAX_TITLE), MAX_TITLE).is_some());
        assert!(fields.line("t", "é".repeat(MAX_TITLE + 1), MAX_TITLE).is_none());
        assert!(fields.text("b", "a\nb\tc".to_owned(), MAX_TEXT).is_some());
        assert!(fields.text("b", "a\0b".to_owned(), MAX_TEXT).is_none());
        assert!(fields.line("t", "a\nb".to_owned(), MAX_TITLE).is_none());
    }

    #[test]
    fn a_mask_names_known_fields_only() {
        let known = ["title", "description"];
        let paths = |paths: &[&str]| paths.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
        for (asked, changed, wrong) in [
            (paths(&[]), vec!["title", "description"], 0),
            (paths(&["*"]), vec!["title", "description"], 0),
            (paths(&["title"]), vec!["title"], 0),
            (paths(&["title", "etag", "name"]), vec!["title"], 2),
        ] {
            let mut fields = Fields::default();
            assert_eq!(fields.mask(Some(&asked), &known), changed);
            assert_eq!(fields.0.len(), wrong, "{asked:?}");
        }
    }
}
