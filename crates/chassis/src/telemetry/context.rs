//! The W3C context in the headers of a request.

use http::{HeaderMap, HeaderName};
use opentelemetry::propagation::Extractor;

/// The header of requests and messages that names the span which caused them.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// Headers that a context is read from.
pub(super) struct Headers<'a>(pub(super) &'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}
