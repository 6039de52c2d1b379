//! Channels to other services: spread over four HTTP/2 connections or more, each call with a span, a metric, the W3C context and the
//! request's deadline shrunk by the hop.
//!
//! Invariant: a channel never fails but by a gRPC status; a peer that cannot be reached is `UNAVAILABLE` and an expired
//! deadline is `DEADLINE_EXCEEDED`.

mod connection;
mod lazy;
mod spread;

use std::{
    convert::Infallible,
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{
    Request, Response, Uri,
    request::Parts,
    uri::{Authority, PathAndQuery, Scheme},
};
use tokio::time::timeout;
use tonic::{Code, body::Body};
use tower::Service;
use tracing::{Instrument as _, Span, field::Empty};
use uuid::Uuid;

pub(crate) use self::connection::{CONNECTION_WINDOW, MAX_HEADERS, STREAM_WINDOW};
use self::{
    connection::{Broken, Connection, Unanswered, WATCH_WINDOW},
    lazy::Lazy,
    spread::{Resolve, Spread},
};
use crate::{
    identity::{self, By, Shown},
    keyring::InternalKeys,
    request::{Scope, caller, deadline},
    rpc::{self, Call, Side},
    status::Failure,
    telemetry::{self, attributes},
};

/// One connection between two processes costs 15 % more than four; sixteen are no better.
const CONNECTIONS: usize = 4;

/// How many connections are tried for a call that none of them sends: several may have said goodbye at once.
const ATTEMPTS: usize = 4;

/// In the extensions of a request: it changes nothing, so where its connection ends before an answer has begun, it is sent once more.
#[derive(Clone, Copy, Debug)]
pub struct ChangesNothing;

/// A channel to one service; cheap to clone.
#[derive(Clone, Debug)]
pub struct Channel {
    name: &'static str,
    authority: Authority,
    /// To all addresses of the service's name; none where it is called by its address.
    spread: Option<Arc<Spread>>,
    /// These connect at their first call, and again whenever they are lost.
    lazy: Arc<[Lazy]>,
    next: Arc<AtomicUsize>,
    /// Who we say that we are.
    shown: Option<Arc<Shown>>,
}

/// A channel to the service called `name` at `uri` (`http://host:port`). By an address there are four connections to it, by a name as
/// many to each of the name's addresses: one that is new there gets its share of the calls within seconds. Needs a tokio runtime.
#[must_use]
pub fn connect(name: &'static str, uri: &Uri) -> Channel {
    connect_with(name, uri, STREAM_WINDOW)
}

/// The same for watches, of whose answers fewer bytes wait unread.
#[must_use]
pub fn connect_for_watches(name: &'static str, uri: &Uri) -> Channel {
    connect_with(name, uri, WATCH_WINDOW)
}

fn connect_with(name: &'static str, uri: &Uri, window: u32) -> Channel {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let (is_address, resolve) = (host.parse::<IpAddr>().is_ok(), spread::by_system(host, port(uri)));
    connect_by(name, uri, window, &resolve, (!is_address).then(|| Arc::clone(&resolve)))
}

fn connect_by(name: &'static str, uri: &Uri, window: u32, one: &Resolve, all: Option<Resolve>) -> Channel {
    // Until the name's first address answers, and whenever none does, one connection is tried for all calls.
    let lazy = if all.is_some() { 1 } else { CONNECTIONS };
    Channel {
        name,
        authority: uri.authority().cloned().unwrap_or_else(|| Authority::from_static("localhost")),
        lazy: (0..lazy).map(|_| Lazy::new(Arc::clone(one), window)).collect(),
        spread: all.map(|resolve| Spread::begin(name, window, CONNECTIONS, resolve)),
        next: Arc::default(),
        shown: None,
    }
}

fn port(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or(80)
}

impl Channel {
    /// The same to the service's internal door: each call says that the service `name` calls, and for which account if
    /// [`Caller::attach`](crate::request::caller::Caller::attach) named one.
    #[must_use]
    pub fn as_service(self, name: &'static str, keys: &InternalKeys) -> Self {
        Self { shown: Some(Arc::new(Shown::new(keys, By::Service(name)))), ..self }
    }

    /// The same to the service's public door, past the gateway: each call says that the API key of this id calls with these scopes
    /// (with `+` between them), and for which account if one was attached.
    #[must_use]
    pub fn as_key(self, id: Uuid, scopes: &'static str, keys: &InternalKeys) -> Self {
        Self { shown: Some(Arc::new(Shown::new(keys, By::Key { id, scopes }))), ..self }
    }

    async fn pick(&self) -> Result<Connection, Broken> {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        match self.spread.as_ref().and_then(|spread| spread.pick(next)) {
            Some(connection) => Ok(connection),
            None => self.lazy[next % self.lazy.len()].get().await,
        }
    }

    /// Sends a request, and sends it again over another connection when the first one had said goodbye before the other side took it, or
    /// ended without an answer to one that changes nothing. The latter once: it may be what ended it.
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, Broken> {
        let (head, mut body) = request.into_parts();
        let mut may_begin_again = head.extensions.get::<ChangesNothing>().is_some();
        let mut attempts = 1;
        loop {
            let connection = self.pick().await?;
            let Unanswered { error, was_begun, body: again } = match connection.send(self.head(&head), body).await {
                Ok(response) => return Ok(response),
                Err(unanswered) => unanswered,
            };
            let may_send = attempts < ATTEMPTS && (!was_begun || std::mem::take(&mut may_begin_again));
            body = again.filter(|_| may_send).ok_or(error)?;
            attempts += 1;
        }
    }

    /// What is sent before the body.
    fn head(&self, head: &Parts) -> Request<()> {
        let mut to = http::uri::Parts::default();
        to.scheme = Some(Scheme::HTTP);
        to.authority = Some(self.authority.clone());
        to.path_and_query = head.uri.path_and_query().cloned().or(Some(PathAndQuery::from_static("/")));
        let mut request = Request::new(());
        *request.method_mut() = head.method.clone();
        // All three parts are there.
        *request.uri_mut() = Uri::from_parts(to).unwrap_or_default();
        *request.headers_mut() = head.headers.clone();
        request
    }

    fn span(&self, path: &str) -> Span {
        let method = path.trim_start_matches('/');
        tracing::info_span!(
            "client",
            otel.name = method,
            otel.kind = "client",
            otel.status_code = Empty,
            { attributes::RPC_SYSTEM_NAME } = "grpc",
            { attributes::RPC_METHOD } = method,
            { attributes::RPC_RESPONSE_STATUS_CODE } = Empty,
            { attributes::SERVICE_PEER_NAME } = self.name,
            { attributes::SERVER_ADDRESS } = self.authority.host(),
            { attributes::SERVER_PORT } = self.authority.port_u16().unwrap_or(80),
        )
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let span = self.span(request.uri().path());
        let method = request.uri().path().trim_start_matches('/').into();
        let mut call = Call::begin(Side::Client, method, span.clone(), Scope::current());
        let left = shrink(&mut request);
        telemetry::inject(&span, request.headers_mut());
        let account = caller::take_account(request.extensions_mut());
        if let Some(shown) = &self.shown {
            request.headers_mut().insert(identity::HEADER, shown.to(self.name, account));
        }
        let (channel, name) = (self.clone(), self.name);
        let send = async move {
            if left == Some(Duration::ZERO) {
                call.finish(Code::DeadlineExceeded);
                return Ok(rpc::refuse(Failure::deadline()));
            }
            let sent = channel.send(request);
            let sent = match left {
                Some(left) => timeout(left, sent).await.unwrap_or(Err(Broken::Late)),
                None => sent.await,
            };
            match sent {
                Ok(response) => Ok(call.watch(response, None)),
                Err(error) => {
                    let failure = broken(name, error);
                    call.finish(failure.code());
                    Ok(rpc::refuse(failure))
                }
            }
        };
        Box::pin(send.instrument(span))
    }
}

/// Sets the request's `grpc-timeout` to what is left of the current deadline after this hop, or to the request's own if
/// that is shorter, and returns it; zero means that there is no use in sending.
fn shrink<B>(request: &mut Request<B>) -> Option<Duration> {
    let own = request.headers().get(deadline::HEADER).and_then(deadline::parse);
    let left = deadline::remaining().map(|left| left.saturating_sub(deadline::HOP));
    let left = match (own, left) {
        (Some(own), Some(left)) => own.min(left),
        (own, left) => own.or(left)?,
    };
    request.headers_mut().insert(deadline::HEADER, deadline::format(left));
    Some(left)
}

/// What a broken call means to the caller.
fn broken(name: &'static str, error: Broken) -> Failure {
    match error {
        Broken::Late => Failure::deadline(),
        _ => {
            Failure::unavailable("DEPENDENCY_DOWN", format!("{name} does not answer, try again shortly")).because(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn each_hop_keeps_a_little_of_the_deadline() {
        let at = Instant::now() + Duration::from_secs(2);
        deadline::within(at, async {
            tokio::time::advance(Duration::from_millis(100)).await;
            let mut request = Request::new(());
            assert_eq!(shrink(&mut request), Some(Duration::from_millis(1_895)));
            let sent = deadline::parse(&request.headers()[deadline::HEADER]);
            assert_eq!(sent, Some(Duration::from_millis(1_895)));

            let own = deadline::format(Duration::from_millis(300));
            request.headers_mut().insert(deadline::HEADER, own);
            assert_eq!(shrink(&mut request), Some(Duration::from_millis(300)));
        })
        .await;
        assert_eq!(shrink(&mut Request::new(())), None);
    }
}
