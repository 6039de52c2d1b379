//! What an account or a key has running at a time.
//!
//! Invariant: a place is free again when the answer has been read to its end, or nobody reads it any more.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body};

/// How many run now; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Running(Arc<AtomicU32>);

/// One that runs.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicU32>);

impl Running {
    /// Takes a place if fewer than `max` run.
    pub(super) fn take(&self, max: u32) -> Option<Place> {
        // Counted first, so that two at once cannot both find the last place.
        let place = Place(Arc::clone(&self.0));
        (self.0.fetch_add(1, Ordering::Relaxed) < max).then_some(place)
    }

    /// How many run.
    pub(super) fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The places of one call.
#[derive(Debug, Default)]
pub(crate) struct Places(pub(super) Vec<Place>);

impl Places {
    /// Holds the places until the answer has ended.
    pub(crate) fn hold(self, response: Response<Body>) -> Response<Body> {
        match self.0.is_empty() || http_body::Body::is_end_stream(response.body()) {
            true => response,
            false => response.map(|inner| Body::new(Held { inner, _places: self })),
        }
    }
}

struct Held {
    inner: Body,
    _places: Places,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_the_answer_is_dropped() {
        let running = Running::default();
        let places = Places(vec![running.take(1).unwrap()]);
        assert!(running.take(1).is_none());
        assert_eq!(running.count(), 1, "who was refused is not counted");
        let held = places.hold(Response::new(Body::new(http_body_util::Full::new(Bytes::from_static(b"answer")))));
        assert!(running.take(1).is_none(), "the answer has not been read");
        drop(held);
        assert!(running.take(1).is_some());
    }
}
