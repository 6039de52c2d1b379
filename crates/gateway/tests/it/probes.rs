//! Health, reflection and metrics.

use std::collections::BTreeSet;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use uuid::Uuid;

use crate::cluster::Cluster;

#[tokio::test]
async fn health_is_serving_as_a_whole_and_for_each_public_service_and_no_other() {
    let cluster = Cluster::start().await;
    let mut client = HealthClient::new(cluster.channel().await);
    for service in std::iter::once(String::new()).chain(public_services()) {
        let reply = client.check(HealthCheckRequest { service }).await.unwrap().into_inner();
        assert_eq!(reply.status(), ServingStatus::Serving);
    }
    let internal = HealthCheckRequest { service: "rushes.work.v1.WorkService".to_owned() };
    assert_eq!(client.check(internal).await.unwrap_err().code(), tonic::Code::NotFound);
}

/// Every service with a method that may be called from outside.
fn public_services() -> BTreeSet<String> {
    let public = proto::METHODS.iter().filter(|method| method.scope.is_some());
    public.map(|method| method.path[1..].split_once('/').unwrap().0.to_owned()).collect()
}

/// Asks the gateway's reflection one question.
async fn reflect(cluster: &Cluster, question: MessageRequest) -> Result<MessageResponse, tonic::Status> {
    let mut client = ServerReflectionClient::new(cluster.channel().await);
    let request = ServerReflectionRequest { message_request: Some(question), ..ServerReflectionRequest::default() };
    let mut replies = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap().into_inner();
    Ok(replies.message().await?.unwrap().message_response.unwrap())
}

#[tokio::test]
async fn reflection_lists_and_describes_the_public_services_only() {
    let cluster = Cluster::start().await;
    let listed = reflect(&cluster, MessageRequest::ListServices(String::new())).await.unwrap();
    let MessageResponse::ListServicesResponse(list) = listed else { panic!("{listed:?}") };
    let listed: BTreeSet<_> = list.service.into_iter().map(|service| service.name).collect();
    let mut expected = public_services();
    expected.insert("grpc.health.v1.Health".to_owned());
    assert_eq!(listed, expected);

    let services: BTreeSet<_> =
        proto::METHODS.iter().map(|method| method.path[1..].split_once('/').unwrap().0).collect();
    let mut internal = 0;
    for service in services {
        let described = reflect(&cluster, MessageRequest::FileContainingSymbol(service.to_owned())).await;
        let is_described = match described {
            Ok(response) => matches!(response, MessageResponse::FileDescriptorResponse(_)),
            Err(status) => status.code() != tonic::Code::NotFound,
        };
        assert_eq!(is_described, expected.contains(service), "{service}");
        internal += usize::from(!is_described);
    }
    assert!(internal >= 3, "{internal} internal services");
}

pub(crate) async fn admin(cluster: &Cluster, path: &str) -> String {
    let stream = tokio::net::TcpStream::connect(cluster.admin).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get(path).header("host", "admin").body(Empty::<Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn calls_are_measured_by_method_and_outcome() {
    let cluster = Cluster::start().await;
    assert!(cluster.get(&cluster.key(Uuid::now_v7()), "assets/a").await.is_ok());
    assert!(cluster.get("none", "assets/a").await.is_err());
    let page = admin(&cluster, "/metrics").await;
    for code in ["OK", "UNAUTHENTICATED"] {
        let series = format!(
            "rushes_rpc_server_duration_seconds_count{{method=\"rushes.assets.v1.AssetService/GetAsset\",code=\"{code}\"}}"
        );
        assert!(page.contains(&series), "no {series}");
    }
    assert!(page.contains("rushes_gateway_key_lookups_total{source=\"dashboard\"}"));
    let help = "# HELP rushes_gateway_key_lookups_total API keys that calls showed";
    assert!(page.contains(help), "a metric says what it is");
    assert_eq!(admin(&cluster, "/healthz").await, "ok\n");
    assert_eq!(admin(&cluster, "/readyz").await, "ready\n");
}
