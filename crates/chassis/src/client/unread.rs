//! A request's body that can be sent again for as long as nothing of it was read.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body};

/// The body, until a sender reads it.
pub(super) struct Unread(Arc<Mutex<Option<Body>>>);

impl Unread {
    pub(super) fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Some(body))))
    }

    /// Whether nothing was read, so that it can be lent again.
    pub(super) fn is_whole(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The body for a sender. Once one has begun to read it, it is empty for all others.
    pub(super) fn lend(&self) -> Lent {
        Lent { whole: self.0.clone(), begun: None }
    }
}

/// The body as one sender has it.
pub(super) struct Lent {
    whole: Arc<Mutex<Option<Body>>>,
    begun: Option<Body>,
}

impl Lent {
    /// Asks the body without reading it.
    fn ask<T>(&self, question: impl FnOnce(&Body) -> T, of_none: T) -> T {
        match &self.begun {
            Some(body) => question(body),
            None => self.whole.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or(of_none, question),
        }
    }
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let lent = &mut *self;
        if lent.begun.is_none() {
            lent.begun = lent.whole.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        match &mut lent.begun {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ask(http_body::Body::is_end_stream, true)
    }

    fn size_hint(&self) -> SizeHint {
        self.ask(http_body::Body::size_hint, SizeHint::with_exact(0))
    }
}
