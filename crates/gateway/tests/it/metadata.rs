//! Metadata of a call: what goes on is bounded, since the connection that carries it is everybody's.

use std::time::Duration;

use bytes::Bytes;
use proto::generations::v1::{WatchGenerationsRequest, generation_service_client::GenerationServiceClient};
use tonic::Code;
use uuid::Uuid;

use crate::{
    assets::send,
    cluster::{Cluster, authorized, check},
};

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_any_size_ends_nobody_elses_watch() {
    let cluster = Cluster::start().await;
    let (key, other) = (cluster.key(Uuid::now_v7()), cluster.key(Uuid::now_v7()));
    let mut client = GenerationServiceClient::new(cluster.channel().await);
    let request = authorized(WatchGenerationsRequest::default(), &other);
    let mut watch = client.watch_generations(request).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().resume_token, "first");
    // HTTP/1.1 takes far more headers than HTTP/2 does. Each of the four connections to the service gets its share of them.
    for size in [10_000, 70_000, 300_000] {
        for _ in 0..8 {
            let request = http::Request::post("/rushes.generations.v1.GenerationService/WatchGenerations")
                .header("content-type", "application/grpc-web+proto")
                .header("authorization", format!("Bearer {key}"))
                .header("grpc-junk", "x".repeat(size))
                .body(Bytes::from_static(&[0; 5]))
                .unwrap();
            let response = send(&cluster, request).await;
            let status = tonic::Status::from_header_map(response.headers()).expect("a status");
            check(&status, Code::InvalidArgument, "METADATA_TOO_LARGE");
        }
    }
    cluster.upstream.next.notify_one();
    let event = tokio::time::timeout(Duration::from_secs(5), watch.message()).await.expect("the watch goes on");
    assert_eq!(event.unwrap().unwrap().resume_token, "second");
}
