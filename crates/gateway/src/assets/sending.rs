//! The body of an answer with an asset, on its way to a client that may take its time.
//!
//! Invariants: the answer keeps its place until its last byte is on its way, and not only until it lies in a buffer; and a client that
//! takes nothing for a while, or less than a slow line would, is cut off.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use chassis::{
    blobs::Error,
    server::{self, Place},
};
use futures::{Stream, StreamExt as _, stream::BoxStream};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use crate::metrics;

/// What a client takes at the least, in bytes a second, over the whole of an answer.
const MIN_RATE: u64 = 32 << 10;

/// Since when the client has been offered something that it does not take.
type Waiting = Arc<Mutex<Option<Instant>>>;

/// A body of as many bytes as it says, from the storage.
pub(super) struct Sending {
    chunks: BoxStream<'static, Result<Bytes, Error>>,
    /// Bytes that the storage has not given yet.
    missing: u64,
    /// The last byte of all. It goes alone: a library takes the end of a body as soon as it comes, whether or not there is room for it,
    /// and a piece only when what is before it has gone.
    last: Option<Bytes>,
    waiting: Waiting,
    _place: Place,
    _watchdog: AbortOnDropHandle<()>,
}

impl Sending {
    /// The `length` bytes of `chunks`. `on` is cut off when the client takes nothing for `timeout`, or has not taken all of it in
    /// that time and what a slow line needs.
    pub(super) fn new(
        chunks: impl Stream<Item = Result<Bytes, Error>> + Send + 'static,
        length: u64,
        place: Place,
        timeout: Duration,
        on: server::Stream,
    ) -> Self {
        let waiting = Waiting::default();
        let until = Instant::now() + timeout + Duration::from_secs(length / MIN_RATE);
        let watchdog = tokio::spawn(watch(waiting.clone(), timeout, until, on));
        Self {
            chunks: chunks.boxed(),
            missing: length,
            last: None,
            waiting,
            _place: place,
            _watchdog: AbortOnDropHandle::new(watchdog),
        }
    }

    fn set_waiting(&self, since: Option<Instant>) {
        // It is whole at each step, so a panic elsewhere leaves it usable.
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Error>>> {
        if let Some(last) = self.last.take() {
            return Poll::Ready(Some(Ok(last)));
        }
        let polled = self.chunks.poll_next_unpin(context);
        let Poll::Ready(Some(Ok(mut data))) = polled else { return polled };
        self.missing = self.missing.saturating_sub(data.len() as u64);
        if self.missing == 0 && data.len() > 1 {
            self.last = Some(data.split_off(data.len() - 1));
        }
        Poll::Ready(Some(Ok(data)))
    }
}

/// Cuts the answer off when its client takes too long.
async fn watch(waiting: Waiting, timeout: Duration, until: Instant, on: server::Stream) {
    loop {
        let since = *waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if since.is_some_and(|since| since + timeout <= now) || until <= now {
            metrics::ASSETS_CUT_OFF.get().increment(1);
            on.cut();
            return;
        }
        sleep_until(until.min(since.unwrap_or(now) + timeout)).await;
    }
}

impl http_body::Body for Sending {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        // Asked for more, so what was given before has been taken.
        self.set_waiting(None);
        let polled = self.next(context);
        if polled.is_ready() {
            self.set_waiting(Some(Instant::now()));
        }
        polled.map_ok(Frame::data)
    }

    fn is_end_stream(&self) -> bool {
        self.missing == 0 && self.last.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.missing + self.last.as_ref().map_or(0, |last| last.len() as u64))
    }
}
