//! Streams of answers that are encoded already: what many watch is made once, and goes out to each as it is.
//!
//! Invariant: what [`Streaming`] answers is on the wire what the generated server would answer with the messages that the
//! bytes encode. Nothing of a message is kept for a stream once it is sent.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use http::{HeaderMap, Request, Response, header::CONTENT_TYPE};
use http_body::Frame;
use prost::Message;
use tonic::{Status, body::Body, codec::CompressionEncoding};

use super::{
    answer::{Answer, ENCODING, GRPC, GZIP, OK},
    codec::Codec,
    derived,
};
use crate::frames::PREFIX;

/// Messages with their prefixes, or the status that ends them.
pub type Frames = BoxStream<'static, Result<Bytes, Status>>;

/// Answers a streaming method with the messages that `A` gives.
#[derive(Clone)]
pub struct Streaming<A>(pub(super) A);

impl<A, M, F> Answer<M> for Streaming<A>
where
    A: Fn(tonic::Request<M>) -> F + Send + 'static,
    F: Future<Output = Result<Frames, Status>> + Send + 'static,
    M: Message + Default + Send + 'static,
{
    async fn reply(self, request: tonic::Request<M>, compresses: bool) -> Response<Body> {
        let frames = match (self.0)(request).await {
            Ok(frames) => frames,
            Err(status) => return status.into_http(),
        };
        let frames = if compresses { frames.then(compressed).boxed() } else { frames };
        let mut response = Response::new(Body::new(Sent { frames: Some(frames) }));
        response.headers_mut().insert(CONTENT_TYPE, GRPC);
        if compresses {
            response.headers_mut().insert(ENCODING, GZIP);
        }
        response
    }

    async fn through_codec(self, request: Request<Body>) -> Response<Body> {
        let mut grpc = tonic::server::Grpc::new(Codec::default()).accept_compressed(CompressionEncoding::Gzip);
        let method = tower::service_fn(move |request| {
            let answering = (self.0)(request);
            async move {
                let messages = answering.await?.map(|frame| Ok(frame?.slice(PREFIX..)));
                Ok(tonic::Response::new(messages))
            }
        });
        grpc.server_streaming(method, request).await
    }
}

/// The frame in gzip where that is worth it: each message says by its prefix whether it is compressed.
async fn compressed(frame: Result<Bytes, Status>) -> Result<Bytes, Status> {
    let frame = frame?;
    Ok(derived::gzip(&frame.slice(PREFIX..)).await.unwrap_or(frame))
}

/// The body of a streamed answer.
struct Sent {
    /// Nothing once the status is sent.
    frames: Option<Frames>,
}

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(frames) = &mut self.frames else { return Poll::Ready(None) };
        let status = match ready!(frames.as_mut().poll_next(context)) {
            Some(Ok(frame)) => return Poll::Ready(Some(Ok(Frame::data(frame)))),
            Some(Err(status)) => status,
            None => Status::ok(""),
        };
        self.frames = None;
        let mut trailers = HeaderMap::new();
        // A status of ours is written as tonic writes it; what cannot be is as good as none.
        if status.code() == tonic::Code::Ok || status.add_header(&mut trailers).is_err() {
            trailers = HeaderMap::from_iter([OK]);
        }
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}
