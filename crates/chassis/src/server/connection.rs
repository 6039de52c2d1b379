//! One connection of the public port, from its first byte to its end.
//!
//! Invariants: a connection that says nothing, does nothing, takes nothing or is old ends, and each of these is counted; what
//! a request holds is free when its stream has ended, whether or not its peer has read it; the connections and requests of one
//! address run in its turns, however many there are; and a connection that grows old ends after its watches were told.

mod activity;
mod fair_queue;
mod frames;
mod io;

use std::{
    convert::Infallible,
    future::poll_fn,
    net::{IpAddr, Ipv4Addr},
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use futures::task::AtomicWaker;
use http::{Extensions, HeaderValue, Request, Response, StatusCode, Version, header::CONTENT_TYPE};
use hyper::{body::Incoming, rt::Executor, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use moka::future::Cache;
use tokio::{net::TcpStream, time::sleep};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::{Service, ServiceExt as _};

use self::{
    activity::{Activity, Idle, Open},
    fair_queue::FairQueue,
    frames::Allowance,
    io::Io,
};
use super::door::Door;
use crate::{
    admission::{Admission, ByAddress, Full, Place, Slot},
    metrics, rpc,
    status::Failure,
};

/// How much of an answer waits for a stream's peer to take it.
const SEND_BUFFER: usize = 64 << 10;
/// How long calls that run on a connection which has been asked to end may still take: longer than the longest of all methods.
const AGE_GRACE: Duration = Duration::from_secs(900);
/// How long an idle connection may take to end by itself.
const IDLE_GRACE: Duration = Duration::from_secs(5);
/// How many addresses' allowances and turns are remembered, and how long after they were last looked up.
const MAX_ADDRESSES: u64 = 10_000;
const ADDRESS_IDLE: Duration = Duration::from_secs(60);
/// After what time an address that has too many requests may try again.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// What all connections of a public port share.
#[derive(Debug)]
pub(super) struct Connections {
    door: Arc<Door>,
    connections: ByAddress,
    requests: ByAddress,
    /// What connections may cost and the turns of their requests, by address; remembered for a while after an address's last connection.
    addresses: Cache<IpAddr, (Allowance, FairQueue)>,
}

/// Whose request it is, and on what it came: in the extensions of every request to a public port.
#[derive(Clone, Debug)]
pub struct Client {
    address: IpAddr,
    connection: Arc<Connection>,
    stream: Stream,
}

/// What all requests of one connection share.
#[derive(Debug)]
struct Connection {
    trusted_to_trace: bool,
    long_streams: Admission,
    ending: CancellationToken,
    allowance: Allowance,
}

impl Client {
    /// The address that limits count by, from the extensions of a request; that of nobody for one that did not come to a public port.
    #[must_use]
    pub fn address_of(extensions: &Extensions) -> IpAddr {
        extensions.get().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |client: &Self| client.address)
    }

    /// Has the address of a request pay for bytes of its body, which anybody may send, as the bytes of HTTP/1 pay for themselves. Those
    /// of HTTP/2 cost nothing as they come, since uploads by who has a key come so. No answer gives it back.
    pub fn pay_for_body(extensions: &Extensions, version: Version, bytes: usize) {
        if let Some(client) = extensions.get::<Self>().filter(|_| version == Version::HTTP_2) {
            client.connection.allowance.pay_for_body(bytes);
        }
    }

    /// Whether the trace context of a request with these extensions is the parent of what is done for it.
    #[must_use]
    pub fn is_trusted_to_trace(extensions: &Extensions) -> bool {
        extensions.get().is_some_and(|client: &Self| client.connection.trusted_to_trace)
    }

    /// Takes one of the connection's places for streams that last as long as both sides want, if there is one.
    #[must_use]
    pub fn take_long_stream(&self) -> Option<Slot> {
        self.connection.long_streams.try_take()
    }

    /// Cancelled when the connection takes no more requests: long streams end then, so that their client comes back over another.
    #[must_use]
    pub fn ending(&self) -> &CancellationToken {
        &self.connection.ending
    }

    /// On what it came.
    #[must_use]
    pub fn stream(&self) -> &Stream {
        &self.stream
    }
}

/// One HTTP/2 stream, or an HTTP/1 connection, on which there is one request at a time; clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Stream(Arc<StreamState>);

#[derive(Debug, Default)]
struct StreamState {
    is_cut: AtomicBool,
    /// Whoever runs the stream.
    runner: AtomicWaker,
    held: Mutex<Option<Held>>,
}

/// What a request takes up: its address's place, and for HTTP/1 that its connection is busy.
type Held = (Place, Option<Open>);

impl Stream {
    /// Cuts off at once what is sent over it.
    pub fn cut(&self) {
        self.0.is_cut.store(true, Ordering::Release);
        self.0.runner.wake();
    }

    /// Ends when it is cut off. One task alone may wait for it.
    async fn is_cut(&self) {
        poll_fn(|context| {
            self.0.runner.register(context.waker());
            if self.0.is_cut.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Keeps what a request takes up until its stream ends, or until the next request of the connection.
    fn hold(&self, place: Place, open: Option<Open>) {
        // Each change of it is whole, so a panic elsewhere leaves it usable.
        *self.0.held.lock().unwrap_or_else(PoisonError::into_inner) = Some((place, open));
    }
}

tokio::task_local! {
    static STREAM: Stream;
}

/// Runs the streams of one HTTP/2 connection in its address's turns, each so that it can be cut off.
#[derive(Clone, Debug)]
struct Streams(Arc<Activity>, FairQueue);

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let (open, stream) = (self.0.open(), Stream::default());
        let running = stream.clone();
        self.1.spawn(STREAM.scope(stream, async move {
            let _open = open;
            tokio::select! {
                biased;
                // Whatever is left of the stream is dropped, and its peer gets a reset.
                () = running.is_cut() => {}
                () = future => {}
            }
        }));
    }
}

impl Connections {
    pub(super) fn new(door: Arc<Door>) -> Self {
        let Door { max_connections, max_connections_per_address, max_requests_per_address, .. } = *door;
        let per_address = if door.trusted_hops == 0 { max_connections_per_address } else { usize::MAX };
        let connections = ByAddress::new("connection", max_connections, per_address);
        let requests = ByAddress::new("request", usize::MAX, max_requests_per_address);
        let addresses = Cache::builder().max_capacity(MAX_ADDRESSES).time_to_idle(ADDRESS_IDLE).build();
        Self { door, connections, requests, addresses }
    }

    /// What a connection that begins from `peer` may cost, its beginning paid, and the turns of its requests. A proxy's connections are
    /// of many clients: each has an allowance and turns of its own.
    async fn address(&self, peer: IpAddr) -> (Allowance, FairQueue) {
        let rate = self.door.frame_rate;
        let (allowance, fair) = match self.door.trusted_hops {
            0 => self.addresses.get_with(peer, async { (Allowance::of_address(rate), FairQueue::new()) }).await,
            _ => (Allowance::of_proxy(rate), FairQueue::new()),
        };
        allowance.connected();
        (allowance, fair)
    }

    /// Serves a connection from `peer`, which `tasks` counts, in turn with others of its address, if there is a place for it. It begins
    /// to end with `end`.
    pub(super) fn spawn<S>(
        self: &Arc<Self>,
        stream: TcpStream,
        peer: IpAddr,
        service: S,
        end: &CancellationToken,
        tasks: &tokio_util::task::TaskTracker,
    ) where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
    {
        // Closed without a word: to tell an attacker anything costs more.
        let Ok(place) = self.connections.try_take(peer) else { return };
        let (this, ending, served) = (self.clone(), end.child_token(), tasks.clone());
        tasks.spawn(async move {
            let (allowance, fair) = this.address(peer).await;
            let streams = fair.clone();
            fair.spawn(served.track_future(async move {
                metrics::CONNECTIONS.get().increment(1);
                let reason = this.serve(stream, peer, (allowance, streams), service, ending).await;
                metrics::CONNECTIONS.get().decrement(1);
                metrics::CONNECTIONS_CLOSED.with([reason]).increment(1);
                drop(place);
            }));
        });
    }

    /// Serves a connection to its end, and says why it ended.
    async fn serve<S>(
        self: Arc<Self>,
        stream: TcpStream,
        peer: IpAddr,
        (allowance, fair): (Allowance, FairQueue),
        service: S,
        ending: CancellationToken,
    ) -> &'static str
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
    {
        // Without it small frames wait for each other: a tenth of the throughput, and 48 ms more at the 99th percentile.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let door = &self.door;
        let (activity, whole) = (Arc::new(Activity::new()), Stream::default());
        let shared = Connection {
            trusted_to_trace: door.trust_traceparent,
            long_streams: Admission::new(door.max_streams as usize / 4),
            ending: ending.clone(),
            allowance: allowance.clone(),
        };
        let client = Client { address: peer, connection: Arc::new(shared), stream: whole.clone() };
        let answer = {
            let (this, activity) = (self.clone(), activity.clone());
            service_fn(move |request: Request<Incoming>| {
                activity.request();
                let open = (request.version() < Version::HTTP_2).then(|| activity.open());
                // On the heap: the task of a stream is moved several times, with all that is in it.
                Box::pin(this.clone().answer(request, client.clone(), open, service.clone()))
            })
        };
        let stalled = CancellationToken::new();
        let io = TokioIo::new(Io::new(stream, activity.clone(), allowance, door.write_timeout, stalled.clone()));
        let builder = builder(door, Streams(activity.clone(), fair));
        let mut running = pin!(builder.serve_connection(io, answer));
        let mut idle = pin!(activity.idle(door.handshake_timeout, door.idle_timeout));
        let mut age = pin!(sleep(jittered(door.max_age)));
        let mut hard_end = pin!(sleep(Duration::ZERO));
        let mut reason = "peer";
        let (mut asked, mut watched, mut bounded) = (false, true, false);
        loop {
            tokio::select! {
                biased;
                result = running.as_mut() => {
                    if let Err(error) = result {
                        // Peers that go away in the middle of something are everyday.
                        tracing::debug!(%error, "a connection broke");
                    }
                    return if stalled.is_cancelled() { "stalled" } else { reason };
                }
                () = whole.is_cut() => return "stalled",
                () = ending.cancelled(), if !asked => {
                    asked = true;
                    if !bounded {
                        reason = "drain";
                    }
                    running.as_mut().graceful_shutdown();
                }
                () = age.as_mut(), if !bounded => {
                    (reason, bounded) = ("age", true);
                    hard_end.set(sleep(AGE_GRACE));
                    ending.cancel();
                }
                end = idle.as_mut(), if watched => match end {
                    Idle::Handshake => return "handshake",
                    Idle::Requests => {
                        (reason, bounded, watched) = ("idle", true, false);
                        hard_end.set(sleep(IDLE_GRACE));
                        ending.cancel();
                    }
                },
                () = hard_end.as_mut(), if bounded => return reason,
            }
        }
    }

    /// Answers one request on the stream that runs it.
    async fn answer<S>(
        self: Arc<Self>,
        request: Request<Incoming>,
        client: Client,
        open: Option<Open>,
        service: S,
    ) -> Result<Response<Body>, Infallible>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let address = self.door.client(client.address, request.headers());
        let stream = STREAM.try_with(Stream::clone).unwrap_or_else(|_| client.stream.clone());
        match self.requests.try_take(address) {
            Ok(place) => stream.hold(place, open),
            Err(full) => return Ok(refuse(&request, full)),
        }
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Client { address, stream, ..client });
        service.oneshot(request).await
    }
}

/// The answer to a request of an address that has too many.
fn refuse(request: &Request<Incoming>, full: Full) -> Response<Body> {
    let kind = request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if kind.starts_with(b"application/grpc") && !kind.starts_with(b"application/grpc-web") {
        let failure = Failure::exhausted("OVERLOADED", "too many requests at once from this address", RETRY_AFTER);
        return rpc::refuse(failure.and_metadata("limit", full.as_str()));
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    response.headers_mut().insert(http::header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn builder(door: &Door, streams: Streams) -> Builder<Streams> {
    let mut builder = Builder::new(streams);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(door.handshake_timeout).max_buf_size(SEND_BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        // A peer that is in the middle of a frame cannot answer, so this ends headers that never come whole, too.
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .max_send_buf_size(SEND_BUFFER)
        .max_concurrent_streams(door.max_streams);
    builder
}

/// A time that is up to a tenth shorter or longer, so that clients which came together do not come back together.
fn jittered(time: Duration) -> Duration {
    time.mul_f64(0.9 + 0.2 * fastrand::f64())
}
