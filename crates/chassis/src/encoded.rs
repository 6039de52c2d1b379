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
mod tests;
