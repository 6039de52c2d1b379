//! Size limits held before and while a body passes.
//!
//! Invariant: a unary call whose message is too large never reaches a service; a client's stream is cut at the message
//! that passes its limit, and the client reads why.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use chassis::status::Failure;
use http::{Request, header::CONTENT_LENGTH};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use proto::Method;
use tokio::sync::oneshot;
use tonic::{Status, body::Body};

use super::meter::{Meter, TooLarge};

/// Looks at the beginning of the body and gives the request with a body that is metered to its end, and where a refusal
/// on the way is told.
pub(super) async fn admit(
    request: Request<Body>,
    method: &Method,
) -> Result<(Request<Body>, oneshot::Receiver<Failure>), Failure> {
    let (mut parts, mut inner) = request.into_parts();
    let mut meter = Meter::new(method.max_message_bytes, method.max_stream_bytes);
    let mut held = None;
    // A client that streams may wait for the reply's headers before it sends anything.
    if !method.client_streaming {
        while meter.messages() == 0 {
            let Some(frame) = inner.frame().await else { break };
            let frame = frame.map_err(Failure::upstream)?;
            let Ok(data) = frame.into_data() else { break };
            meter.feed(&data).map_err(refusal)?;
            // Almost always the first piece is the whole message.
            held = Some(match held {
                None => data,
                Some(before) => Bytes::from([before, data].concat()),
            });
        }
    }
    parts.headers.remove(CONTENT_LENGTH);
    let (refuse, refused) = oneshot::channel();
    let body = Metered { held, inner, meter, refuse: Some(refuse) };
    Ok((Request::from_parts(parts, Body::new(body)), refused))
}

fn refusal(too_large: TooLarge) -> Failure {
    let message = match too_large {
        TooLarge::Message { bytes, most } => format!("a message has {bytes} bytes; at most {most} are taken"),
        TooLarge::Stream { most } => {
            format!("the messages have more than {most} bytes in all, which is the most taken")
        }
    };
    Failure::invalid("request", "INPUT_TOO_LARGE", message)
}

/// A body that passes as it is while it keeps within its limits.
struct Metered {
    /// What was read already.
    held: Option<Bytes>,
    inner: Body,
    meter: Meter,
    /// Taken when it is used.
    refuse: Option<oneshot::Sender<Failure>>,
}

impl http_body::Body for Metered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(data) = self.held.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let polled = Pin::new(&mut self.inner).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
            && let Err(too_large) = self.meter.feed(data)
        {
            let failure = refusal(too_large);
            if let Some(refuse) = self.refuse.take() {
                let _ = refuse.send(failure.clone());
            }
            return Poll::Ready(Some(Err(failure.into())));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
