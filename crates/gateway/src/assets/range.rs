//! The `Range` header: one range of bytes. Several at once are answered with the whole, as RFC 9110 allows.

use std::ops::Range;

use http::{HeaderMap, header::RANGE};

/// The part of an asset that a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RequestedRange {
    /// All of it; also when the header is malformed or names several ranges.
    All,
    /// These bytes.
    Part(Range<u64>),
    /// Bytes that the asset does not have.
    Outside,
}

/// The part that the headers ask for of an asset of `size` bytes.
pub(super) fn parse(headers: &HeaderMap, size: u64) -> RequestedRange {
    let header = headers.get(RANGE).and_then(|value| value.to_str().ok());
    let Some((first, last)) = header.and_then(parse_header) else { return RequestedRange::All };
    let range = match (first, last) {
        (Some(first), Some(last)) if last < first => return RequestedRange::All,
        (Some(first), last) => first..last.map_or(size, |last| last.saturating_add(1)).min(size),
        (None, Some(length)) => size.saturating_sub(length)..size,
        (None, None) => return RequestedRange::All,
    };
    if range.is_empty() { RequestedRange::Outside } else { RequestedRange::Part(range) }
}

/// `bytes=first-last`, either of them left out.
fn parse_header(header: &str) -> Option<(Option<u64>, Option<u64>)> {
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
        let check = |value: &str, expected: RequestedRange| {
            let headers = HeaderMap::from_iter([(RANGE, value.parse().unwrap())]);
            assert_eq!(parse(&headers, 100), expected, "{value}");
        };
        check("bytes=0-9", RequestedRange::Part(0..10));
        check("bytes=90-", RequestedRange::Part(90..100));
        check("bytes=-5", RequestedRange::Part(95..100));
        check("bytes=-500", RequestedRange::Part(0..100));
        check("bytes=50-5000", RequestedRange::Part(50..100));
        check("Bytes=0-0", RequestedRange::Part(0..1));
        check("bytes=0-18446744073709551615", RequestedRange::Part(0..100));
        check("bytes=100-", RequestedRange::Outside);
        check("bytes=99999999999999999999-", RequestedRange::Outside);
        check("bytes=-0", RequestedRange::Outside);
        check("bytes=9-1", RequestedRange::All);
        check("bytes=-", RequestedRange::All);
        check("bytes=0-1,5-6", RequestedRange::All);
        check("bytes=a-b", RequestedRange::All);
        check("items=0-1", RequestedRange::All);
        assert_eq!(parse(&HeaderMap::new(), 100), RequestedRange::All);
    }
}
