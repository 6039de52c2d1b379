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

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, io::Read as _};

    use http_body_util::BodyExt as _;
    use tonic_health::pb::{
        HealthCheckRequest, HealthCheckResponse,
        health_server::{Health, HealthServer},
    };
    use tower::Service;

    use super::{super::Encoded, *};
    use crate::frames::framed;

    const WATCH: &str = "/grpc.health.v1.Health/Watch";

    #[derive(Clone)]
    struct Generated;

    #[tonic::async_trait]
    impl Health for Generated {
        type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

        async fn check(
            &self,
            _: tonic::Request<HealthCheckRequest>,
        ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
            Err(Status::unavailable("from the generated server"))
        }

        async fn watch(
            &self,
            request: tonic::Request<HealthCheckRequest>,
        ) -> Result<tonic::Response<Self::WatchStream>, Status> {
            Ok(tonic::Response::new(futures::stream::iter(events(&request.into_inner())?).boxed()))
        }
    }

    fn events(request: &HealthCheckRequest) -> Result<Vec<Result<HealthCheckResponse, Status>>, Status> {
        let event = |status| Ok(HealthCheckResponse { status });
        match request.service.as_str() {
            "refused" => Err(Status::not_found("there is none")),
            "broken" => Ok(vec![event(1), Err(Status::unavailable("it broke, with a ümlaut"))]),
            _ => Ok(vec![event(1), event(2), event(0)]),
        }
    }

    async fn watch<S>(mut service: S, path: &str, name: &str, takes: &str) -> (HeaderMap, Bytes, Option<HeaderMap>)
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    {
        let message = HealthCheckRequest { service: name.to_owned() }.encode_to_vec();
        let body = http_body_util::Full::new(framed(&message)).map_err(|never| match never {});
        let request = Request::post(path)
            .header("content-type", "application/grpc")
            .header("grpc-accept-encoding", takes)
            .body(Body::new(body))
            .unwrap();
        let response = service.call(request).await.unwrap();
        let headers = response.headers().clone();
        let body = response.into_body().collect().await.unwrap();
        let trailers = body.trailers().cloned();
        (headers, body.to_bytes(), trailers)
    }

    #[tokio::test]
    async fn on_the_wire_the_two_streams_are_one() {
        let encoded = Encoded::streaming(
            WATCH,
            async |request: tonic::Request<HealthCheckRequest>| {
                let frames =
                    events(&request.into_inner())?.into_iter().map(|event| Ok(framed(&event?.encode_to_vec())));
                Ok(futures::stream::iter(frames).boxed())
            },
            HealthServer::new(Generated),
        );
        for name in ["whole", "broken", "refused"] {
            let generated = watch(HealthServer::new(Generated), WATCH, name, "identity").await;
            assert_eq!(watch(encoded.clone(), WATCH, name, "identity").await, generated, "{name}");
        }
        let (headers, ..) = watch(encoded, "/grpc.health.v1.Health/Check", "whole", "identity").await;
        assert_eq!(headers["grpc-message"], "from%20the%20generated%20server");
    }

    #[tokio::test]
    async fn who_takes_gzip_is_sent_long_messages_in_it_and_short_ones_as_they_are() {
        let (long, short) = (Bytes::from("a heron at dawn ".repeat(200)), Bytes::from("at dusk"));
        let frames = [framed(&long), framed(&short)];
        let encoded = Encoded::streaming(
            WATCH,
            move |_: tonic::Request<HealthCheckRequest>| {
                let frames = frames.clone().map(Ok);
                async move { Ok(futures::stream::iter(frames).boxed()) }
            },
            HealthServer::new(Generated),
        );
        let (headers, body, trailers) = watch(encoded, WATCH, "whole", "identity,gzip").await;
        assert_eq!((&headers[ENCODING], &trailers.unwrap()["grpc-status"]), (&GZIP, &OK.1));
        let length = u32::from_be_bytes(body[1..PREFIX].try_into().unwrap()) as usize;
        let (first, second) = body.split_at(PREFIX + length);
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&first[PREFIX..]).read_to_end(&mut plain).unwrap();
        assert_eq!((first[0], plain), (1, long.to_vec()));
        assert_eq!(second, framed(&short));
    }
}
