//! Channels: what leaves with a call, and what a broken peer becomes.

use std::time::{Duration, Instant};

use chassis::{client, request::deadline, server::Server};
use http::Request;
use http_body_util::BodyExt as _;
use testkit::eventually;
use tonic::{Code, body::Body};
use tower::ServiceExt as _;

use crate::wire::{free, ok, serve, status};

async fn call(channel: &client::Channel) -> http::HeaderMap {
    let request = Request::post("/test.Test/Get").header("content-type", "application/grpc").body(Body::empty());
    let response = channel.clone().oneshot(request.unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let trailers = body.collect().await.unwrap().trailers().cloned();
    trailers.unwrap_or(parts.headers)
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let uri = format!("http://127.0.0.1:{}", testkit::free_port()).parse().unwrap();
    let trailers = call(&client::connect("nobody", &uri)).await;
    assert_eq!(status(&trailers), (Code::Unavailable, "DEPENDENCY_DOWN".to_owned()));
}

#[tokio::test]
async fn no_time_left_means_that_nothing_is_sent() {
    let server = serve(Server::new("test", &free()), |_| async { panic!("a call arrived") }).await;
    let channel = client::connect("test", &format!("http://{}", server.addr).parse().unwrap());
    let trailers = deadline::within(Instant::now() + Duration::from_millis(4), call(&channel)).await;
    assert_eq!(status(&trailers), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned()));
}

#[tokio::test]
async fn a_silent_peer_costs_no_more_than_the_deadline() {
    // It takes connections and says nothing, which is what a hung process looks like.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let channel = client::connect("silent", &format!("http://{}", silent.local_addr().unwrap()).parse().unwrap());
    let began = Instant::now();
    let trailers = deadline::within(began + Duration::from_millis(200), call(&channel)).await;
    assert_eq!(status(&trailers).0, Code::DeadlineExceeded);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_peer_that_comes_back_is_found_again() {
    let first = serve(Server::new("test", &free()), |_| async { ok() }).await;
    let uri = format!("http://{}", first.addr).parse().unwrap();
    let channel = client::connect("test", &uri);
    assert_eq!(status(&call(&channel).await).0, Code::Ok);
    first.drain.begin();
    first.task.await.unwrap().unwrap();
    assert_eq!(status(&call(&channel).await).0, Code::Unavailable);

    let settings = chassis::server::Settings { listen: first.addr, ..free() };
    let _second = serve(Server::new("test", &settings), |_| async { ok() }).await;
    let answer = eventually("it answers again", Duration::from_secs(5), async || {
        (status(&call(&channel).await).0 == Code::Ok).then_some(())
    });
    answer.await.unwrap();
}
