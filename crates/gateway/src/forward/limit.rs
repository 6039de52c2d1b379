//! Size limits, checked before and while a body passes.
//!
//! Invariant: a unary call whose message is too large never reaches a service; a client's stream is cut at the message
//! that passes its limit, and the client reads why.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use chassis::{frames::FrameReader, status::Failure};
use http::{Request, header::CONTENT_LENGTH};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use proto::Method;
use tokio::sync::oneshot;
use tonic::{Status, body::Body};

use crate::error::Error;

/// A request whose body has begun.
pub(super) struct Begun {
    /// The request with a body that is checked to its end.
    pub(super) request: Request<Body>,
    /// The receiver of a refusal on the way.
    pub(super) refused: oneshot::Receiver<Error>,
    /// Its one message with its prefix, where that is there already.
    pub(super) message: Option<Bytes>,
}

/// Reads the beginning of the body.
pub(super) async fn admit(request: Request<Body>, method: &Method) -> Result<Begun, Error> {
    let (mut parts, mut inner) = request.into_parts();
    let mut frames = FrameReader::new(method.max_message_bytes, method.max_stream_bytes);
    let mut buffered = None;
    // Not for a client's stream: its client may wait for the reply's headers before it sends anything.
    if !method.client_streaming {
        while frames.messages() == 0 {
            let Some(frame) = inner.frame().await else { break };
            let frame = frame.map_err(Failure::upstream)?;
            let Ok(data) = frame.into_data() else { break };
            frames.read(&data)?;
            // The first piece is almost always the whole message, so bytes are rarely copied.
            buffered = Some(match buffered {
                None => data,
                Some(before) => Bytes::from([before, data].concat()),
            });
        }
    }
    parts.headers.remove(CONTENT_LENGTH);
    let message = buffered.clone().filter(|_| frames.messages() == 1 && frames.is_between_messages());
    let (refuse, refused) = oneshot::channel();
    let body = LimitedBody { buffered, inner, frames, refuse: Some(refuse) };
    Ok(Begun { request: Request::from_parts(parts, Body::new(body)), refused, message })
}

/// A body that passes as it is while it keeps within its limits.
struct LimitedBody {
    /// The beginning, which was read already.
    buffered: Option<Bytes>,
    inner: Body,
    frames: FrameReader,
    /// Where the refusal goes; `None` once it has been sent.
    refuse: Option<oneshot::Sender<Error>>,
}

impl http_body::Body for LimitedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(data) = self.buffered.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
            && let Err(error) = self.frames.read(data).map_err(Error::from)
        {
            if let Some(refuse) = self.refuse.take() {
                let _ = refuse.send(error.clone());
            }
            return Poll::Ready(Some(Err(error.into())));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.buffered.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
