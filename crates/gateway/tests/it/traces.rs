//! One trace from the client through the gateway to the service.

use std::time::Duration;

use chassis::telemetry::attributes;
use proto::assets::v1::{GetAssetRequest, RenderThumbnailRequest, asset_service_client::AssetServiceClient};
use testkit::{Kind, Tree};
use tonic_types::StatusExt as _;
use tracing::Instrument as _;
use uuid::Uuid;

use crate::cluster::{Cluster, SPANS, authorized};

#[tokio::test]
async fn a_call_is_one_trace_through_every_hop() {
    let cluster = Cluster::start_with(|config| config.door.trust_traceparent = true).await;
    let account = Uuid::now_v7();
    let request = authorized(GetAssetRequest { name: "assets/a".into() }, &cluster.key(account));
    let root = tracing::info_span!("a user");
    let trace = async {
        let trace = chassis::telemetry::trace_id().unwrap();
        let mut client = AssetServiceClient::new(cluster.traced());
        let reply = client.get_asset(request).await.unwrap();
        let refused = client.render_thumbnail(RenderThumbnailRequest::default()).await.unwrap_err();
        for metadata in [reply.metadata(), refused.metadata()] {
            assert_eq!(metadata.get_all("x-trace-id").iter().collect::<Vec<_>>(), [trace.as_str()]);
        }
        let details = refused.get_error_details();
        assert_eq!(details.error_info().unwrap().metadata["trace_id"], trace);
        trace
    }
    .instrument(root)
    .await;

    let name = "rushes.assets.v1.AssetService/GetAsset";
    let tree = SPANS.wait("the service's span", Duration::from_secs(10), |spans| {
        let spans: Vec<_> = spans.iter().filter(|span| span.trace == trace).cloned().collect();
        let count = spans.iter().filter(|span| span.name == name).count();
        (count == 4 && spans.iter().any(|span| span.parent.is_none())).then(|| Tree::of(spans))
    });
    let tree = tree.await.unwrap();
    assert_eq!(tree.orphans().count(), 0);
    let service = tree.spans().iter().rfind(|span| span.name == name && span.kind == Kind::Server).unwrap();
    let path: Vec<_> = tree.path(service).iter().map(|span| (span.name.as_str(), span.kind)).collect();
    let hop = [(name, Kind::Client), (name, Kind::Server)];
    assert_eq!(path, [&[("a user", Kind::Internal)], &hop[..], &hop[..]].concat());
    let attribute = |key| service.attribute(key).unwrap();
    assert_eq!(attribute(attributes::RPC_SYSTEM_NAME), "grpc");
    assert_eq!(attribute(attributes::RPC_METHOD), name);
    assert_eq!(attribute(attributes::RPC_RESPONSE_STATUS_CODE), "OK");
    let gateway = tree.find(|span| span.attribute("rushes.account").is_some()).unwrap();
    assert_eq!(gateway.attribute("rushes.account"), Some(account.to_string().as_str()));
    assert!(
        tree.find(|span| span.name == "rushes.accounts.v1.AccountService/AuthenticateApiKey").is_some(),
        "the question whose key it is belongs to the trace"
    );
}

#[tokio::test]
async fn a_stranger_neither_names_a_trace_nor_has_it_recorded() {
    let cluster = Cluster::start().await;
    let id = Uuid::now_v7().simple().to_string();
    let mut request = authorized(GetAssetRequest { name: "assets/a".into() }, &cluster.key(Uuid::now_v7()));
    request.metadata_mut().insert("traceparent", format!("00-{id}-b7ad6b7169203331-01").parse().unwrap());
    let reply = cluster.assets().await.get_asset(request).await.unwrap();
    let trace = reply.metadata().get("x-trace-id").unwrap().to_str().unwrap().to_owned();
    assert_ne!(trace, id);
    let spans = SPANS.wait("the gateway's span", Duration::from_secs(10), |spans| {
        let spans: Vec<_> = spans.iter().filter(|span| span.trace == trace).cloned().collect();
        spans.iter().any(|span| span.parent.is_none()).then_some(spans)
    });
    let spans = spans.await.unwrap();
    let root = spans.iter().find(|span| span.parent.is_none()).unwrap();
    assert_eq!(root.links, [(id.clone(), "b7ad6b7169203331".to_owned())], "and still its caller finds it");
    assert!(SPANS.trace(&id).is_empty(), "nothing is in a trace of the caller's choice");
}
