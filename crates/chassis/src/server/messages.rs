//! The sizes of the messages that come in, as a method's row has them. A compressed message is decompressed here, no further than
//! to its limit, and goes on plain.
//!
//! Invariant: of a message of a call with a limit no more is ever held than that limit, compressed and decompressed, and none that
//! is larger reaches a handler.

use std::{
    borrow::Cow,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use http::Request;
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body};

use crate::{
    frames::{self, FrameReader, PREFIX},
    status::Failure,
};

/// The largest message of a probe: health and reflection are asked for names.
pub(super) const MAX_PROBE: u64 = 4_096;

const ENCODING: &str = "grpc-encoding";

/// The request with a body whose messages have at most `max` bytes each.
pub(super) fn limit(request: Request<Body>, max: u64) -> Request<Body> {
    let (mut parts, inner) = request.into_parts();
    let frames = FrameReader::new(max, u64::MAX);
    let body = if parts.headers.get(ENCODING).is_some_and(|encoding| encoding == "gzip") {
        // The messages go on plain, and a decoder that took no others takes these.
        parts.headers.remove(ENCODING);
        Body::new(Inflated { inner, frames, max, buffer: BytesMut::new(), failed: false })
    } else {
        // Any other encoding is refused by whoever decodes, by its name.
        Body::new(Checked { inner, frames, failed: false })
    };
    Request::from_parts(parts, body)
}

/// A body that passes as it is while its messages announce no more than they may have.
struct Checked {
    inner: Body,
    frames: FrameReader,
    failed: bool,
}

impl http_body::Body for Checked {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.failed {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
            && let Err(error) = self.frames.read(data)
        {
            self.failed = true;
            return Poll::Ready(Some(Err(Failure::from(error).into())));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.failed || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A body of messages that may be compressed, each of which goes on plain.
struct Inflated {
    inner: Body,
    frames: FrameReader,
    max: u64,
    /// What came of the next messages.
    buffer: BytesMut,
    failed: bool,
}

impl Inflated {
    /// The next whole message, if it has come.
    fn next_message(&mut self) -> Result<Option<Bytes>, Failure> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else { return Ok(None) };
        let [_flag, length @ ..] = *prefix;
        let whole = PREFIX + u32::from_be_bytes(length) as usize;
        if self.buffer.len() < whole {
            return Ok(None);
        }
        let message = self.buffer.split_to(whole).freeze();
        match frames::plain(&message, self.max)? {
            Cow::Borrowed(_) => Ok(Some(message)),
            Cow::Owned(plain) => Ok(Some(frames::framed(&plain))),
        }
    }
}

impl http_body::Body for Inflated {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.failed {
            return Poll::Ready(None);
        }
        loop {
            match self.next_message() {
                Ok(Some(message)) => return Poll::Ready(Some(Ok(Frame::data(message)))),
                Ok(None) => {}
                Err(failure) => {
                    self.failed = true;
                    return Poll::Ready(Some(Err(failure.into())));
                }
            }
            let data = match std::task::ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                // A body that ends within a message is for whoever decodes to complain about.
                None if !self.buffer.is_empty() => {
                    return Poll::Ready(Some(Ok(Frame::data(self.buffer.split().freeze()))));
                }
                other => return Poll::Ready(other),
            };
            if let Err(error) = self.frames.read(&data) {
                self.failed = true;
                return Poll::Ready(Some(Err(Failure::from(error).into())));
            }
            self.buffer.extend_from_slice(&data);
        }
    }

    fn is_end_stream(&self) -> bool {
        self.failed || (self.buffer.is_empty() && self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
