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
    // HTTP/1.1 takes more headers than HTTP/2 does, up to 64 KiB here. Each of the four connections to the service gets its share of them.
    for size in [10_000, 60_000] {
        for _ in 0..8 {
            let request = http::Request::post("/rushes.generations.v1.GenerationService/WatchGenerations")
                .header("content-type", "application/grpc-web+proto")
                .header("authorization", format!("Bearer {key}"))
                .header("grpc-junk", "x".repeat(size))
                .body(Bytes::from_static(&[0; 5]))
                .unwrap();
            // One that is passed on is a watch, which never ends by itself.
            let answer = tokio::time::timeout(Duration::from_secs(20), send(&cluster, request)).await;
            let status = tonic::Status::from_header_map(answer.expect("a refusal").headers()).expect("a status");
            check(&status, Code::InvalidArgument, "METADATA_TOO_LARGE");
        }
    }
    cluster.upstream.next.notify_one();
    let event = tokio::time::timeout(Duration::from_secs(5), watch.message()).await.expect("the watch goes on");
    assert_eq!(event.unwrap().unwrap().resume_token, "second");
}

const TOKEN: &str = "rushes-token-bin";

/// Calls with a token of a caller's own writes, and returns that of the reply.
async fn call(cluster: &Cluster, key: &str, token: &[u8]) -> Result<Option<Bytes>, tonic::Status> {
    let mut request = authorized(proto::assets::v1::GetAssetRequest::default(), key);
    request.metadata_mut().insert_bin(TOKEN, tonic::metadata::BinaryMetadataValue::from_bytes(token));
    let answer = cluster.assets().await.get_asset(request).await?;
    Ok(answer.metadata().get_bin(TOKEN).map(|token| token.to_bytes().unwrap()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_no_service_gave_reaches_none() {
    let cluster = Cluster::start().await;
    let account = Uuid::now_v7();
    let (key, other) = (cluster.key(account), cluster.key(Uuid::now_v7()));
    assert_eq!(call(&cluster, &key, b"forged").await.unwrap(), None);
    assert!(!last(&cluster).contains_key(TOKEN), "what no gateway has sealed demands nothing");
    *cluster.upstream.token.lock().unwrap() = Some(b"real".to_vec());
    let request = authorized(proto::assets::v1::GetAssetRequest::default(), &key);
    let answer = cluster.assets().await.get_asset(request).await.unwrap();
    let sealed = answer.metadata().get_bin(TOKEN).unwrap().to_bytes().unwrap();
    assert!(sealed.starts_with(b"real") && sealed.len() == 4 + 32, "{sealed:?}");
    assert_eq!(call(&cluster, &key, &sealed).await.unwrap(), Some(sealed.clone()));
    assert_eq!(last(&cluster)[TOKEN], "cmVhbA", "the service gets its own token");
    call(&cluster, &other, &sealed).await.unwrap();
    assert!(!last(&cluster).contains_key(TOKEN), "another account's token is none of its");
}

/// The metadata of the last call that reached a service.
fn last(cluster: &Cluster) -> http::HeaderMap {
    cluster.upstream.calls.lock().unwrap().last().unwrap().clone()
}
