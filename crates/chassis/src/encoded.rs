//! Answers that are kept encoded: a method whose reply is bytes from a cache is answered with those bytes, which are
//! neither decoded nor encoded again on the way out.
//!
//! Invariant: what [`Ready`] answers on its path is on the wire exactly what the generated server would answer with the
//! message that the bytes encode, compressed or not; every other path goes to the generated server untouched.

mod derived;
mod message;
mod streamed;

use std::{
    convert::Infallible,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{BufMut as _, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body::Frame;
use prost::Message;
use tonic::{
    Code, Status,
    body::Body,
    codec::{CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::NamedService,
};
use tower::Service;

use crate::{
    frames::{PREFIX, framed},
    rpc,
};

pub use derived::Derived;
pub use streamed::{Frames, Streamed};

/// The type of all of gRPC's contents.
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
/// How the messages of an answer are compressed, those that are.
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GZIP: HeaderValue = HeaderValue::from_static("gzip");
/// The trailer of an answer that came to its end.
const OK: (HeaderName, HeaderValue) = (HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));

/// A codec that reads messages of type `M` and writes messages that are encoded already.
#[derive(Debug)]
pub struct Codec<M>(PhantomData<fn() -> M>);

impl<M> Default for Codec<M> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<M: Message + Default + Send + 'static> tonic::codec::Codec for Codec<M> {
    type Encode = Bytes;
    type Decode = M;
    type Encoder = Verbatim;
    type Decoder = Decode<M>;

    fn encoder(&mut self) -> Verbatim {
        Verbatim
    }

    fn decoder(&mut self) -> Decode<M> {
        Decode(PhantomData)
    }
}

/// Writes bytes as they are.
#[derive(Clone, Copy, Debug)]
pub struct Verbatim;

impl Encoder for Verbatim {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

/// Reads messages of type `M`.
#[derive(Debug)]
pub struct Decode<M>(PhantomData<fn() -> M>);

impl<M: Message + Default> Decoder for Decode<M> {
    type Item = M;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<M>, Status> {
        // The code that tonic's own codec gives to a message that is no message.
        M::decode(buffer).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

/// A generated server `S` whose unary method at one path is answered by `A` with encoded bytes, compressed for who asks; may
/// be nested.
pub struct Ready<S, A, M> {
    path: &'static str,
    answer: A,
    rest: S,
    request: PhantomData<fn() -> M>,
}

impl<S, A, M> Ready<S, A, M> {
    /// Answers `path`, as `/package.Service/Method`, by `answer`, and every other path by `rest`.
    pub fn new(path: &'static str, answer: A, rest: S) -> Self {
        Self { path, answer, rest, request: PhantomData }
    }
}

impl<S: Clone, A: Clone, M> Clone for Ready<S, A, M> {
    fn clone(&self) -> Self {
        Self::new(self.path, self.answer.clone(), self.rest.clone())
    }
}

impl<S: std::fmt::Debug, A, M> std::fmt::Debug for Ready<S, A, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ready").field("path", &self.path).field("rest", &self.rest).finish_non_exhaustive()
    }
}

impl<S: NamedService, A, M> NamedService for Ready<S, A, M> {
    const NAME: &'static str = S::NAME;
}

impl<S, A, M, F> Service<Request<Body>> for Ready<S, A, M>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
    A: Fn(tonic::Request<M>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<tonic::Response<Bytes>, Status>> + Send + 'static,
    M: Message + Default + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.rest.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path() != self.path {
            return Box::pin(self.rest.call(request));
        }
        let answer = self.answer.clone();
        let compresses = derived::takes_gzip(request.headers());
        Box::pin(async move {
            match message::read(request).await {
                Ok(request) => Ok(reply(answer(request).await, compresses).await),
                // On the heap: it is seldom needed, and as large as the rest of a call.
                Err(request) => Ok(Box::pin(through_codec(answer, request)).await),
            }
        })
    }
}

/// The answer to a request that tonic reads, and says of what is wrong with it.
async fn through_codec<A, M, F>(answer: A, request: Request<Body>) -> Response<Body>
where
    A: Fn(tonic::Request<M>) -> F + Send + 'static,
    F: Future<Output = Result<tonic::Response<Bytes>, Status>> + Send + 'static,
    M: Message + Default + Send + 'static,
{
    let grpc = tonic::server::Grpc::new(Codec::default()).accept_compressed(CompressionEncoding::Gzip);
    let mut grpc = grpc.send_compressed(CompressionEncoding::Gzip);
    grpc.unary(tower::service_fn(answer), request).await
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

/// Has who is asked with these headers answer with messages that are not compressed.
pub fn ask_plain(headers: &mut HeaderMap) {
    headers.remove(derived::ACCEPTED);
}

/// The answer of a unary call that was refused with these headers or trailers.
#[must_use]
pub fn refused(status: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.headers_mut() = status.clone();
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

/// The status in headers or trailers, if it is there.
#[must_use]
pub fn code(headers: &HeaderMap) -> Option<Code> {
    rpc::code(headers)
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

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tonic_health::pb::{
        HealthCheckRequest, HealthCheckResponse,
        health_server::{Health, HealthServer},
    };

    use super::*;

    const CHECK: &str = "/grpc.health.v1.Health/Check";

    #[derive(Clone)]
    struct Generated;

    #[tonic::async_trait]
    impl Health for Generated {
        type WatchStream = futures::stream::Empty<Result<HealthCheckResponse, Status>>;

        async fn check(
            &self,
            request: tonic::Request<HealthCheckRequest>,
        ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
            answer(&request.into_inner()).map(tonic::Response::new)
        }

        async fn watch(
            &self,
            _: tonic::Request<HealthCheckRequest>,
        ) -> Result<tonic::Response<Self::WatchStream>, Status> {
            Err(Status::unavailable("from the generated server"))
        }
    }

    fn answer(request: &HealthCheckRequest) -> Result<HealthCheckResponse, Status> {
        match request.service.as_str() {
            "unknown" => Err(Status::not_found("unknown")),
            _ => Ok(HealthCheckResponse { status: 1 }),
        }
    }

    async fn ask<S>(mut service: S, path: &str, name: &str) -> (http::HeaderMap, Bytes, Option<http::HeaderMap>)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let message = HealthCheckRequest { service: name.to_owned() }.encode_to_vec();
        let mut frame = vec![0];
        frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        frame.extend(message);
        let request = Request::post(path)
            .header("content-type", "application/grpc")
            .body(Body::new(http_body_util::Full::new(Bytes::from(frame)).map_err(|never| match never {})))
            .unwrap();
        let response = service.call(request).await.unwrap();
        let headers = response.headers().clone();
        let body = response.into_body().collect().await.unwrap();
        let trailers = body.trailers().cloned();
        (headers, body.to_bytes(), trailers)
    }

    #[tokio::test]
    async fn on_the_wire_the_two_answers_are_one() {
        let ready = Ready::new(
            CHECK,
            async |request: tonic::Request<HealthCheckRequest>| {
                answer(&request.into_inner()).map(|reply| tonic::Response::new(reply.encode_to_vec().into()))
            },
            HealthServer::new(Generated),
        );
        for name in ["known", "unknown"] {
            let generated = ask(HealthServer::new(Generated), CHECK, name).await;
            assert_eq!(ask(ready.clone(), CHECK, name).await, generated, "{name}");
        }
        // So are those of the frame that a service answered with.
        let (headers, frame, trailers) = ask(ready.clone(), CHECK, "known").await;
        let response = whole(frame.clone(), &HeaderMap::new()).await;
        assert_eq!(*response.headers(), headers);
        let body = response.into_body().collect().await.unwrap();
        assert_eq!((body.trailers().cloned(), body.to_bytes()), (trailers, frame));
        let (status, ..) = ask(ready.clone(), CHECK, "unknown").await;
        assert_eq!(*refused(&status).headers(), status);
        let (headers, ..) = ask(ready, "/grpc.health.v1.Health/Watch", "known").await;
        assert_eq!(headers["grpc-message"], "from%20the%20generated%20server");
    }
}
