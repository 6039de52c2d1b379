//! Watches through this gateway: how many may be open, and how they end when it drains.
//!
//! Invariants: a watch ends when the key that it was opened with may no longer be used; it takes a place of its account and one of its
//! connection and is refused where there is none, so that watches never keep calls from a stream; of one account a few at a time are
//! opened, and the others wait for these; and one that is open when the gateway drains, or its connection has come to its age, ends with
//! `moved` and the resume token of the event before.

mod moved;

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use chassis::{
    drain::Drain,
    frames::{self, FrameReader},
    server::{Client, Share, Shares, Slot},
};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Response};
use http_body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Status, body::Body};
use uuid::Uuid;

use crate::error::{Error, Refusal, WatchLimit};

/// What a proxy that buffers replies is told: an event is of use when it comes, not when a buffer is full.
const BUFFERING: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
/// The largest event whose resume token is read while the gateway drains, decompressed.
const MAX_EVENT: u64 = 8 << 20;
/// How many watches of one account are being opened at a time. A thousand at once would be a thousand tasks that are ready to run, and
/// every other call would wait behind all of them at each of its steps.
const OPENING_OF_ACCOUNT: usize = 8;

/// All watches; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Watches {
    max_per_account: usize,
    open: Arc<Mutex<HashMap<Uuid, usize>>>,
    /// Those of each account that the service behind has not answered yet.
    opening: Shares<Uuid>,
    drain: Drain,
}

/// The places that one watch takes up.
#[derive(Debug)]
pub(super) struct Places {
    watches: Watches,
    account: Uuid,
    /// When the watch has to move.
    ending: CancellationToken,
    _connection: Option<Slot>,
}

impl Watches {
    pub(super) fn new(max_per_account: usize) -> Self {
        Self { max_per_account, open: Arc::default(), opening: Shares::default(), drain: Drain::default() }
    }

    /// The same, which end when `drain` begins.
    pub(super) fn until(self, drain: Drain) -> Self {
        Self { drain, ..self }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, usize>> {
        // The map is whole at each step, so a panic elsewhere leaves it usable.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many watches an account may have open, `own` being what was set for it, and how many it has.
    pub(super) fn usage(&self, account: Uuid, own: Option<u32>) -> (usize, usize) {
        (self.max(own), self.lock().get(&account).copied().unwrap_or_default())
    }

    fn max(&self, own: Option<u32>) -> usize {
        own.and_then(|own| usize::try_from(own).ok()).unwrap_or(self.max_per_account)
    }

    /// Places for one more watch of `account`, on the connection that the extensions of its request name; `own` is how many were set
    /// for the account.
    pub(super) fn open(&self, account: Uuid, own: Option<u32>, extensions: &Extensions) -> Result<Places, Error> {
        let client = extensions.get::<Client>();
        let connection = match client {
            Some(client) => Some(client.take_long_stream().ok_or(Error::TooManyWatches(WatchLimit::Connection))?),
            None => None,
        };
        // A connection ends with the gateway, and before it when it is old.
        let ending = client.map_or_else(|| self.drain.token(), |client| client.ending().clone());
        let mut open = self.lock();
        let count = open.entry(account).or_default();
        if *count >= self.max(own) {
            return Err(Error::TooManyWatches(WatchLimit::Account));
        }
        *count += 1;
        Ok(Places { watches: self.clone(), account, ending, _connection: connection })
    }

    /// Waits behind the account's other watches until one more of them may be opened, which it is while this is held.
    pub(super) async fn turn(&self, account: Uuid) -> Share<Uuid> {
        let mut turn = self.opening.of(account, OPENING_OF_ACCOUNT);
        turn.take().await;
        turn
    }

    /// The reply to a watch: no proxy holds its events back, and it ends with `moved` when its connection takes no more calls.
    /// It ends as the refusal says when `refused` is ready: its key may no longer be used.
    pub(super) fn reply(
        &self,
        path: &str,
        places: Places,
        mut response: Response<Body>,
        refused: impl Future<Output = Refusal> + Send + 'static,
    ) -> Response<Body> {
        let (name, value) = BUFFERING;
        response.headers_mut().insert(name, value);
        let Some(moved) = moved::of(path) else { return response };
        // At most half of the grace, so that the client comes back to another gateway in time.
        let (begun, wait) = (Box::pin(places.ending.clone().cancelled_owned()), self.drain.grace() / 2);
        response.map(|inner| {
            let frames = FrameReader::new(u64::MAX, u64::MAX);
            let refused = Box::pin(refused);
            Body::new(Watch {
                inner,
                frames,
                moved,
                wait,
                refused,
                state: State::Live(begun),
                timer: None,
                _places: places,
            })
        })
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        let mut open = self.watches.lock();
        if let Some(count) = open.get_mut(&self.account) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.account);
            }
        }
    }
}

/// The body of a watch's reply, which passes as it is until the gateway drains.
struct Watch {
    inner: Body,
    frames: FrameReader,
    moved: moved::Make,
    /// How long the next event is waited for, whose resume token the last one carries.
    wait: Duration,
    /// Ready when the key that it was opened with may no longer be used.
    refused: Pin<Box<dyn Future<Output = Refusal> + Send>>,
    state: State,
    /// Begins with the drain.
    timer: Option<Pin<Box<Sleep>>>,
    _places: Places,
}

enum State {
    /// Events pass until the drain begins.
    Live(Pin<Box<WaitForCancellationFutureOwned>>),
    /// The next event is the last of the service, of which this has come.
    Last(BytesMut),
    /// Only the trailers are left.
    Trailers,
    /// Nothing is left.
    Ended,
}

impl Watch {
    /// Takes a piece of the service's reply after the drain has begun. Returns what goes on to the client, if anything does yet.
    fn take(&mut self, mut data: Bytes) -> Option<Bytes> {
        let mut passed = BytesMut::new();
        while !data.is_empty() {
            let begins = self.frames.is_between_messages();
            // A reader without limits refuses nothing.
            let read = self.frames.read_message(&data).unwrap_or(data.len());
            let piece = data.split_to(read);
            match &mut self.state {
                State::Last(last) if begins || !last.is_empty() => {
                    last.extend_from_slice(&piece);
                    if self.frames.is_between_messages() {
                        let event = last.split();
                        passed.extend_from_slice(&event);
                        passed.extend_from_slice(&self.end(&event));
                        break;
                    }
                }
                // The rest of an event that had begun before.
                _ => passed.extend_from_slice(&piece),
            }
        }
        (!passed.is_empty()).then(|| passed.freeze())
    }

    /// Lets go of the service. Returns `moved` with the token of its last event; without it the client watches anew, which is
    /// slower and no less right.
    fn end(&mut self, event: &[u8]) -> Bytes {
        self.inner = Body::empty();
        self.state = State::Trailers;
        let plain = frames::plain(event, MAX_EVENT).unwrap_or_default();
        frames::framed(&(self.moved)(&plain))
    }
}

/// What a watch whose key is refused ends with: the status of any call with that key.
fn refusal_trailers(refusal: Refusal) -> HeaderMap {
    let status = Status::from(Error::KeyRefused(refusal));
    let mut trailers = HeaderMap::new();
    // What cannot be put into headers leaves a stream that ends without a status, which is an error as well.
    let _ = status.add_header(&mut trailers);
    trailers
}

impl http_body::Body for Watch {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if !matches!(this.state, State::Trailers | State::Ended)
            && let Poll::Ready(refusal) = this.refused.as_mut().poll(context)
        {
            this.inner = Body::empty();
            this.state = State::Ended;
            return Poll::Ready(Some(Ok(Frame::trailers(refusal_trailers(refusal)))));
        }
        loop {
            match &mut this.state {
                State::Live(begun) => {
                    if begun.as_mut().poll(context).is_ready() {
                        this.state = State::Last(BytesMut::new());
                        this.timer = Some(Box::pin(sleep(this.wait)));
                        continue;
                    }
                    let polled = Pin::new(&mut this.inner).poll_frame(context);
                    if let Poll::Ready(Some(Ok(frame))) = &polled
                        && let Some(data) = frame.data_ref()
                    {
                        // A reader without limits refuses nothing.
                        let _ = this.frames.read(data);
                    }
                    return polled;
                }
                State::Last(last) => {
                    let between = last.is_empty() && this.frames.is_between_messages();
                    let Poll::Ready(next) = Pin::new(&mut this.inner).poll_frame(context) else {
                        let timer = this.timer.as_mut().filter(|_| between);
                        if timer.is_some_and(|timer| timer.as_mut().poll(context).is_ready()) {
                            return Poll::Ready(Some(Ok(Frame::data(this.end(&[])))));
                        }
                        return Poll::Pending;
                    };
                    // Without data it is the end that the service itself has made.
                    let Some(Ok(frame)) = next else { return Poll::Ready(next) };
                    match frame.into_data() {
                        Ok(data) => {
                            if let Some(passed) = this.take(data) {
                                return Poll::Ready(Some(Ok(Frame::data(passed))));
                            }
                        }
                        Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                    }
                }
                State::Trailers => {
                    this.state = State::Ended;
                    let trailers =
                        HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))]);
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                State::Ended => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.state {
            State::Live(_) | State::Last(_) => self.inner.is_end_stream(),
            State::Trailers => false,
            State::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
