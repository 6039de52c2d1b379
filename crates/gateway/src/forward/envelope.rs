//! The headers of a call, in and out.
//!
//! Invariant: of what came from outside only what gRPC itself needs goes on, the token of the caller's own writes, and how stale an
//! answer may be. The credential stays here, `x-rushes-*` is set by nobody but us, and none of it leaves with a reply.

use chassis::{caller, stale, token};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, Version,
    header::{CONTENT_TYPE, TE, USER_AGENT},
};
use tonic::body::Body;

use crate::keys::Key;

/// What goes on besides `grpc-*`.
const PASSED: [HeaderName; 5] = [
    CONTENT_TYPE,
    USER_AGENT,
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static(token::HEADER),
    HeaderName::from_static(stale::ASKED),
];

/// The request as a service behind the gateway gets it.
pub(super) fn seal(request: Request<Body>, key: &Key) -> Request<Body> {
    let (mut parts, body) = request.into_parts();
    let mut headers = HeaderMap::with_capacity(parts.headers.len() + 2);
    for (name, value) in &parts.headers {
        if PASSED.contains(name) || name.as_str().starts_with("grpc-") {
            headers.append(name.clone(), value.clone());
        }
    }
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(caller::ACCOUNT, key.account_header().clone());
    headers.insert(caller::SCOPES, key.scopes_header().clone());
    parts.headers = headers;
    // It may have come as HTTP/1.1 from a browser.
    parts.version = Version::HTTP_2;
    Request::from_parts(parts, body)
}

/// The reply as the client gets it.
pub(super) fn open(mut response: Response<Body>) -> Response<Body> {
    let internal: Vec<HeaderName> =
        response.headers().keys().filter(|name| name.as_str().starts_with(caller::INTERNAL_PREFIX)).cloned().collect();
    for name in internal {
        response.headers_mut().remove(name);
    }
    response
}
