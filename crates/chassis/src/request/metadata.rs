//! Values of metadata that are made anew for each call.

use http::HeaderValue;

/// The value of a header that no other call has. The tables by which HTTP/2 shortens headers are left alone: each such value would push a
/// useful one out of them, and its place be looked for in vain.
#[must_use]
pub fn unlike_others(text: String) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(text).ok()?;
    // Which is what HTTP/2 makes of a value that must not be kept.
    value.set_sensitive(true);
    Some(value)
}
