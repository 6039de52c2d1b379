//! The bytes of one connection: those that came are counted, a flood is read slowly, and a peer that takes none for too
//! long has none sent any more.

use std::{
    io::{Error, ErrorKind, IoSlice, Result},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    activity::Activity,
    frames::{Allowance, Frames},
};
use crate::metrics;

/// A stream whose writes fail when they have not gone on for a while.
pub(super) struct Io {
    inner: TcpStream,
    activity: Arc<Activity>,
    frames: Frames,
    allowance: Allowance,
    /// Runs while nothing may be read.
    held_up: Option<Pin<Box<Sleep>>>,
    timeout: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
    /// Cancelled when a write has failed for that.
    stalled: CancellationToken,
}

impl Io {
    pub(super) fn new(
        inner: TcpStream,
        activity: Arc<Activity>,
        allowance: Allowance,
        timeout: Duration,
        stalled: CancellationToken,
    ) -> Self {
        Self { inner, activity, frames: Frames::new(), allowance, held_up: None, timeout, waiting: None, stalled }
    }

    fn bounded(&mut self, context: &mut Context<'_>, polled: Poll<Result<usize>>) -> Poll<Result<usize>> {
        if let Poll::Ready(sent) = &polled {
            let sent = sent.as_ref().map_or(0, |bytes| *bytes);
            self.frames.sent(sent, &self.allowance);
            self.waiting = None;
            return polled;
        }
        let timeout = self.timeout;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(timeout)));
        std::task::ready!(waiting.as_mut().poll(context));
        self.stalled.cancel();
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the peer takes nothing")))
    }
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        loop {
            if let Some(held_up) = &mut self.held_up {
                std::task::ready!(held_up.as_mut().poll(context));
                self.held_up = None;
            }
            let Some(wait) = self.allowance.wait(std::time::Instant::now()) else { break };
            metrics::READS_DELAYED.get().increment(1);
            self.held_up = Some(Box::pin(sleep(wait)));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        let came = &buffer.filled()[before..];
        self.activity.receive(came.len());
        let this = &mut *self;
        this.frames.read(came, &this.allowance);
        polled
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.bounded(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(context, bytes);
        self.bounded(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
