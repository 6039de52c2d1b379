//! One RPC as both sides see it: its name, its outcome, and the body that is watched to its end, because the status of a
//! stream comes last.
//!
//! Invariants: every call is finished exactly once, with its metrics and the status on its span, however it ends; a body
//! that is dropped early counts as `CANCELLED`. Every error that a server answers with has an `ErrorInfo`, whoever made it.

use std::{
    future::Future as _,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};
use tokio::time::Sleep;
use tonic::{Code, Status, body::Body};
use tonic_types::{ErrorDetails, StatusExt as _};
use tracing::Span;

use crate::{
    admission::Place,
    metrics,
    request::{Scope, metadata::unlike_others},
    status::{self, Failure},
    telemetry::{self, attributes, metric::Value},
};

/// Response metadata with the count of database round trips, for tests and benchmarks; it stays inside.
pub(crate) const QUERIES: HeaderName = HeaderName::from_static("x-rushes-queries");

const GRPC_STATUS: &str = "grpc-status";
const GRPC_STATUS_DETAILS: &str = "grpc-status-details-bin";

/// The status in headers or trailers, if it is there.
pub(crate) fn code(headers: &HeaderMap) -> Option<Code> {
    let value = headers.get(GRPC_STATUS)?;
    Some(Code::from_bytes(value.as_bytes()))
}

/// The name of a code as gRPC spells it.
pub(crate) fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// A status as a whole response without a body.
pub(crate) fn refuse(failure: Failure) -> http::Response<Body> {
    Status::from(failure).into_http()
}

/// Which end of the call this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server {
        /// The call lasts as long as both ends want.
        endless: bool,
    },
}

/// A call that has begun; dropping it unfinished records `CANCELLED`.
#[derive(Debug)]
pub(crate) struct Call {
    side: Side,
    /// `package.Service/Method`.
    method: Arc<str>,
    span: Span,
    /// The id of the span's trace, if it has one and is to be told.
    trace: Option<HeaderValue>,
    scope: Scope,
    began: Instant,
    finished: bool,
    /// The place that a probe takes up for as long as it lasts.
    held: Option<Place>,
}

impl Call {
    pub(crate) fn begin(side: Side, method: Arc<str>, span: Span, scope: Scope) -> Self {
        // Only a server's answers say it.
        let is_server = side != Side::Client;
        let id = || scope.run_sync(|| telemetry::trace_id_of(&span));
        let trace = is_server.then(id).flatten().and_then(unlike_others);
        Self { side, method, span, trace, scope, began: Instant::now(), finished: false, held: None }
    }

    /// Keeps a place until the call has ended, its answer's body included.
    pub(crate) fn hold(&mut self, place: Place) {
        self.held = Some(place);
    }

    /// Ends the call before it has begun, and gives the answer.
    pub(crate) fn refuse(self, failure: Failure) -> http::Response<Body> {
        let response = self.within(|| refuse(failure));
        self.watch(response, None)
    }

    /// Runs something as a part of the call.
    fn within<R>(&self, f: impl FnOnce() -> R) -> R {
        self.scope.run_sync(|| self.span.in_scope(f))
    }

    pub(crate) fn finish(&mut self, code: Code) {
        if std::mem::replace(&mut self.finished, true) {
            return;
        }
        self.span.record(attributes::RPC_RESPONSE_STATUS_CODE, name(code));
        // A client counts every refusal as its error; a server only what is its own fault.
        let error = match self.side {
            Side::Client => code != Code::Ok,
            Side::Server { .. } => matches!(
                code,
                Code::Unknown
                    | Code::DeadlineExceeded
                    | Code::Unimplemented
                    | Code::Internal
                    | Code::Unavailable
                    | Code::DataLoss
            ),
        };
        if error {
            self.span.record("otel.status_code", "ERROR");
        }
        let elapsed = self.began.elapsed();
        let labels = [Value::from(self.method.clone()), Value::const_str(name(code))];
        match self.side {
            Side::Client => metrics::RPC_CLIENT_DURATION.with(labels).record(elapsed),
            Side::Server { endless } => {
                let queries = self.scope.queries.load(Ordering::Relaxed);
                self.span.record(attributes::QUERIES, queries);
                metrics::RPC_SERVER_QUERIES.with([self.method.clone()]).record(queries as f64);
                let durations = if endless {
                    metrics::RPC_SERVER_STREAM_DURATION.with(labels)
                } else {
                    metrics::RPC_SERVER_DURATION.with(labels)
                };
                durations.record(elapsed);
            }
        }
    }

    /// Says in headers or trailers of a server's answer which trace it belongs to. An error that was not made from a
    /// [`Failure`] gets its `ErrorInfo` here, and its size is bounded as that of one.
    fn complete(&self, headers: &mut HeaderMap) {
        if self.side == Side::Client {
            return;
        }
        if let Some(code) = code(headers).filter(|code| *code != Code::Ok) {
            let (bare, reason) = match status::oversized(headers) {
                Some((bare, reason)) => (Some(bare), reason),
                None if headers.contains_key(GRPC_STATUS_DETAILS) => (None, None),
                None => (Status::from_header_map(headers), None),
            };
            if let Some(bare) = bare {
                let of_code = if code == Code::Unimplemented { "METHOD_UNKNOWN" } else { name(code) };
                let reason = reason.unwrap_or_else(|| of_code.to_owned());
                let trace = self.within(status::trace_metadata);
                let details = ErrorDetails::with_error_info(reason, status::DOMAIN, trace);
                // It cannot be too long: its parts came out of headers, and were cut.
                let _ = Status::with_error_details(code, bare.message(), details).add_header(headers);
            }
        }
        if let Some(trace) = &self.trace {
            headers.insert(telemetry::TRACE_ID_HEADER, trace.clone());
        }
    }

    /// Takes over the response: finishes the call now if its status is in the headers, or else watches the body.
    pub(crate) fn watch(
        mut self,
        mut response: http::Response<Body>,
        expiry: Option<Pin<Box<Sleep>>>,
    ) -> http::Response<Body> {
        if self.side != Side::Client {
            let queries = self.scope.queries.load(Ordering::Relaxed);
            response.headers_mut().insert(QUERIES, HeaderValue::from(queries));
        }
        self.complete(response.headers_mut());
        if let Some(code) = code(response.headers()) {
            self.finish(code);
            return response;
        }
        response.map(|inner| Body::new(Watched { inner, call: self, expiry, ended: false }))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.finish(Code::Cancelled);
    }
}

/// A response body that finishes its call at its end, polled inside the call's span, with its deadline and counter.
struct Watched {
    inner: Body,
    call: Call,
    expiry: Option<Pin<Box<Sleep>>>,
    ended: bool,
}

impl Watched {
    fn end(&mut self, failure: Failure) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.ended = true;
        // What produced the body is dropped at once, not when the peer has read the end.
        self.inner = Body::empty();
        let code = failure.code();
        let mut trailers = HeaderMap::new();
        let written = self.call.within(|| Status::from(failure)).add_header(&mut trailers);
        self.call.complete(&mut trailers);
        self.call.finish(code);
        Poll::Ready(Some(written.map(|()| Frame::trailers(trailers))))
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let Call { side, scope, span, .. } = &this.call;
            let inner = Pin::new(&mut this.inner);
            match side {
                // Its messages are made while it is read, and whatever that does is the call's.
                Side::Server { endless: true } => scope.run_sync(|| span.in_scope(|| inner.poll_frame(context))),
                // These are only passed on.
                Side::Server { endless: false } | Side::Client => inner.poll_frame(context),
            }
        }));
        match polled {
            Ok(Poll::Ready(Some(Ok(mut frame)))) => {
                if let Some(trailers) = frame.trailers_mut()
                    && let Some(code) = code(trailers)
                {
                    this.ended = true;
                    this.call.complete(trailers);
                    this.call.finish(code);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            // Whoever passes the body on must end it with a status: an error in place of one would break its own reply.
            Ok(Poll::Ready(Some(Err(status)))) if this.call.side == Side::Client => {
                this.end(broken_off().because(status))
            }
            Ok(Poll::Ready(None)) if this.call.side == Side::Client => this.end(broken_off()),
            Ok(Poll::Ready(Some(Err(status)))) => {
                this.ended = true;
                this.call.finish(status.code());
                Poll::Ready(Some(Err(status)))
            }
            Ok(Poll::Ready(None)) => {
                this.ended = true;
                this.call.finish(Code::Unknown);
                Poll::Ready(None)
            }
            Ok(Poll::Pending) => {
                let expiry = this.expiry.as_mut();
                if expiry.is_some_and(|sleep| sleep.as_mut().poll(context).is_ready()) {
                    return this.end(Failure::deadline());
                }
                Poll::Pending
            }
            Err(_) => this.end(Failure::internal(Panicked)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The peer is gone, or the connection to it, in the middle of an answer.
fn broken_off() -> Failure {
    Failure::unavailable("DEPENDENCY_DOWN", "the answer broke off in the middle, try again shortly")
}

/// A handler panicked; the panic itself was printed by the panic hook.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the handler panicked")]
pub(crate) struct Panicked;
