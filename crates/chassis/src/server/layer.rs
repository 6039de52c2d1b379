//! What happens around every call that comes in: its span and parent, its deadline, its counter, its tokens, the limit, and how it
//! ended.

use std::{
    convert::Infallible,
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::FutureExt as _;
use http::{HeaderMap, Request, Response};
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::body::Body;
use tower::Service;
use tracing::{Instrument as _, Span, field::Empty};

use super::{
    connection::Client,
    door::Door,
    guard::Guard,
    messages,
    methods::{self, Methods, Timeouts},
    probes,
};
use crate::{
    admission::Admission,
    identity,
    request::{Scope, Staleness, Tokens, caller::Verified, deadline},
    rpc::{self, Call, Panicked, Side},
    status::Failure,
    telemetry::{self, Traced, attributes},
};

/// What all calls of one server share.
#[derive(Debug)]
pub(super) struct Policy {
    methods: Methods,
    calls: Admission,
    probes: probes::Places,
    /// What the port grants, if it is one for the outside.
    door: Option<Arc<Door>>,
    /// What the port asks of callers, if it is one of a service's two doors.
    guard: Option<Guard>,
}

impl Policy {
    /// Calls of `methods`, at most `limit` at a time; through a `door` for the outside no internal metadata goes out, and its
    /// calls are admitted by whoever knows who calls.
    pub(super) fn new(methods: Methods, limit: usize, door: Option<Arc<Door>>) -> Self {
        Self { methods, calls: Admission::new(limit), probes: probes::Places::new(door.is_some()), door, guard: None }
    }

    /// The same, which asks every call but probes who makes it.
    pub(super) fn guarded(self, guard: Guard) -> Self {
        Self { guard: Some(guard), ..self }
    }

    /// Whether a caller's trace context is the parent of what is done for it.
    fn trusts_trace(&self) -> bool {
        self.door.as_ref().is_none_or(|door| door.trust_traceparent)
    }
}

/// A service with this server's treatment of every call.
#[derive(Clone, Debug)]
pub struct Rpc<S> {
    inner: S,
    policy: Arc<Policy>,
}

impl<S> Rpc<S> {
    pub(super) fn new(inner: S, policy: Policy) -> Self {
        Self { inner, policy: Arc::new(policy) }
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
        let method = self.policy.methods.at(path);
        let timeouts = method.timeouts;
        let is_probe = probes::is_probe(path);
        let max_message = if is_probe { Some(messages::MAX_PROBE) } else { method.max_message };
        // Probes come every few seconds and belong to no request.
        let traced = match is_probe {
            true => Traced::In(Span::none()),
            false => telemetry::begin(request.headers(), self.policy.trusts_trace(), || span(path, &method.name)),
        };
        let (span, unrecorded) = match traced {
            Traced::In(span) => (span, None),
            Traced::Not(unrecorded) => (Span::none(), Some(unrecorded)),
        };
        let name = method.name.clone();
        let at = expiry(request.headers_mut(), timeouts);
        let verified = match &self.policy.guard {
            Some(guard) if !is_probe => Some(guard.admit(method, request.headers_mut())),
            _ => None,
        };
        let on_behalf = match &verified {
            Some(verified) => verified.as_ref().is_ok_and(|verified| verified.account.is_some()),
            // A server without a guard believes nobody, and its answers to a service carry what was written all the same.
            None => request.headers().contains_key(identity::HEADER),
        };
        let tokens = on_behalf.then(|| Tokens::of(request.headers()));
        let asked = Staleness::of(request.headers());
        let staleness = asked.as_ref().ok().cloned().flatten();
        let queries = Arc::default();
        let account = verified.as_ref().and_then(|verified| verified.as_ref().ok()?.account);
        let scope =
            Scope { deadline: at, account, tokens: tokens.clone(), staleness: staleness.clone(), unrecorded, queries };
        let side = Side::Server { endless: timeouts.is_endless() };
        let mut call = Call::begin(side, name, span.clone(), scope.clone());

        let verified = match verified.transpose() {
            Ok(verified) => verified,
            Err(failure) => return Box::pin(std::future::ready(Ok(call.refuse(failure)))),
        };
        if let Err(failure) = asked {
            return Box::pin(std::future::ready(Ok(call.refuse(failure))));
        }
        if let Some(verified) = verified {
            note(&span, &verified);
            request.extensions_mut().insert(verified);
        }
        let slot = match (is_probe, timeouts.is_endless()) {
            (true, _) => {
                let place = self.policy.probes.take(request.uri().path(), Client::address_of(request.extensions()));
                place.map(|place| call.hold(place)).map(|()| None)
            }
            (false, true) => Ok(None),
            // Whoever has no key yet must not take the place of one who has: the service behind admits the call.
            (false, false) if self.policy.door.is_some() => {
                request.extensions_mut().insert(self.policy.calls.clone());
                Ok(None)
            }
            (false, false) => self.policy.calls.admit_within(method.places).map(Some),
        };
        let slot = match slot {
            Ok(slot) => slot,
            Err(failure) => return Box::pin(std::future::ready(Ok(call.refuse(failure)))),
        };

        if let Some(max) = max_message {
            request = messages::limit(request, max);
        }
        // The clone that was polled ready is the one that is called.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let public = self.policy.door.is_some();
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

fn note(span: &Span, verified: &Verified) {
    if let Some(account) = verified.account {
        span.record(attributes::ACCOUNT, tracing::field::display(account));
    }
}

/// The moment at which a call expires. The header is taken out: tonic would act on it too, and answer CANCELLED.
fn expiry(headers: &mut HeaderMap, timeouts: Timeouts) -> Option<Instant> {
    let asked = headers.remove(deadline::HEADER);
    let given = asked.as_ref().and_then(deadline::parse).or(timeouts.default)?;
    let given = timeouts.longest.map_or(given, |longest| given.min(longest));
    Instant::now().checked_add(given)
}

fn span(path: &str, name: &str) -> Span {
    // A method that does not exist here has one name for all, but whoever looks at a span should see what was asked for.
    let original = (name == methods::UNKNOWN).then(|| path.trim_start_matches('/'));
    tracing::info_span!(
        "server",
        otel.name = name,
        otel.kind = "server",
        otel.status_code = Empty,
        { attributes::RPC_SYSTEM_NAME } = "grpc",
        { attributes::RPC_METHOD } = name,
        { attributes::RPC_METHOD_ORIGINAL } = original,
        { attributes::RPC_RESPONSE_STATUS_CODE } = Empty,
        { attributes::ACCOUNT } = Empty,
        { attributes::QUERIES } = Empty,
    )
}
