//! The headers of a call, to the service and back to the client.
//!
//! Invariant: of a client's headers only these go on: what gRPC itself needs, the token of the caller's own writes, and how
//! stale an answer may be, all of it no larger than [`MAX_PASSED`]. The credential stays here, nobody but the gateway sets `x-rushes-*`, and none of it leaves with a
//! reply.

use chassis::{
    identity,
    request::{caller, staleness, token},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, Version,
    header::{CONTENT_TYPE, TE, USER_AGENT},
};
use tonic::body::Body;

use crate::error::Error;

/// The headers that go on besides `grpc-*`.
const PASSED: [HeaderName; 5] = [
    CONTENT_TYPE,
    USER_AGENT,
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static(token::HEADER),
    HeaderName::from_static(staleness::MAX_STALE_HEADER),
];

/// The most bytes that go on, names and values together. The connection to a service is everybody's, and one that is sent more headers
/// than it takes ends; over HTTP/1.1 a client may send much more.
const MAX_PASSED: usize = 8 << 10;

/// The request as a service behind the gateway gets it, with a token that says who calls.
pub(super) fn to_upstream(request: Request<Body>, identity: HeaderValue) -> Result<Request<Body>, Error> {
    let (mut parts, body) = request.into_parts();
    parts.headers = upstream(&parts.headers, identity)?;
    // A browser's call may have come as HTTP/1.1.
    parts.version = Version::HTTP_2;
    Ok(Request::from_parts(parts, body))
}

/// What goes on of these headers, with a token that says who calls.
pub(super) fn upstream(from: &HeaderMap, identity: HeaderValue) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::with_capacity(from.len() + 2);
    let mut left = MAX_PASSED;
    for (name, value) in from {
        if PASSED.contains(name) || name.as_str().starts_with("grpc-") {
            let length = name.as_str().len() + value.len();
            left = left.checked_sub(length).ok_or(Error::MetadataTooLarge { max: MAX_PASSED })?;
            headers.append(name.clone(), value.clone());
        }
    }
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(identity::HEADER, identity);
    Ok(headers)
}

/// The reply as the client gets it.
pub(super) fn to_client(mut response: Response<Body>) -> Response<Body> {
    let internal: Vec<HeaderName> =
        response.headers().keys().filter(|name| name.as_str().starts_with(caller::INTERNAL_PREFIX)).cloned().collect();
    for name in internal {
        response.headers_mut().remove(name);
    }
    response
}
