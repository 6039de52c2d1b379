//! Answers that are kept encoded: a method whose reply is bytes from a cache is answered with those bytes, which are
//! neither decoded nor encoded again on the way out.
//!
//! Invariant: what [`Encoded`] answers on its path is on the wire exactly what the generated server would answer with the
//! message that the bytes encode, compressed or not; every other path goes to the generated server untouched.

mod answer;
mod codec;
mod derived;
mod message;
mod streaming;
mod unary;

use std::{
    convert::Infallible,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderMap, Request, Response, header::CONTENT_TYPE};
use prost::Message;
use tonic::{Code, body::Body, server::NamedService};
use tower::Service;

use self::answer::GRPC;
use crate::rpc;

pub use answer::Answer;
pub use codec::Codec;
pub use derived::Derived;
pub use streaming::{Frames, Streaming};
pub use unary::{Unary, whole};

/// A generated server `S` whose method at one path is answered by `A` with encoded messages, compressed for who asks; may be nested.
pub struct Encoded<S, A, M> {
    path: &'static str,
    answer: A,
    rest: S,
    request: PhantomData<fn() -> M>,
}

impl<S, A, M> Encoded<S, Unary<A>, M> {
    /// Answers the unary method at `path`, as `/package.Service/Method`, by `answer`, and every other path by `rest`.
    pub fn unary(path: &'static str, answer: A, rest: S) -> Self {
        Self { path, answer: Unary(answer), rest, request: PhantomData }
    }
}

impl<S, A, M> Encoded<S, Streaming<A>, M> {
    /// Answers the streaming method at `path`, as `/package.Service/Method`, by `answer`, and every other path by `rest`.
    pub fn streaming(path: &'static str, answer: A, rest: S) -> Self {
        Self { path, answer: Streaming(answer), rest, request: PhantomData }
    }
}

impl<S: Clone, A: Clone, M> Clone for Encoded<S, A, M> {
    fn clone(&self) -> Self {
        Self { path: self.path, answer: self.answer.clone(), rest: self.rest.clone(), request: PhantomData }
    }
}

impl<S: std::fmt::Debug, A, M> std::fmt::Debug for Encoded<S, A, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoded").field("path", &self.path).field("rest", &self.rest).finish_non_exhaustive()
    }
}

impl<S: NamedService, A, M> NamedService for Encoded<S, A, M> {
    const NAME: &'static str = S::NAME;
}

impl<S, A, M> Service<Request<Body>> for Encoded<S, A, M>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
    A: Answer<M> + Clone + Send + 'static,
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
                Ok(request) => Ok(answer.reply(request, compresses).await),
                // On the heap: it is seldom needed, and as large as the rest of a call.
                Err(request) => Ok(Box::pin(answer.through_codec(request)).await),
            }
        })
    }
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::BodyExt as _;
    use tonic::Status;
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
        let encoded = Encoded::unary(
            CHECK,
            async |request: tonic::Request<HealthCheckRequest>| {
                answer(&request.into_inner()).map(|reply| tonic::Response::new(reply.encode_to_vec().into()))
            },
            HealthServer::new(Generated),
        );
        for name in ["known", "unknown"] {
            let generated = ask(HealthServer::new(Generated), CHECK, name).await;
            assert_eq!(ask(encoded.clone(), CHECK, name).await, generated, "{name}");
        }
        // So are those of the frame that a service answered with.
        let (headers, frame, trailers) = ask(encoded.clone(), CHECK, "known").await;
        let response = whole(frame.clone(), &HeaderMap::new()).await;
        assert_eq!(*response.headers(), headers);
        let body = response.into_body().collect().await.unwrap();
        assert_eq!((body.trailers().cloned(), body.to_bytes()), (trailers, frame));
        let (status, ..) = ask(encoded.clone(), CHECK, "unknown").await;
        assert_eq!(*refused(&status).headers(), status);
        let (headers, ..) = ask(encoded, "/grpc.health.v1.Health/Watch", "known").await;
        assert_eq!(headers["grpc-message"], "from%20the%20generated%20server");
    }
}
