//! The whole answer of a unary call, out of bytes that are kept.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body::Frame;
use prost::Message;
use tonic::{Status, body::Body, codec::CompressionEncoding};

use super::{
    answer::{Answer, ENCODING, GRPC, GZIP, OK},
    codec::Codec,
    derived,
};
use crate::frames::{PREFIX, framed};

/// Answers a unary method with the message that `A` gives.
#[derive(Clone)]
pub struct Unary<A>(pub(super) A);

impl<A, M, F> Answer<M> for Unary<A>
where
    A: Fn(tonic::Request<M>) -> F + Send + 'static,
    F: Future<Output = Result<tonic::Response<Bytes>, Status>> + Send + 'static,
    M: Message + Default + Send + 'static,
{
    async fn reply(self, request: tonic::Request<M>, compresses: bool) -> Response<Body> {
        reply((self.0)(request).await, compresses).await
    }

    async fn through_codec(self, request: Request<Body>) -> Response<Body> {
        let grpc = tonic::server::Grpc::new(Codec::default()).accept_compressed(CompressionEncoding::Gzip);
        let mut grpc = grpc.send_compressed(CompressionEncoding::Gzip);
        grpc.unary(tower::service_fn(self.0), request).await
    }
}

/// An answer on the wire, compressed if that is worth it and taken.
async fn reply(answer: Result<tonic::Response<Bytes>, Status>, compresses: bool) -> Response<Body> {
    let (metadata, message, extensions) = match answer {
        Ok(answer) => answer.into_parts(),
        Err(status) => return status.into_http(),
    };
    // By ourselves: tonic would compress a kept answer anew for each who asks for it.
    let compressed = if compresses { derived::gzip(&message).await } else { None };
    let encoding = compressed.as_ref().map(|_| GZIP);
    let mut response = ok(compressed.unwrap_or_else(|| framed(&message)), encoding);
    let headers = std::mem::replace(response.headers_mut(), metadata.into_headers());
    response.headers_mut().extend(headers);
    *response.extensions_mut() = extensions;
    response
}

/// The answer with this frame, whose message is in this encoding.
fn ok(frame: Bytes, encoding: Option<HeaderValue>) -> Response<Body> {
    let mut response = Response::new(Body::new(Whole { frame: Some(frame), ended: false }));
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    if let Some(encoding) = encoding {
        response.headers_mut().insert(ENCODING, encoding);
    }
    response
}

/// The whole answer of a unary call: one message with its prefix, not compressed, and the status OK. Who asked with these headers gets it
/// compressed if that is worth it and taken.
pub async fn whole(frame: Bytes, asked: &HeaderMap) -> Response<Body> {
    let compressed = match derived::takes_gzip(asked) && frame.len() > PREFIX {
        true => derived::gzip(&frame.slice(PREFIX..)).await,
        false => None,
    };
    let encoding = compressed.as_ref().map(|_| GZIP);
    ok(compressed.unwrap_or(frame), encoding)
}

/// The body of [`whole`].
struct Whole {
    frame: Option<Bytes>,
    ended: bool,
}

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(frame) = self.frame.take() {
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        if std::mem::replace(&mut self.ended, true) {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::trailers(HeaderMap::from_iter([OK])))))
    }
}
