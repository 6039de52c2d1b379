//! What both kinds of answers have in common: the trait of them, and the headers that they write.

use std::future::Future;

use http::{HeaderName, HeaderValue, Request, Response};
use tonic::body::Body;

/// The type of all of gRPC's contents.
pub(super) const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
/// How the messages of an answer are compressed, those that are.
pub(super) const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
pub(super) const GZIP: HeaderValue = HeaderValue::from_static("gzip");
/// The trailer of an answer that came to its end.
pub(super) const OK: (HeaderName, HeaderValue) =
    (HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));

/// How a method answers with encoded messages.
pub trait Answer<M> {
    /// The answer to a request that was read by ourselves, in gzip where that is taken and worth it.
    fn reply(self, request: tonic::Request<M>, compresses: bool) -> impl Future<Output = Response<Body>> + Send;

    /// The answer to a request that tonic reads, and says of what is wrong with it.
    fn through_codec(self, request: Request<Body>) -> impl Future<Output = Response<Body>> + Send;
}
