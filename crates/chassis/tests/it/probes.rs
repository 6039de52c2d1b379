//! Health and reflection, as tools ask for them.

use std::time::Duration;

use chassis::{client, server::Server};
use futures::StreamExt as _;
use prost::Message as _;
use prost_types::{FileDescriptorProto, MethodDescriptorProto, ServiceDescriptorProto};
use tonic::{Code, Request, Streaming};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::{v1, v1alpha};

use crate::wire::{Running, free, ok, serve};

const SHOP: &str = "shop.v1.ShopService";
const STOCK: &str = "shop.v1.StockService";

/// A field that decoding drops, as it does with options of ours.
const OPTION: [u8; 3] = [0xb8, 0x3e, 0x07];

fn file(name: &str, service: &str, needs: &[&str]) -> Vec<u8> {
    let method = MethodDescriptorProto { name: Some("Get".to_owned()), ..MethodDescriptorProto::default() };
    let service = ServiceDescriptorProto {
        name: (!service.is_empty()).then(|| service.to_owned()),
        method: vec![method],
        ..ServiceDescriptorProto::default()
    };
    let file = FileDescriptorProto {
        name: Some(name.to_owned()),
        package: Some("shop.v1".to_owned()),
        dependency: needs.iter().map(|&name| name.to_owned()).collect(),
        service: vec![service].into_iter().filter(|service| service.name.is_some()).collect(),
        ..FileDescriptorProto::default()
    };
    [file.encode_to_vec(), OPTION.to_vec()].concat()
}

/// Two services, of which one needs a file that needs another.
fn descriptors() -> &'static [u8] {
    let files = [
        file("money.proto", "", &[]),
        file("types.proto", "", &["money.proto"]),
        file("shop.proto", "ShopService", &["types.proto"]),
        file("stock.proto", "StockService", &[]),
    ];
    let mut set = Vec::new();
    for file in files {
        prost::encoding::bytes::encode(1, &file, &mut set);
    }
    set.leak()
}

async fn running(server: Server) -> Running {
    serve(server.describe(descriptors()), |_| async { ok() }).await
}

fn channel(server: &Running) -> client::Channel {
    client::connect("test", &format!("http://{}", server.addr).parse().unwrap())
}

async fn health(server: &Running, service: &str) -> Result<ServingStatus, Code> {
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = HealthClient::new(channel(server)).check(request).await;
    answer.map(|answer| answer.into_inner().status()).map_err(|status| status.code())
}

/// Asks for the list of services, and for each of `files` and `symbols`; `None` for what is not described.
macro_rules! ask {
    ($version:ident, $server:expr, $files:expr, $symbols:expr) => {{
        use $version::server_reflection_request::MessageRequest;
        use $version::server_reflection_response::MessageResponse;
        let mut requests = vec![MessageRequest::ListServices(String::new())];
        requests.extend($files.iter().map(|file: &&str| MessageRequest::FileByFilename((*file).to_owned())));
        requests
            .extend($symbols.iter().map(|symbol: &&str| MessageRequest::FileContainingSymbol((*symbol).to_owned())));
        let requests = requests
            .into_iter()
            .map(|request| $version::ServerReflectionRequest { host: String::new(), message_request: Some(request) });
        let mut client = $version::server_reflection_client::ServerReflectionClient::new(channel($server));
        // Each in a stream of its own, since an error ends its stream.
        let (mut names, mut described) = (Vec::new(), Vec::new());
        for request in requests {
            let asked = client.server_reflection_info(Request::new(futures::stream::iter([request]))).await;
            let mut answers: Streaming<$version::ServerReflectionResponse> = asked.unwrap().into_inner();
            match answers.next().await.unwrap().ok().and_then(|answer| answer.message_response) {
                Some(MessageResponse::ListServicesResponse(list)) => {
                    names.extend(list.service.into_iter().map(|service| service.name));
                }
                Some(MessageResponse::FileDescriptorResponse(files)) => {
                    described.push(files.file_descriptor_proto.first().cloned());
                }
                _ => described.push(None),
            }
        }
        names.sort();
        (names, described)
    }};
}

const FILES: [&str; 4] = ["money.proto", "types.proto", "shop.proto", "stock.proto"];
const SYMBOLS: [&str; 4] = [SHOP, STOCK, "google.rpc.ErrorInfo", "google.rpc.BadRequest"];

#[tokio::test]
async fn reflection_lists_and_describes_what_is_advertised_and_the_details_of_errors_in_both_versions() {
    let server = running(Server::new("test", &free()).advertise([SHOP])).await;
    let (names, described) = ask!(v1, &server, FILES, SYMBOLS);
    assert_eq!(ask!(v1alpha, &server, FILES, SYMBOLS), (names.clone(), described.clone()));
    assert_eq!(names, ["grpc.health.v1.Health", SHOP]);
    let has: Vec<_> = described.iter().map(Option::is_some).collect();
    assert_eq!(has, [true, true, true, false, true, false, true, true]);
    assert_eq!(described[2].as_deref(), Some(file("shop.proto", "ShopService", &["types.proto"]).as_slice()));
}

#[tokio::test]
async fn without_a_list_all_that_is_described_is_advertised() {
    let server = running(Server::new("test", &free())).await;
    let (names, described) = ask!(v1, &server, FILES, SYMBOLS);
    assert_eq!(names, ["grpc.health.v1.Health", SHOP, STOCK]);
    assert!(described.iter().all(Option::is_some));
}

#[tokio::test]
async fn health_answers_for_each_advertised_service_and_changes_with_the_drain() {
    let server = running(Server::new("test", &free()).advertise([SHOP])).await;
    assert_eq!(health(&server, "").await, Ok(ServingStatus::Serving));
    assert_eq!(health(&server, SHOP).await, Ok(ServingStatus::Serving));
    assert_eq!(health(&server, STOCK).await, Err(Code::NotFound));
    let mut watches = Vec::new();
    for service in ["", SHOP] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let mut watch = HealthClient::new(channel(&server)).watch(request).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
        watches.push(watch);
    }
    server.drain.begin();
    for watch in &mut watches {
        let turned = tokio::time::timeout(Duration::from_secs(5), watch.message()).await.expect("it turns");
        assert_eq!(turned.unwrap().unwrap().status(), ServingStatus::NotServing);
    }
}
