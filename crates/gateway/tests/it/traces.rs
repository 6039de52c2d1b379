//! One trace from the client through the gateway to the service.

use std::time::Duration;

use proto::assets::v1::{GetAssetRequest, asset_service_client::AssetServiceClient};
use testkit::{Kind, Tree};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::cluster::{Cluster, SPANS, authorized};

#[tokio::test]
async fn a_call_is_one_trace_through_every_hop() {
    let cluster = Cluster::start().await;
    let account = Uuid::now_v7();
    let request = authorized(GetAssetRequest { name: "assets/a".into() }, &cluster.key(account));
    let root = tracing::info_span!("a user");
    let trace = async {
        AssetServiceClient::new(cluster.traced()).get_asset(request).await.unwrap();
        chassis::telemetry::trace_id().unwrap()
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
    assert_eq!(attribute("rpc.system"), "grpc");
    assert_eq!(attribute("rpc.service"), "rushes.assets.v1.AssetService");
    assert_eq!(attribute("rpc.method"), "GetAsset");
    assert_eq!(attribute("rpc.grpc.status_code"), "0");
    let gateway = tree.find(|span| span.attribute("rushes.account").is_some()).unwrap();
    assert_eq!(gateway.attribute("rushes.account"), Some(account.to_string().as_str()));
    assert!(
        tree.find(|span| span.name == "rushes.accounts.v1.AccountService/AuthenticateApiKey").is_some(),
        "the question whose key it is belongs to the trace"
    );
}
