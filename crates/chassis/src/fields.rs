//! Reading a request's fields: every one is looked at before the request is refused, so that a client sees all that is
//! wrong with it at once.
//!
//! Invariants: a value that [`Fields::done`] hands out has passed every check that was made before it, and an [`Invalid`]
//! names at least one field and at most [`MAX_VIOLATIONS`].

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;

use uuid::Uuid;

use crate::status::{Failure, MAX_VIOLATIONS};
use crate::text::{is_blank, is_one_line};

/// The paths that a mask has at most: one with more names some twice, or none that there is.
const MAX_MASK_PATHS: usize = 32;

/// How many labels a thing may have.
const MAX_LABELS: usize = 32;
const MAX_LABEL_KEY_CHARACTERS: usize = 63;
const MAX_LABEL_CHARACTERS: usize = 200;

/// The reason of a violation that has none of its own.
pub const SCHEMA: &str = "INPUT_SCHEMA_VIOLATION";

/// A field of a request that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field's path in the request, such as `book.title`.
    pub field: String,
    /// The reason that the failure carries when this violation is the first.
    pub reason: &'static str,
    /// What the field should be: it completes the sentence "`field` …".
    pub should: String,
}

/// All that is wrong with a request, or its first [`MAX_VIOLATIONS`]; nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {}", first.field, first.should)]
pub struct Invalid {
    first: Violation,
    others: Vec<Violation>,
}

impl Invalid {
    /// One field that is wrong, for `reason`.
    #[must_use]
    pub fn field(field: impl Into<String>, reason: &'static str, should: impl Display) -> Self {
        let first = Violation { field: field.into(), reason, should: should.to_string() };
        Self { first, others: Vec::new() }
    }

    /// The same of a part of a request: the paths of the fields begin with `prefix`.
    #[must_use]
    pub fn within(mut self, prefix: impl Display) -> Self {
        for violation in std::iter::once(&mut self.first).chain(&mut self.others) {
            violation.field = format!("{prefix}{}", violation.field);
        }
        self
    }

    /// The violations, in the order in which they were found.
    pub fn violations(&self) -> impl Iterator<Item = &Violation> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl From<Invalid> for Failure {
    fn from(Invalid { first, others }: Invalid) -> Self {
        let failure = Self::invalid(first.field, first.reason, first.should);
        others.into_iter().fold(failure, |failure, next| failure.and_field(next.field, next.should))
    }
}

impl From<Invalid> for tonic::Status {
    fn from(invalid: Invalid) -> Self {
        Failure::from(invalid).into()
    }
}

/// What is wrong with a request so far.
#[derive(Debug, Default)]
pub struct Fields(Option<Invalid>);

impl Fields {
    /// Notes that `field` breaks the request's schema, and what it should be.
    pub fn wrong(&mut self, field: impl Into<String>, should: impl Display) {
        self.wrong_because(field, SCHEMA, should);
    }

    /// Notes that `field` is wrong for a `reason` of its own, and what it should be.
    pub fn wrong_because(&mut self, field: impl Into<String>, reason: &'static str, should: impl Display) {
        let invalid = Invalid::field(field, reason, should);
        match &mut self.0 {
            None => self.0 = Some(invalid),
            Some(Invalid { others, .. }) if others.len() + 1 < MAX_VIOLATIONS => others.push(invalid.first),
            Some(_) => {}
        }
    }

    /// Whether something is wrong so far.
    #[must_use]
    pub const fn any_wrong(&self) -> bool {
        self.0.is_some()
    }

    /// The value, or nothing and a note of why `field` cannot be read.
    pub fn take<T, E: Display>(&mut self, field: impl Into<String>, read: Result<T, E>) -> Option<T> {
        read.map_err(|error| self.wrong(field, error)).ok()
    }

    /// One line of 1 to `max` characters that shows something.
    pub fn line(&mut self, field: &str, text: String, max: usize) -> Option<String> {
        if self.is_filled(field, &text, max) {
            if is_one_line(&text) {
                return Some(text);
            }
            self.wrong(field, "must be one line, without control characters or any that turn the direction of writing");
        }
        None
    }

    /// Text of 1 to `max` characters that shows something, line ends and tabs among them.
    pub fn filled_text(&mut self, field: &str, text: String, max: usize) -> Option<String> {
        if self.is_filled(field, &text, max) { self.text(field, text, max) } else { None }
    }

    /// Text of up to `max` characters, line ends and tabs among them.
    pub fn text(&mut self, field: &str, text: String, max: usize) -> Option<String> {
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

    fn is_filled(&mut self, field: &str, text: &str, max: usize) -> bool {
        let count = text.chars().count();
        let filled = !is_blank(text) && count <= max;
        if !filled {
            self.wrong(field, format_args!("must have 1 to {max} characters that show something; it has {count}"));
        }
        filled
    }

    /// The labels that a client gives a thing of its own: at most 32, with keys of 1 to 63 of a-z, 0-9, '-', '_' and '.', and values of
    /// one line of at most 200 characters.
    pub fn labels(&mut self, field: &str, labels: HashMap<String, String>) -> Option<BTreeMap<String, String>> {
        let key = |key: &str| {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
            (1..=MAX_LABEL_KEY_CHARACTERS).contains(&key.len()) && key.chars().all(plain)
        };
        let value = |value: &str| value.chars().count() <= MAX_LABEL_CHARACTERS && is_one_line(value);
        if labels.len() <= MAX_LABELS && labels.iter().all(|(of, label)| key(of) && value(label)) {
            return Some(labels.into_iter().collect());
        }
        self.wrong(
            field,
            format_args!(
                "must be at most {MAX_LABELS}, with keys of 1 to {MAX_LABEL_KEY_CHARACTERS} of a-z, 0-9, '-', '_' and '.', and \
                 values of one line of at most {MAX_LABEL_CHARACTERS} characters"
            ),
        );
        None
    }

    /// `items`, or none of them and a note when there are more than `max`: a list is counted before its elements are read.
    pub fn bounded<'i, I>(&mut self, field: &str, items: &'i [I], max: usize) -> &'i [I] {
        if items.len() <= max {
            return items;
        }
        self.wrong(field, format_args!("must hold at most {max}; it holds {}", items.len()));
        &[]
    }

    /// Each of `items` as `read` has it, `min` to `max` of them; every one that cannot be read is noted.
    pub fn each<I, T, E: Display>(
        &mut self,
        field: &str,
        items: &[I],
        min: usize,
        max: usize,
        read: impl Fn(&I) -> Result<T, E>,
    ) -> Option<Vec<T>> {
        if items.len() < min || items.len() > max {
            self.wrong(field, format_args!("must hold {min} to {max}; it holds {}", items.len()));
            return None;
        }
        let taken = items.iter().enumerate();
        let taken: Vec<_> = taken.filter_map(|(at, item)| self.take(format!("{field}[{at}]"), read(item))).collect();
        (taken.len() == items.len()).then_some(taken)
    }

    /// `request_id`: a UUID in any of its usual spellings, or nothing when the client wants no protection.
    pub fn request_id(&mut self, text: &str) -> Option<Option<Uuid>> {
        if text.is_empty() {
            return Some(None);
        }
        self.uuid("request_id", text, "must be a UUID that is not zero, or empty").map(Some)
    }

    /// `request_id`: a UUID in any of its usual spellings, where the client must choose one.
    pub fn required_request_id(&mut self, text: &str) -> Option<Uuid> {
        self.uuid("request_id", text, "must be a UUID that is not zero; choose one for each request")
    }

    fn uuid(&mut self, field: &str, text: &str, should: &str) -> Option<Uuid> {
        let id = Uuid::try_parse(text).ok().filter(|id| !id.is_nil());
        if id.is_none() {
            self.wrong(field, should);
        }
        id
    }

    /// `page_size` and `page_token`, as whoever knows the listing reads them.
    pub fn page<S, C>(&mut self, size: Result<S, impl Display>, token: Result<C, impl Display>) -> Option<(S, C)> {
        let size = self.take("page_size", size);
        let token = token.map_err(|error| self.wrong_because("page_token", "PAGE_TOKEN_INVALID", error));
        size.zip(token.ok())
    }

    /// The fields that an update is about, each one of `known`, which are paired with whether the request fills them: those
    /// that `update_mask` names; without a mask those that are filled; with `*` all (AIP-134). An update of nothing is wrong.
    pub fn update_mask<'k>(&mut self, mask: Option<&[String]>, known: &[(&'k str, bool)]) -> Vec<&'k str> {
        let mask = mask.unwrap_or_default();
        if self.bounded("update_mask.paths", mask, MAX_MASK_PATHS).len() < mask.len() {
            return Vec::new();
        }
        for (at, path) in mask.iter().enumerate() {
            if (path != "*" || mask.len() > 1) && !known.iter().any(|(field, _)| field == path) {
                let names: Vec<_> = known.iter().map(|(field, _)| *field).collect();
                self.wrong(format!("update_mask.paths[{at}]"), format_args!("must be one of {}", names.join(", ")));
            }
        }
        let named = |field: &str, filled: bool| match mask {
            [] => filled,
            [all] if all == "*" => true,
            _ => mask.iter().any(|path| path == field),
        };
        let about: Vec<_> =
            known.iter().filter(|(field, filled)| named(field, *filled)).map(|(field, _)| *field).collect();
        // An update of nothing would only raise the version. Whoever sends one has forgotten the mask or the values.
        if mask.is_empty() && about.is_empty() {
            let names: Vec<_> = known.iter().map(|(field, _)| *field).collect();
            let names = names.join(", ");
            self.wrong(
                "update_mask",
                format_args!(
                    "must name the fields to change ({names}), unless the request fills one of them; it fills none"
                ),
            );
        }
        about
    }

    /// The values, if nothing was wrong.
    ///
    /// # Errors
    /// [`Invalid`] with all that was noted.
    pub fn done<T>(self, values: Option<T>) -> Result<T, Invalid> {
        match (self.0, values) {
            (None, Some(values)) => Ok(values),
            (Some(invalid), _) => Err(invalid),
            // Whoever gives no value notes why; this is for who forgot.
            (None, None) => Err(Invalid::field("", SCHEMA, "a field is wrong")),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt as _;

    use super::*;

    fn named(invalid: &Invalid) -> Vec<&str> {
        invalid.violations().map(|violation| violation.field.as_str()).collect()
    }

    #[test]
    fn every_wrong_field_is_named_and_the_first_gives_the_reason() {
        let mut fields = Fields::default();
        let page = fields.page(Err::<i64, _>("must be 0 to 100"), Err::<(), _>("must be the next_page_token"));
        let title = fields.line("book.title", "  ".to_owned(), 200);
        let blurb = fields.text("book.blurb", "x".repeat(2_001), 2_000);
        let id = fields.request_id("nonsense");
        let invalid = fields.done(page.zip(title).zip(blurb).zip(id)).unwrap_err();
        let all = ["page_size", "page_token", "book.title", "book.blurb", "request_id"];
        assert_eq!(named(&invalid), all);
        let failure = Failure::from(invalid);
        assert_eq!((failure.reason(), failure.message()), (SCHEMA, "page_size: must be 0 to 100"));
        let status = tonic::Status::from(failure);
        let told = status.get_error_details().bad_request().unwrap().clone().field_violations;
        assert_eq!(told.iter().map(|violation| violation.field.as_str()).collect::<Vec<_>>(), all);
    }

    #[test]
    fn a_violation_with_a_reason_of_its_own_gives_it_when_it_is_first() {
        let mut fields = Fields::default();
        assert_eq!(fields.page(Ok::<_, &str>(20), Err::<(), _>("must be the next_page_token")), None);
        assert_eq!(Failure::from(fields.done(None::<()>).unwrap_err()).reason(), "PAGE_TOKEN_INVALID");
    }

    #[test]
    fn an_error_names_no_more_than_fifty_fields() {
        let mut fields = Fields::default();
        let items = ["x"; 60];
        assert_eq!(fields.each("names", &items, 1, 100, |_| Err::<(), _>("must be a name")), None);
        let invalid = fields.done(Some(())).unwrap_err();
        assert_eq!(named(&invalid).len(), MAX_VIOLATIONS);
        assert_eq!(named(&invalid)[MAX_VIOLATIONS - 1], "names[49]");
    }

    #[test]
    fn without_a_violation_the_values_come_out() {
        let mut fields = Fields::default();
        let id = Uuid::from_u128(7);
        let ids = fields.each("ids", &[id.to_string(), id.simple().to_string()], 0, 2, |text| text.parse::<Uuid>());
        let none = fields.request_id("");
        let some = fields.required_request_id(&id.to_string());
        assert_eq!(fields.done(ids.zip(none).zip(some)), Ok(((vec![id, id], None), id)));
        assert!(Fields::default().done(None::<()>).is_err(), "a missing value is never success");
    }

    #[test]
    fn labels_are_few_and_short_and_their_keys_plain() {
        let read = |labels: HashMap<String, String>| {
            let mut fields = Fields::default();
            let read = fields.labels("book.labels", labels);
            assert_eq!(fields.done(Some(())).err().is_some(), read.is_none());
            read
        };
        let one = |key: &str, value: &str| HashMap::from([(key.to_owned(), value.to_owned())]);
        for (key, value) in [("cut", "b"), ("a-b_c.9", ""), (&"k".repeat(63), &"é".repeat(200))] {
            assert_eq!(read(one(key, value)), Some(one(key, value).into_iter().collect()), "{key} {value}");
        }
        let (two, turned) = ("two\nlines", "\u{202e}b");
        let long = "k".repeat(64);
        for (key, value) in
            [("", "b"), ("Cut", "b"), ("ä", "b"), ("a b", ""), (&long, ""), ("cut", two), ("cut", turned)]
        {
            assert_eq!(read(one(key, value)), None, "{key} {value}");
        }
        assert_eq!(read(one("cut", &"x".repeat(201))), None);
        let many = |count: usize| (0..count).map(|at| (at.to_string(), String::new())).collect();
        assert!(read(many(32)).is_some() && read(many(33)).is_none() && read(many(0)).is_some());
    }

    #[test]
    fn a_list_that_is_too_long_or_too_short_is_not_read() {
        for (items, min, max) in [(0, 1, 3), (4, 1, 3)] {
            let mut fields = Fields::default();
            let read = |_: &()| -> Result<(), &str> { unreachable!("the count is wrong already") };
            assert_eq!(fields.each("names", &vec![(); items], min, max, read), None);
            assert_eq!(named(&fields.done(Some(())).unwrap_err()), ["names"]);
        }
    }

    #[test]
    fn limits_count_characters_not_bytes_and_control_characters_are_refused() {
        type Check = fn(&mut Fields, &str, String, usize) -> Option<String>;
        for (check, text, accepted) in [
            (Fields::line as Check, "é".repeat(9), true),
            (Fields::line, "é".repeat(10), false),
            (Fields::line, "a\nb".to_owned(), false),
            (Fields::line, " ".to_owned(), false),
            (Fields::line, "\u{200b}\u{feff}".to_owned(), false),
            (Fields::line, "a\u{2028}b".to_owned(), false),
            (Fields::line, "a\u{202e}b".to_owned(), false),
            (Fields::text, String::new(), true),
            (Fields::text, "a\nb\tc".to_owned(), true),
            (Fields::text, "a\0b".to_owned(), false),
            (Fields::text, "é".repeat(10), false),
            (Fields::filled_text, "a\nb".to_owned(), true),
            (Fields::filled_text, " \n ".to_owned(), false),
            (Fields::filled_text, "\u{2800}".to_owned(), false),
            (Fields::filled_text, "a\0b".to_owned(), false),
            (Fields::filled_text, "é".repeat(10), false),
        ] {
            let mut fields = Fields::default();
            assert_eq!(check(&mut fields, "f", text.clone(), 9).is_some(), accepted, "{text:?}");
            assert_eq!(
                fields.done(Some(())).map_err(|invalid| named(&invalid).len()),
                if accepted { Ok(()) } else { Err(1) }
            );
        }
    }

    #[test]
    fn request_ids_are_uuids_that_are_not_zero() {
        for text in ["nonsense", "00000000-0000-0000-0000-000000000000"] {
            let mut fields = Fields::default();
            assert_eq!((fields.request_id(text), fields.required_request_id(text)), (None, None));
        }
        assert_eq!(Fields::default().required_request_id(""), None);
    }

    #[test]
    fn an_update_is_about_what_its_mask_names_or_what_it_fills() {
        let known = [("title", true), ("blurb", false)];
        let nothing_filled = [("title", false), ("blurb", false)];
        for mask in [None, Some(Vec::new())] {
            let mut fields = Fields::default();
            assert_eq!(fields.update_mask(mask.as_deref(), &nothing_filled), Vec::<&str>::new());
            assert_eq!(named(fields.0.as_ref().unwrap()), ["update_mask"]);
        }
        let mut fields = Fields::default();
        assert_eq!(fields.update_mask(Some(&["blurb".to_owned()]), &nothing_filled), ["blurb"], "to be emptied");
        assert!(fields.0.is_none());
        for (mask, about, wrong) in [
            (None, vec!["title"], 0),
            (Some(vec![]), vec!["title"], 0),
            (Some(vec!["*"]), vec!["title", "blurb"], 0),
            (Some(vec!["blurb"]), vec!["blurb"], 0),
            (Some(vec!["title", "etag", "name"]), vec!["title"], 2),
            (Some(vec!["*", "title"]), vec!["title"], 1),
            (Some(vec!["title"; 33]), vec![], 1),
        ] {
            let mut fields = Fields::default();
            let paths = mask.as_ref().map(|mask| mask.iter().map(|&path| path.to_owned()).collect::<Vec<_>>());
            assert_eq!(fields.update_mask(paths.as_deref(), &known), about, "{mask:?}");
            let noted = fields.0.as_ref().map_or(0, |invalid| named(invalid).len());
            assert_eq!(noted, wrong, "{mask:?}");
        }
    }
}
