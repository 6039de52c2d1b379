//! What happens around every call that comes in: its span and parent, its deadline, its counter, its token, the limit, and what it
//! became.

use std::{
    convert::Infallible,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt as _, future::Either};
use http::{HeaderMap, Request, Response};
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::{body::Body, service::Routes};
use tower::Service;
use tracing::{Instrument as _, Span, field::Empty};

use super::{Shared, Timeouts};
use crate::{
    request::{Scope, Staleness, Tokens, deadline},
    rpc::{self, Call, Panicked, Side},
    status::Failure,
    telemetry,
};

/// What a shed call is told to wait.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// A service with this server's treatment of every call.
#[derive(Clone, Debug)]
pub struct Rpc<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Rpc<S> {
    pub(super) fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
    }
}

impl<S> Service<Request<Body>> for Rpc<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let timeouts = self.shared.by_method.get(path).copied().unwrap_or(self.shared.timeouts);
        let span = span(path);
        let method = path.trim_start_matches('/').into();
        telemetry::extract(&span, request.headers());
        let at = expiry(request.headers_mut(), timeouts);
        let tokens = Tokens::of(request.headers());
        let bounded = timeouts.longest.is_some();
        let asked = Staleness::of(request.headers());
        let staleness = asked.as_ref().ok().cloned().flatten();
        let scope = Scope { deadline: at, tokens: tokens.clone(), staleness: staleness.clone(), ..Scope::default() };
        let mut call = Call::begin(Side::Server, method, span.clone(), scope.clone());

        if let Err(failure) = asked {
            call.finish(failure.code());
            return Box::pin(async move { Ok(rpc::refuse(failure)) });
        }
        let slot = bounded.then(|| Slot::take(&self.shared));
        if let Some(None) = slot {
            let failure = Failure::exhausted("OVERLOADED", "too many calls at once", RETRY_AFTER);
            call.finish(failure.code());
            return Box::pin(async move { Ok(rpc::refuse(failure)) });
        }

        // The clone that was polled ready is the one that is called.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let public = self.shared.public;
        let work = async move {
            let _slot = slot;
            let answer = AssertUnwindSafe(async move { inner.call(request).await }).catch_unwind();
            let answer = match at {
                Some(at) => timeout_at(at, answer).await,
                None => Ok(answer.await),
            };
            let mut response = match answer {
                Ok(Ok(Ok(response))) => response,
                Ok(Err(_)) => rpc::refuse(Failure::internal(Panicked)),
                Err(_) => rpc::refuse(Failure::deadline()),
            };
            if let Some(tokens) = tokens {
                tokens.write_reply(response.headers_mut());
            }
            if let Some(staleness) = staleness {
                staleness.write_reply(response.headers_mut());
            }
            let expiry = at.map(|at| Box::pin(sleep_until(at)));
            let mut response = call.watch(response, expiry);
            if public {
                response.headers_mut().remove(rpc::QUERIES);
            }
            Ok(response)
        };
        Box::pin(scope.run(work.instrument(span)))
    }
}

/// The moment at which a call expires. The header is taken out: tonic would act on it too, and answer CANCELLED.
fn expiry(headers: &mut HeaderMap, timeouts: Timeouts) -> Option<Instant> {
    let asked = headers.remove(deadline::HEADER);
    let given = asked.as_ref().and_then(deadline::parse).or(timeouts.default)?;
    let given = timeouts.longest.map_or(given, |longest| given.min(longest));
    Instant::now().checked_add(given)
}

fn span(path: &str) -> Span {
    let (service, method) = rpc::split(path);
    if service.starts_with("grpc.") {
        // Probes come every few seconds and belong to no request.
        return Span::none();
    }
    tracing::info_span!(
        "server",
        otel.name = path.trim_start_matches('/'),
        otel.kind = "server",
        otel.status_code = Empty,
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method,
        rpc.grpc.status_code = Empty,
        rushes.account = Empty,
        rushes.queries = Empty,
    )
}

/// Health and reflection, and beside them the service itself.
#[derive(Clone, Debug)]
pub struct Beside<S> {
    probes: Routes,
    service: S,
}

impl<S> Beside<S> {
    pub(super) fn new(probes: Routes, service: S) -> Self {
        Self { probes, service }
    }
}

impl<S> Service<Request<Body>> for Beside<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Either<<Routes as Service<Request<Body>>>::Future, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Routes are always ready.
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path().starts_with("/grpc.") {
            Either::Left(self.probes.call(request))
        } else {
            Either::Right(self.service.call(request))
        }
    }
}

/// One of the calls that may run at a time.
struct Slot(Arc<Shared>);

impl Slot {
    fn take(shared: &Arc<Shared>) -> Option<Self> {
        if shared.running.fetch_add(1, Ordering::Relaxed) < shared.limit {
            return Some(Self(shared.clone()));
        }
        shared.running.fetch_sub(1, Ordering::Relaxed);
        None
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}
