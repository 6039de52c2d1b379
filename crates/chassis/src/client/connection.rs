//! One HTTP/2 connection to another process.
//!
//! It goes through `h2` itself and not through a client on top of that: there a call passes through a queue and two tasks of others on its
//! way out and back, which costs more than all that the gateway itself does for it (`docs/performance.md`).
//!
//! Invariants: what could not be sent whole, or came too late for a connection that was ending, was not begun, and can be sent over
//! another connection; who drops a call or its
//! answer resets its stream and nothing else; and a connection whose other side answers no PING has ended.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::future::poll_fn;
use h2::{
    Ping, PingPong, Reason, RecvStream, SendStream,
    client::{Builder, SendRequest},
};
use http::{HeaderMap, Request, Response};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use tokio::{
    net::TcpStream,
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, body::Body};

/// How many bytes of one call wait unread between two of our processes, in either direction.
pub(crate) const STREAM_WINDOW: u32 = 256 << 10;
/// The same of a watch's answer. A process has thousands of watches, each of which may have a reader that takes nothing for a while.
pub(super) const WATCH_WINDOW: u32 = 32 << 10;
/// How many bytes of all calls of a connection between two of our processes wait unread: as many as HTTP/2 knows, since those of
/// calls that nobody reads would else keep those of all others from being sent.
pub(crate) const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// The most bytes of headers between two of our processes: what the public port takes, and what the gateway adds.
pub(crate) const MAX_HEADERS: u32 = 64 << 10;
/// How many cancelled calls a connection remembers, so that what still arrives of them is dropped without a word.
const REMEMBERED_RESETS: usize = 10_000;
/// How long an address has to take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How often the other side is asked whether it is there, and how long it has to say so.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// The largest piece of an answer: with HTTP/2's own 16 KiB a dashboard comes in two.
const MAX_FRAME: u32 = 64 << 10;

/// Why a call has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Broken {
    /// There is no connection.
    #[error("no connection: {0}")]
    Connect(Arc<io::Error>),
    /// The connection or the call's stream ended.
    #[error("the connection or its stream ended: {0}")]
    Ended(Arc<h2::Error>),
    /// Its time was over.
    #[error("no answer in time")]
    Late,
}

impl From<h2::Error> for Broken {
    fn from(error: h2::Error) -> Self {
        Self::Ended(Arc::new(error))
    }
}

/// A request that got no answer.
#[derive(Debug)]
pub(super) struct Unanswered {
    pub(super) error: Broken,
    /// Whether the other side may have done something with it.
    pub(super) was_begun: bool,
    /// Its body, if nothing but its connection ended, and all of the body is there still.
    pub(super) body: Option<Body>,
}

/// An open connection; clones are the same one. It ends when none is left and its last stream is over.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    address: SocketAddr,
    requests: SendRequest<Bytes>,
}

impl Connection {
    /// Connects to `address`; `window` bytes of each call's answer wait unread, and `lost` is notified when the connection has ended.
    pub(super) async fn open(address: SocketAddr, window: u32, lost: Arc<Notify>) -> io::Result<Self> {
        let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect(address));
        let stream = connecting.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        stream.set_nodelay(true)?;
        let handshake = builder(window).handshake(stream).await.map_err(io::Error::other)?;
        let (requests, mut connection): (SendRequest<Bytes>, h2::client::Connection<TcpStream, Bytes>) = handshake;
        let pings = connection.ping_pong();
        tokio::spawn(async move {
            let silent = async {
                match pings {
                    Some(pings) => until_silent(pings).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%address, %error, "a connection to a service broke");
                },
                // Its streams are told that it has ended.
                () = silent => tracing::debug!(%address, "a service is silent"),
            }
            lost.notify_one();
        });
        Ok(Self { address, requests })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether calls may still be sent on it: it has not ended, and its other side has not said goodbye.
    pub(super) fn is_open(&self) -> bool {
        self.ready().is_some()
    }

    fn ready(&self) -> Option<SendRequest<Bytes>> {
        let mut requests = self.requests.clone();
        // It only waits for requests that were sent by the same clone.
        let ready = requests.poll_ready(&mut Context::from_waker(Waker::noop()));
        matches!(ready, Poll::Ready(Ok(()))).then_some(requests)
    }

    /// Sends a request, and gives the beginning of its answer.
    pub(super) async fn send(&self, head: Request<()>, body: Body) -> Result<Response<Body>, Unanswered> {
        let is_empty = body.is_end_stream();
        let mut requests = self.requests.clone();
        let (mut response, stream) = match requests.send_request(head, is_empty) {
            Ok(begun) => begun,
            Err(error) => return Err(Unanswered { error: error.into(), was_begun: false, body: Some(body) }),
        };
        drop(requests);
        let mut sending = Sending { body, stream, sent: Sent::Nothing, is_whole: is_empty };
        // Almost always all of it is there, and sent at once.
        let mut is_sent = is_empty;
        let answer = poll_fn(|context| {
            is_sent = is_sent || sending.poll(context).is_ready();
            Pin::new(&mut response).poll(context)
        });
        let stream = match answer.await {
            Ok(stream) => stream,
            Err(error) => {
                let was_begun = !was_not_begun(&error);
                let body = if was_begun && !is_of_connection(&error) { None } else { sending.again() };
                return Err(Unanswered { error: error.into(), was_begun, body });
            }
        };
        let rest = (!is_sent).then(|| AbortOnDropHandle::new(tokio::spawn(sending)));
        Ok(stream.map(|stream| Body::new(Answer { stream, has_data: true, _rest: rest })))
    }
}

fn builder(window: u32) -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        // A connection is shared by everybody's calls, so nothing that one of them does may end it or take its room: each has
        // a window of its own and the connection none, an answer's headers have room for what servers send, and answers that
        // arrive after their call was cancelled are nobody's fault.
        .initial_window_size(window)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(MAX_FRAME)
        .max_header_list_size(MAX_HEADERS)
        .max_concurrent_reset_streams(REMEMBERED_RESETS)
        .max_local_error_reset_streams(None);
    builder
}

/// Ends when the other side has not answered in time.
async fn until_silent(mut pings: PingPong) {
    loop {
        sleep(PING_EVERY).await;
        if !matches!(timeout(PING_TIMEOUT, pings.ping(Ping::opaque())).await, Ok(Ok(_))) {
            return;
        }
    }
}

/// Whether the other side has said that it did nothing with the request: its goodbye names the last one that it takes, and ours was on its
/// way by then; or it refused the stream.
fn was_not_begun(error: &h2::Error) -> bool {
    error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM))
}

/// Whether the connection ended, and not the request's stream alone.
fn is_of_connection(error: &h2::Error) -> bool {
    error.is_io() || error.is_go_away()
}

/// A request's body on its way.
struct Sending {
    body: Body,
    stream: SendStream<Bytes>,
    sent: Sent,
    /// Whether that is all of it.
    is_whole: bool,
}

/// What was sent of a request's body.
enum Sent {
    Nothing,
    /// One piece, as of nearly all requests.
    Piece(Bytes),
    /// More than is kept.
    More,
}

impl Sent {
    fn add(&mut self, piece: &Bytes) {
        // Many clients end a message with an empty piece.
        if piece.is_empty() {
            return;
        }
        *self = match self {
            Self::Nothing => Self::Piece(piece.clone()),
            Self::Piece(_) | Self::More => Self::More,
        };
    }
}

impl Future for Sending {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        Self::poll(&mut self, context)
    }
}

impl Sending {
    /// The body once more, if all of it is there still.
    fn again(self) -> Option<Body> {
        match self.sent {
            Sent::Nothing => Some(if self.is_whole { Body::empty() } else { self.body }),
            Sent::Piece(piece) if self.is_whole => Some(Body::new(Full::new(piece).map_err(|never| match never {}))),
            Sent::Piece(_) | Sent::More => None,
        }
    }

    /// Sends what there is and the stream has room for; ready when nothing more is to be sent.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Self { body, stream, sent, is_whole } = self;
        loop {
            // Not more than fits is asked of the body, whatever its next piece is.
            stream.reserve_capacity(1);
            while stream.capacity() == 0 {
                match ready!(stream.poll_capacity(context)) {
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Poll::Ready(()),
                }
            }
            if stream.poll_reset(context).is_ready() {
                return Poll::Ready(());
            }
            // What fails here is known from the answer as well, whose stream is the same.
            let _ended = match ready!(Pin::new(&mut *body).poll_frame(context)) {
                None => {
                    *is_whole = true;
                    stream.send_data(Bytes::new(), true)
                }
                Some(Err(_)) => {
                    stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(());
                }
                Some(Ok(frame)) => match frame.into_data().map_err(Frame::into_trailers) {
                    Ok(data) => {
                        sent.add(&data);
                        let is_last = body.is_end_stream();
                        *is_whole = is_last;
                        match stream.send_data(data, is_last) {
                            Ok(()) if !is_last => continue,
                            ended => ended,
                        }
                    }
                    Err(Ok(trailers)) => {
                        *sent = Sent::More;
                        stream.send_trailers(trailers)
                    }
                    Err(Err(_)) => continue,
                },
            };
            return Poll::Ready(());
        }
    }
}

/// An answer's body as it comes.
struct Answer {
    stream: RecvStream,
    has_data: bool,
    /// What is left of the request's body is sent for as long as somebody reads the answer.
    _rest: Option<AbortOnDropHandle<()>>,
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.has_data {
            match ready!(this.stream.poll_data(context)) {
                Some(Ok(data)) => {
                    // It only fails for more than has come.
                    let _ = this.stream.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(end(error)),
                None => this.has_data = false,
            }
        }
        match ready!(this.stream.poll_trailers(context)) {
            Ok(trailers) => Poll::Ready(trailers.map(|trailers: HeaderMap| Ok(Frame::trailers(trailers)))),
            Err(error) => Poll::Ready(end(error)),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// What the end of a stream by `error` is to its reader. A server that wants nothing more of the request says so by a reset without an
/// error.
fn end(error: h2::Error) -> Option<Result<Frame<Bytes>, Status>> {
    (error.reason() != Some(Reason::NO_ERROR)).then(|| Err(Status::from_error(Box::new(error))))
}
