//! The conditions a request may set on its answer: `If-None-Match` and `If-Range`, each against the one entity tag that
//! an asset can have.

use http::{
    HeaderMap, HeaderValue,
    header::{IF_NONE_MATCH, IF_RANGE},
};

/// Whether the client already has the entity of `etag`. Weak and strong tags compare alike here (RFC 9110, 13.1.2).
pub(super) fn not_modified(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let Ok(etag) = etag.to_str() else { return false };
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .any(|tag| tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// Whether the client wants nothing if there is any entity (`*`), which says nothing of its having one.
pub(super) fn unless_any(headers: &HeaderMap) -> bool {
    headers.get_all(IF_NONE_MATCH).iter().any(|value| value == "*")
}

/// Whether a range may be answered with a part: there is no `If-Range`, or it names this entity, strongly.
pub(super) fn range_applies(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    headers.get(IF_RANGE).is_none_or(|value| value == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETAG: HeaderValue = HeaderValue::from_static("\"abc\"");

    #[test]
    fn tags_are_found_in_lists_weak_or_strong() {
        let check = |value: &str, expected: bool| {
            let headers = HeaderMap::from_iter([(IF_NONE_MATCH, value.parse().unwrap())]);
            assert_eq!(not_modified(&headers, &ETAG), expected, "{value}");
        };
        check("\"abc\"", true);
        check("W/\"abc\"", true);
        check("\"x\", \"abc\"", true);
        check("*", false);
        check("\"x\"", false);
        check("abc", false);
        assert!(!not_modified(&HeaderMap::new(), &ETAG));
    }

    #[test]
    fn a_star_is_no_tag() {
        let headers = |value: &str| HeaderMap::from_iter([(IF_NONE_MATCH, value.parse().unwrap())]);
        assert!(unless_any(&headers("*")) && !unless_any(&headers("\"*\"")) && !unless_any(&HeaderMap::new()));
    }

    #[test]
    fn a_range_applies_to_the_same_entity_only() {
        let check = |value: &str, expected: bool| {
            let headers = HeaderMap::from_iter([(IF_RANGE, value.parse().unwrap())]);
            assert_eq!(range_applies(&headers, &ETAG), expected, "{value}");
        };
        check("\"abc\"", true);
        check("\"x\"", false);
        check("W/\"abc\"", false);
        check("Sat, 21 Nov 2026 08:00:00 GMT", false);
        assert!(range_applies(&HeaderMap::new(), &ETAG));
    }
}
