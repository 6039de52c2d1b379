//! Size limits, enforced before or while a body passes.

use bytes::Bytes;
use futures::StreamExt as _;
use http_body::Frame;
use http_body_util::StreamBody;
use proto::assets::v1::{GetAssetRequest, UploadAssetRequest, upload_asset_request::Part};
use tonic::Code;
use tower::{Service as _, ServiceExt as _};
use uuid::Uuid;

use crate::cluster::{Cluster, authorized, check};

fn limits(method: &str) -> (usize, usize) {
    let path = format!("/rushes.assets.v1.AssetService/{method}");
    let method = proto::method(&path).unwrap();
    (usize::try_from(method.max_message_bytes).unwrap(), usize::try_from(method.max_stream_bytes).unwrap())
}

#[tokio::test]
async fn a_message_over_its_limit_never_reaches_a_service() {
    let cluster = Cluster::start().await;
    let key = cluster.key(Uuid::now_v7());
    let (max, _) = limits("GetAsset");
    // A tag and a length of three bytes come before a name of this size.
    let status = cluster.get(&key, &"a".repeat(max)).await.unwrap_err();
    check(&status, Code::InvalidArgument, "INPUT_TOO_LARGE");
    assert!(cluster.upstream.calls.lock().unwrap().is_empty());

    let name = "a".repeat(max - 4);
    assert_eq!(prost::Message::encoded_len(&GetAssetRequest { name: name.clone() }), max);
    assert!(cluster.get(&key, &name).await.is_ok(), "exactly the limit is taken");
}

fn chunks(bytes: usize, size: usize) -> impl Iterator<Item = UploadAssetRequest> + Send + 'static {
    let data = Bytes::from(vec![7; size]);
    let sizes = (0..bytes).step_by(size).map(move |at| size.min(bytes - at));
    sizes.map(move |size| UploadAssetRequest { part: Some(Part::Chunk(data.slice(..size))) })
}

#[tokio::test]
async fn an_upload_within_its_limits_arrives_whole() {
    let cluster = Cluster::start().await;
    let key = cluster.key(Uuid::now_v7());
    let bytes = 5_000_000;
    let parts = tokio_stream::iter(chunks(bytes, 300_000));
    let asset = cluster.assets().await.upload_asset(authorized(parts, &key)).await.unwrap().into_inner();
    assert_eq!(asset.size_bytes, i64::try_from(bytes).unwrap());
}

#[tokio::test]
async fn an_upload_is_cut_when_its_sum_passes_the_limit() {
    let cluster = Cluster::start().await;
    let key = cluster.key(Uuid::now_v7());
    let (_, max) = limits("UploadAsset");
    let parts = tokio_stream::iter(chunks(max + 1, 1_000_000));
    let status = cluster.assets().await.upload_asset(authorized(parts, &key)).await.unwrap_err();
    check(&status, Code::InvalidArgument, "INPUT_TOO_LARGE");
}

#[tokio::test]
async fn one_message_of_an_upload_has_its_own_limit() {
    let cluster = Cluster::start().await;
    let key = cluster.key(Uuid::now_v7());
    let (max, _) = limits("UploadAsset");
    let parts = tokio_stream::iter(chunks(100, 100).chain(chunks(max + 1, max + 1)));
    let status = cluster.assets().await.upload_asset(authorized(parts, &key)).await.unwrap_err();
    check(&status, Code::InvalidArgument, "INPUT_TOO_LARGE");
}

#[tokio::test]
async fn a_message_is_refused_by_its_announced_length_alone() {
    let cluster = Cluster::start().await;
    // The prefix of a message of 4 GB, and then nothing: a gateway that waited for the message would wait until the deadline.
    let prefix = Ok::<_, tonic::Status>(Frame::data(Bytes::from_static(&[0, 255, 255, 255, 255])));
    let body = StreamBody::new(futures::stream::iter([prefix]).chain(futures::stream::pending()));
    let request = http::Request::post("/rushes.assets.v1.AssetService/GetAsset")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {}", cluster.key(Uuid::now_v7())))
        .body(tonic::body::Body::new(body))
        .unwrap();
    let mut channel = cluster.channel().await;
    let response = channel.ready().await.unwrap().call(request).await.unwrap();
    let status = tonic::Status::from_header_map(response.headers()).expect("a status");
    check(&status, Code::InvalidArgument, "INPUT_TOO_LARGE");
    assert!(cluster.upstream.calls.lock().unwrap().is_empty());
}
