//! The `Range` header: one range of bytes. Several at once are answered with the whole, as RFC 9110 allows.

use std::ops::Range;

use http::{HeaderMap, header::RANGE};

/// What part of an asset a request wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it; also when the header is malformed or names several ranges.
    All,
    /// These bytes.
    Part(Range<u64>),
    /// Bytes that the asset does not have.
    Outside,
}

/// The part that the headers want of an asset of `size` bytes.
pub(super) fn wanted(headers: &HeaderMap, size: u64) -> Wanted {
    let header = headers.get(RANGE).and_then(|value| value.to_str().ok());
    let Some((first, last)) = header.and_then(read) else { return Wanted::All };
    let range = match (first, last) {
        (Some(first), Some(last)) if last < first => return Wanted::All,
        (Some(first), last) => first..last.map_or(size, |last| last.saturating_add(1)).min(size),
        (None, Some(length)) => size.saturating_sub(length)..size,
        (None, None) => return Wanted::All,
    };
    if range.is_empty() { Wanted::Outside } else { Wanted::Part(range) }
}

/// `bytes=first-last`, either of them left out.
fn read(header: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (unit, range) = header.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    let number = |text: &str| match text {
        "" => Some(None),
        text if text.bytes().all(|b| b.is_ascii_digit()) => Some(Some(text.parse().unwrap_or(u64::MAX))),
        _ => None,
    };
    unit.eq_ignore_ascii_case("bytes").then_some((number(first)?, number(last)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        let check = |value: &str, expected: Wanted| {
            let headers = HeaderMap::from_iter([(RANGE, value.parse().unwrap())]);
            assert_eq!(wanted(&headers, 100), expected, "{value}");
        };
        check("bytes=0-9", Wanted::Part(0..10));
        check("bytes=90-", Wanted::Part(90..100));
        check("bytes=-5", Wanted::Part(95..100));
        check("bytes=-500", Wanted::Part(0..100));
        check("bytes=50-5000", Wanted::Part(50..100));
        check("Bytes=0-0", Wanted::Part(0..1));
        check("bytes=0-18446744073709551615", Wanted::Part(0..100));
        check("bytes=100-", Wanted::Outside);
        check("bytes=99999999999999999999-", Wanted::Outside);
        check("bytes=-0", Wanted::Outside);
        check("bytes=9-1", Wanted::All);
        check("bytes=-", Wanted::All);
        check("bytes=0-1,5-6", Wanted::All);
        check("bytes=a-b", Wanted::All);
        check("items=0-1", Wanted::All);
        assert_eq!(wanted(&HeaderMap::new(), 100), Wanted::All);
    }
}
