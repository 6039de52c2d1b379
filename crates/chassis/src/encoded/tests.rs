//! On the wire an encoded answer is what the generated server would answer.

use std::io::Read as _;

use bytes::Bytes;
use futures::{StreamExt as _, stream, stream::BoxStream};
use http::HeaderMap;
use http_body_util::BodyExt as _;
use tonic::Status;
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse,
    health_server::{Health, HealthServer},
};

use super::{
    answer::{ENCODING, GZIP, OK},
    *,
};
use crate::frames::{PREFIX, framed};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const WATCH: &str = "/grpc.health.v1.Health/Watch";

#[derive(Clone)]
struct Generated;

#[tonic::async_trait]
impl Health for Generated {
    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn check(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        answer(&request.into_inner()).map(tonic::Response::new)
    }

    async fn watch(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        Ok(tonic::Response::new(stream::iter(events(&request.into_inner())?).boxed()))
    }
}

fn answer(request: &HealthCheckRequest) -> Result<HealthCheckResponse, Status> {
    match request.service.as_str() {
        "unknown" => Err(Status::not_found("unknown")),
        _ => Ok(HealthCheckResponse { status: 1 }),
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

/// Asks as a client does that takes this encoding.
async fn ask<S>(mut service: S, path: &str, name: &str, takes: &str) -> (HeaderMap, Bytes, Option<HeaderMap>)
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
async fn on_the_wire_the_two_answers_are_one() {
    let encoded = Encoded::unary(
        CHECK,
        async |request: tonic::Request<HealthCheckRequest>| {
            answer(&request.into_inner()).map(|reply| tonic::Response::new(reply.encode_to_vec().into()))
        },
        HealthServer::new(Generated),
    );
    for name in ["known", "unknown"] {
        let generated = ask(HealthServer::new(Generated), CHECK, name, "identity").await;
        assert_eq!(ask(encoded.clone(), CHECK, name, "identity").await, generated, "{name}");
    }
    // So are those of the frame that a service answered with.
    let (headers, frame, trailers) = ask(encoded.clone(), CHECK, "known", "identity").await;
    let response = whole(frame.clone(), &HeaderMap::new()).await;
    assert_eq!(*response.headers(), headers);
    let body = response.into_body().collect().await.unwrap();
    assert_eq!((body.trailers().cloned(), body.to_bytes()), (trailers, frame));
    let (status, ..) = ask(encoded.clone(), CHECK, "unknown", "identity").await;
    assert_eq!(*refused(&status).headers(), status);
    // Other paths go on.
    let (headers, ..) = ask(encoded, WATCH, "refused", "identity").await;
    assert_eq!(headers["grpc-message"], "there%20is%20none");
}

#[tokio::test]
async fn on_the_wire_the_two_streams_are_one() {
    let encoded = Encoded::streaming(
        WATCH,
        async |request: tonic::Request<HealthCheckRequest>| {
            let frames = events(&request.into_inner())?.into_iter().map(|event| Ok(framed(&event?.encode_to_vec())));
            Ok(stream::iter(frames).boxed())
        },
        HealthServer::new(Generated),
    );
    for name in ["whole", "broken", "refused"] {
        let generated = ask(HealthServer::new(Generated), WATCH, name, "identity").await;
        assert_eq!(ask(encoded.clone(), WATCH, name, "identity").await, generated, "{name}");
    }
    // Other paths go on.
    let (headers, ..) = ask(encoded, CHECK, "unknown", "identity").await;
    assert_eq!(headers["grpc-message"], "unknown");
}

#[tokio::test]
async fn who_takes_gzip_is_sent_long_messages_in_it_and_short_ones_as_they_are() {
    let (long, short) = (Bytes::from("a heron at dawn ".repeat(200)), Bytes::from("at dusk"));
    let frames = [framed(&long), framed(&short)];
    let encoded = Encoded::streaming(
        WATCH,
        move |_: tonic::Request<HealthCheckRequest>| {
            let frames = frames.clone().map(Ok);
            async move { Ok(stream::iter(frames).boxed()) }
        },
        HealthServer::new(Generated),
    );
    let (headers, body, trailers) = ask(encoded, WATCH, "whole", "identity,gzip").await;
    assert_eq!((&headers[ENCODING], &trailers.unwrap()["grpc-status"]), (&GZIP, &OK.1));
    let length = u32::from_be_bytes(body[1..PREFIX].try_into().unwrap()) as usize;
    let (first, second) = body.split_at(PREFIX + length);
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(&first[PREFIX..]).read_to_end(&mut plain).unwrap();
    assert_eq!((first[0], plain), (1, long.to_vec()));
    assert_eq!(second, framed(&short));
}
