//! Browsers: gRPC-Web over HTTP/1.1, and the preflight requests of CORS.

use http::{Method, StatusCode};
use prost::Message as _;
use proto::assets::v1::{Asset, GetAssetRequest};
use uuid::Uuid;

use crate::{assets::send, cluster::Cluster};

const PATH: &str = "/rushes.assets.v1.AssetService/GetAsset";

fn frame(message: &impl prost::Message) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.encoded_len()).unwrap().to_be_bytes());
    frame.extend(message.encode_to_vec());
    frame
}

/// Splits a gRPC-Web body into its message and its trailers.
fn parts(mut body: &[u8]) -> (Option<Vec<u8>>, String) {
    let (mut message, mut trailers) = (None, String::new());
    while let [flag, a, b, c, d, rest @ ..] = body {
        let size = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        match flag {
            0x80 => trailers = String::from_utf8(rest[..size].to_vec()).unwrap(),
            _ => message = Some(rest[..size].to_vec()),
        }
        body = &rest[size..];
    }
    (message, trailers)
}

#[tokio::test]
async fn a_browser_calls_over_grpc_web() {
    let cluster = Cluster::start().await;
    let account = Uuid::now_v7();
    let request = http::Request::post(PATH)
        .header("content-type", "application/grpc-web+proto")
        .header("x-grpc-web", "1")
        .header("origin", "https://app.example")
        .header("authorization", format!("Bearer {}", cluster.key(account)))
        .body(frame(&GetAssetRequest { name: "assets/a".into() }).into())
        .unwrap();
    let response = send(&cluster, request).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "application/grpc-web+proto");
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
    let (message, trailers) = parts(response.body());
    assert_eq!(Asset::decode(&*message.unwrap()).unwrap().mime_type, account.to_string());
    assert!(trailers.contains("grpc-status:0"), "{trailers}");
}

#[tokio::test]
async fn a_refusal_reaches_a_browser_with_its_details() {
    let cluster = Cluster::start().await;
    let request = http::Request::post(PATH)
        .header("content-type", "application/grpc-web+proto")
        .header("origin", "https://app.example")
        .body(frame(&GetAssetRequest::default()).into())
        .unwrap();
    let response = send(&cluster, request).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["grpc-status"], "16");
    assert!(response.headers().contains_key("grpc-status-details-bin"));
    let exposed = response.headers()["access-control-expose-headers"].to_str().unwrap();
    assert!(exposed.contains("grpc-status-details-bin"), "{exposed}");
}

#[tokio::test]
async fn a_preflight_request_is_answered() {
    let cluster = Cluster::start_with(|config| config.origins = "https://app.example".parse().unwrap()).await;
    let ask = |origin: &'static str| {
        http::Request::builder()
            .method(Method::OPTIONS)
            .uri(PATH)
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type,x-grpc-web")
            .body(bytes::Bytes::new())
            .unwrap()
    };
    let response = send(&cluster, ask("https://app.example")).await;
    assert_eq!(response.headers()["access-control-allow-origin"], "https://app.example");
    let headers = response.headers()["access-control-allow-headers"].to_str().unwrap();
    assert!(headers.contains("authorization") && headers.contains("x-grpc-web"), "{headers}");
    let response = send(&cluster, ask("https://other.example")).await;
    assert!(!response.headers().contains_key("access-control-allow-origin"));
}
