//! How large an error may be on the wire. It travels in headers, and whoever reads more headers than it takes ends the whole
//! connection, with the calls of everybody else on it.
//!
//! Invariant: no error of a server has more than [`MAX_DETAILS`] bytes of details and [`MAX_MESSAGE`] bytes of message, whatever it
//! was made of and whoever made it.

use std::collections::{BTreeMap, HashMap};

use http::HeaderMap;
use tonic::Status;
use tonic_types::{FieldViolation, StatusExt as _};

/// The violations that one error names at most; what follows them is wrong all the same and not named.
pub const MAX_VIOLATIONS: usize = 50;
/// The largest encoded details of an error, in bytes.
pub const MAX_DETAILS: usize = 4_096;
/// The longest message of an error, in bytes of the header that carries it.
pub const MAX_MESSAGE: usize = 1_024;

/// Of the details, what the reason may have.
const MAX_REASON: usize = 64;
/// Of the details, what the metadata of the `ErrorInfo` may have, the trace's id apart.
const MAX_METADATA: usize = 1_024;
/// Of the details, what their envelopes take: names of types, tags, lengths, domain, trace id and `RetryInfo`.
const ENVELOPE: usize = 512;
/// What tags and lengths add to each pair of strings.
const PAIR: usize = 12;

/// The longest beginning of `text` that takes at most `max` bytes in a header, where all but plain ASCII is written as `%xx`.
pub(super) fn cut(text: &str, max: usize) -> &str {
    let mut left = max;
    for (at, character) in text.char_indices() {
        let plain = matches!(character, ' '..='~') && character != '%';
        let cost = if plain { 1 } else { 3 * character.len_utf8() };
        if cost > left {
            return &text[..at];
        }
        left -= cost;
    }
    text
}

/// Cuts a text in its place; see [`cut`].
pub(super) fn cut_in_place(text: &mut String, max: usize) {
    text.truncate(cut(text, max).len());
}

/// The entries that fit, in the order of their names.
pub(super) fn cut_metadata(metadata: HashMap<String, String>) -> HashMap<String, String> {
    let mut left = MAX_METADATA;
    let sorted = BTreeMap::from_iter(metadata);
    let fits = sorted.into_iter().take_while(|(key, value)| take(&mut left, key.len() + value.len()));
    fits.collect()
}

/// The violations that fit beside a message and metadata of these lengths.
pub(super) fn cut_violations(
    violations: Vec<FieldViolation>,
    message: &str,
    metadata: &HashMap<String, String>,
) -> Vec<FieldViolation> {
    let metadata: usize = metadata.iter().map(|(key, value)| key.len() + value.len() + PAIR).sum();
    let mut left = MAX_DETAILS.saturating_sub(ENVELOPE + MAX_REASON + message.len() + metadata);
    let fits = violations.into_iter().take(MAX_VIOLATIONS).take_while(|violation| {
        let length = violation.field.len() + violation.description.len() + violation.reason.len();
        take(&mut left, length)
    });
    fits.collect()
}

/// Takes a pair of strings of this length out of what is left; false when it does not fit.
fn take(left: &mut usize, length: usize) -> bool {
    match left.checked_sub(length + PAIR) {
        Some(less) => {
            *left = less;
            true
        }
        None => false,
    }
}

/// The longest reason.
pub(super) fn cut_reason(reason: &mut String) {
    cut_in_place(reason, MAX_REASON);
}

/// The error in headers or trailers of a server's answer, if it is larger than it may be: with its reason, and its message cut.
pub(crate) fn oversized(headers: &HeaderMap) -> Option<(Status, Option<String>)> {
    // In base64 four characters are three bytes.
    let too_large = |name: &str, max: usize| headers.get(name).is_some_and(|value| value.len() > max);
    if !too_large("grpc-status-details-bin", MAX_DETAILS.div_ceil(3) * 4) && !too_large("grpc-message", MAX_MESSAGE) {
        return None;
    }
    let status = Status::from_header_map(headers)?;
    let reason = status.get_details_error_info().map(|info| cut(&info.reason, MAX_REASON).to_owned());
    Some((Status::new(status.code(), cut(status.message(), MAX_MESSAGE)), reason))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::status::Failure;

    /// The bytes of an error's two headers.
    fn sizes(failure: Failure) -> (usize, usize) {
        let status = Status::from(failure);
        let headers = status.clone().into_http::<()>().into_parts().0.headers;
        (status.details().len(), headers.get("grpc-message").map_or(0, http::HeaderValue::len))
    }

    #[test]
    fn no_error_is_larger_than_a_connection_takes() {
        let long = "é%".repeat(30_000);
        let many = |field: &str, should: &str| {
            let first = Failure::invalid(field, "INPUT_SCHEMA_VIOLATION", should);
            (0..32_000).fold(first, |failure, at| failure.and_field(format!("{field}[{at}]"), should))
        };
        let metadata = (0..5_000)
            .fold(Failure::not_found("NONE", "none"), |failure, at| failure.and_metadata(format!("key_{at}"), "value"));
        for (name, failure) in [
            ("violations", many("scenes", "must be projects/{project}/scenes/{scene}")),
            ("a long field", Failure::invalid(long.clone(), "INPUT_SCHEMA_VIOLATION", "must be short")),
            ("long descriptions", many("scenes", &long[..3_000])),
            ("a long message", Failure::precondition("FULL", long.clone())),
            ("a long reason", Failure::precondition(long.clone(), "full")),
            ("metadata", metadata),
            ("long metadata", Failure::not_found("NONE", "none").and_metadata("key", long.clone())),
            (
                "all of it",
                many("scenes", "must be short").and_metadata("k", &long[..900]).and_metadata("l", &long[..900]),
            ),
            ("with a delay", Failure::exhausted("OVERLOADED", long.clone(), Duration::from_millis(250))),
        ] {
            let (details, message) = sizes(failure);
            assert!(details <= MAX_DETAILS, "{name}: {details} bytes of details");
            assert!(message <= MAX_MESSAGE, "{name}: {message} bytes of message");
        }
    }

    #[test]
    fn what_fits_is_kept_whole_and_what_does_not_is_left_out() {
        let failure = (1..300).fold(Failure::invalid("names[0]", "WRONG", "must be a name"), |failure, at| {
            failure.and_field(format!("names[{at}]"), "must be a name")
        });
        let status = Status::from(failure.and_metadata("limit", "100"));
        let details = status.get_error_details();
        let named = &details.bad_request().unwrap().field_violations;
        assert_eq!((named.len(), named[49].field.as_str()), (MAX_VIOLATIONS, "names[49]"));
        assert_eq!(details.error_info().unwrap().metadata["limit"], "100");
        assert_eq!(status.message(), "names[0]: must be a name");
    }

    #[test]
    fn a_text_is_cut_between_characters_by_what_it_takes_in_a_header() {
        assert_eq!(cut("plain text", 5), "plain");
        assert_eq!(cut("plain", 5), "plain");
        assert_eq!(cut("é100 %", 5), "");
        assert_eq!(cut("é100 %", 6), "é");
        assert_eq!(cut("é100 %", 9), "é100");
        assert_eq!(cut("é100 %", 13), "é100 %");
    }
}
