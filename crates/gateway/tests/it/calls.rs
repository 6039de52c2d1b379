//! Calls through the gateway: headers, routes, scopes, deadlines, streams, compression.

use std::time::{Duration, Instant};

use chassis::identity::By;
use chassis::request::{staleness, token};
use http_body_util::BodyExt as _;
use proto::{
    assets::v1::{GetAssetRequest, RenderThumbnailRequest},
    generations::v1::{
        CancelGenerationRequest, GetGenerationRequest, WatchGenerationsRequest,
        generation_service_client::GenerationServiceClient,
    },
};
use tonic::{Code, codec::CompressionEncoding};
use tower::{Service as _, ServiceExt as _};
use uuid::Uuid;

use crate::cluster::{Cluster, authorized, check};
use crate::upstream;

#[tokio::test]
async fn a_service_gets_the_account_of_the_key_and_no_credential() {
    let cluster = Cluster::start().await;
    let account = Uuid::now_v7();
    let mut request = authorized(GetAssetRequest { name: "assets/a".into() }, &cluster.key(account));
    for name in ["x-rushes-account", "x-rushes-scopes", "x-rushes-identity", "x-rushes-anything", "cookie", "x-api-key"]
    {
        request.metadata_mut().insert(name, Uuid::now_v7().to_string().parse().unwrap());
    }
    let reply = cluster.assets().await.get_asset(request).await.unwrap();
    assert_eq!(reply.get_ref().name, "assets/a");
    assert_eq!(reply.get_ref().mime_type, account.to_string(), "the account of the key, not of the header");
    let internal = reply.metadata().clone().into_headers();
    assert!(internal.keys().all(|name| !name.as_str().starts_with("x-rushes-")), "{internal:?}");

    let calls = cluster.upstream.calls.lock().unwrap();
    let headers = &calls[0];
    let (service, identity) = upstream::identity(headers).expect("a token");
    assert_eq!((service, identity.account), ("thumbnail-worker", Some(account)));
    assert!(matches!(identity.by, By::Key { scopes: "read", .. }), "the scope of the method alone: {identity:?}");
    for name in ["authorization", "x-api-key", "cookie", "x-rushes-anything", "x-rushes-account", "x-rushes-scopes"] {
        assert!(!headers.contains_key(name), "{name} passed");
    }
}

#[tokio::test]
async fn a_call_of_a_session_carries_the_token_of_its_last_write() {
    let cluster = Cluster::start().await;
    let key = cluster.key(Uuid::now_v7());
    let call = async |session: Option<&'static str>| {
        let mut request = authorized(GetAssetRequest { name: "assets/a".into() }, &key);
        if let Some(session) = session {
            request.metadata_mut().insert("rushes-session", session.parse().unwrap());
        }
        let reply = cluster.assets().await.get_asset(request).await?;
        let token = reply.metadata().get_bin(token::HEADER).map(|token| token.to_bytes().unwrap());
        Ok::<_, tonic::Status>(token.is_some_and(|token| token.starts_with(b"written")))
    };
    *cluster.upstream.token.lock().unwrap() = Some(b"written".to_vec());
    assert!(call(Some("mine")).await.unwrap());
    // From now on the service returns in its reply the token that it was sent.
    *cluster.upstream.token.lock().unwrap() = None;
    assert!(call(Some("mine")).await.unwrap());
    assert!(!call(Some("another")).await.unwrap());
    assert!(!call(None).await.unwrap());
    check(&call(Some("")).await.unwrap_err(), Code::InvalidArgument, "SESSION_INVALID");
}

#[tokio::test]
async fn max_stale_passes_and_must_be_valid() {
    let cluster = Cluster::start().await;
    let key = cluster.key(Uuid::now_v7());
    let call = async |asked: &'static str| {
        let mut request = authorized(GetAssetRequest { name: "assets/a".into() }, &key);
        request.metadata_mut().insert(staleness::MAX_STALE_HEADER, asked.parse().unwrap());
        cluster.assets().await.get_asset(request).await
    };
    call("60").await.unwrap();
    assert_eq!(cluster.upstream.calls.lock().unwrap()[0][staleness::MAX_STALE_HEADER], "60");
    check(&call("61").await.unwrap_err(), Code::InvalidArgument, "MAX_STALE_INVALID");
}

/// Sends an empty message to `path`, as any client could.
async fn call_path(cluster: &Cluster, path: &str, key: Option<&str>) -> tonic::Status {
    let mut request = http::Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(http_body_util::Full::from(&[0_u8; 5][..])))
        .unwrap();
    if let Some(key) = key {
        request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    }
    let mut channel = cluster.channel().await;
    let response = channel.ready().await.unwrap().call(request).await.unwrap();
    let (parts, body) = response.into_parts();
    match tonic::Status::from_header_map(&parts.headers) {
        Some(status) => status,
        None => {
            let trailers = body.collect().await.unwrap().trailers().cloned().unwrap_or_default();
            tonic::Status::from_header_map(&trailers).expect("a status")
        }
    }
}

#[tokio::test]
async fn a_method_that_is_not_public_is_unimplemented() {
    let cluster = Cluster::start().await;
    let key = cluster.key(Uuid::now_v7());
    let internal = proto::METHODS.iter().filter(|method| method.scope.is_none()).map(|method| method.path);
    let unknown = ["/rushes.assets.v1.AssetService/Nothing", "/rushes.assets.v1.AssetService", "/", "//"];
    let mut count = 0;
    for path in internal.chain(unknown) {
        check(&call_path(&cluster, path, Some(&key)).await, Code::Unimplemented, "METHOD_UNKNOWN");
        count += 1;
    }
    assert!(count > unknown.len() + 4, "only {count} paths");
    assert!(cluster.upstream.calls.lock().unwrap().is_empty());
    assert_eq!(cluster.authentications(), 0);
}

#[tokio::test]
async fn every_public_method_demands_a_key_with_its_scope() {
    let cluster = Cluster::start().await;
    for method in proto::METHODS {
        let Some(scope) = method.scope else { continue };
        check(&call_path(&cluster, method.path, None).await, Code::Unauthenticated, "KEY_MISSING");
        let key = cluster.key_with(Uuid::now_v7(), |key| key.scopes.retain(|has| has != scope.as_str()));
        check(&call_path(&cluster, method.path, Some(&key)).await, Code::PermissionDenied, "SCOPE_MISSING");
    }
    assert!(cluster.upstream.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_deadline_is_2_s_by_default_up_to_10_s_and_shrinks_on_the_way() {
    let cluster = Cluster::start().await;
    let key = cluster.key(Uuid::now_v7());
    let mut client = cluster.assets().await;
    for (asked, max) in [(None, 2_000), (Some(700), 700), (Some(60_000), 10_000)] {
        let mut request = authorized(GetAssetRequest::default(), &key);
        if let Some(asked) = asked {
            request.set_timeout(Duration::from_millis(asked));
        }
        let left = client.get_asset(request).await.unwrap().into_inner().size_bytes;
        assert!((max / 3..=max - 5).contains(&left), "asked {asked:?}: {left} ms were left");
    }
}

#[tokio::test]
async fn an_expired_deadline_is_deadline_exceeded() {
    let cluster = Cluster::start().await;
    let key = cluster.key(Uuid::now_v7());
    let began = Instant::now();
    let mut request = authorized(GetAssetRequest { name: "assets/slow".into() }, &key);
    // Set by hand: tonic's client would otherwise end the call by itself, before the gateway's answer.
    request.metadata_mut().insert("grpc-timeout", "150m".parse().unwrap());
    let status = cluster.assets().await.get_asset(request).await.unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
    assert!(began.elapsed() < Duration::from_millis(1_900), "sooner than by default");

    let status = cluster.get(&key, "assets/slow").await.unwrap_err();
    check(&status, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    assert!(began.elapsed() < Duration::from_secs(6));
}

#[tokio::test]
async fn a_watch_passes_event_by_event_and_outlives_the_default_deadline() {
    let cluster = Cluster::start().await;
    let key = cluster.key(Uuid::now_v7());
    let mut client = GenerationServiceClient::new(cluster.channel().await);
    let request = authorized(WatchGenerationsRequest::default(), &key);
    let mut events = client.watch_generations(request).await.unwrap().into_inner();
    assert!(events.message().await.unwrap().is_some(), "the first comes while the stream is open");
    let second = tokio::time::timeout(Duration::from_millis(2_300), events.message()).await;
    assert!(second.is_err(), "nothing comes, and nothing ends it");
    cluster.upstream.next.notify_one();
    assert!(events.message().await.unwrap().is_some());
    assert!(events.message().await.unwrap().is_none(), "it ends well");
}

#[tokio::test]
async fn a_watch_whose_service_dies_ends_as_unavailable() {
    let cluster = Cluster::start().await;
    let key = cluster.key(Uuid::now_v7());
    let mut client = GenerationServiceClient::new(cluster.channel().await);
    let request = || authorized(WatchGenerationsRequest::default(), &key);
    let mut events = client.watch_generations(request()).await.unwrap().into_inner();
    assert!(events.message().await.unwrap().is_some());
    cluster.generations.reset();
    let ended = tokio::time::timeout(Duration::from_secs(10), events.message()).await;
    check(&ended.expect("the end comes at once").unwrap_err(), Code::Unavailable, "DEPENDENCY_DOWN");
    // The service is there again, and so is the watch.
    let mut events = client.watch_generations(request()).await.unwrap().into_inner();
    assert!(events.message().await.unwrap().is_some());
}

#[tokio::test]
async fn a_read_whose_service_dies_goes_out_once_more_and_a_write_does_not() {
    let cluster = Cluster::start().await;
    let key = cluster.key(Uuid::now_v7());
    let client = || async { GenerationServiceClient::new(cluster.channel().await) };
    let name = format!("generations/{}", Uuid::now_v7());
    let began = async |scope: &'static str, count: usize| {
        let began = async || {
            let calls = cluster.upstream.calls.lock().unwrap();
            let scopes = calls.iter().filter_map(|headers| match upstream::identity(headers)?.1.by {
                By::Key { scopes, .. } => Some(scopes),
                By::Service(_) => None,
            });
            (scopes.filter(|scopes| *scopes == scope).count() == count).then_some(())
        };
        testkit::eventually("the calls have begun", Duration::from_secs(10), began).await.unwrap();
    };
    let (mut reader, mut writer) = tokio::join!(client(), client());
    let read = GetGenerationRequest { name: name.clone(), min_version: 0 };
    let read = reader.get_generation(authorized(read, &key));
    let write = CancelGenerationRequest { name };
    let write = writer.cancel_generation(authorized(write, &key));
    let service = async {
        began("read", 1).await;
        began("generate", 1).await;
        cluster.generations.reset();
        began("read", 2).await;
        cluster.upstream.answer.cancel();
    };
    let (read, write, ()) = tokio::join!(read, write, service);
    read.unwrap();
    check(&write.unwrap_err(), Code::Unavailable, "DEPENDENCY_DOWN");
    began("generate", 1).await;
}

#[tokio::test]
async fn compression_goes_through_from_end_to_end() {
    let cluster = Cluster::start().await;
    let gzip = CompressionEncoding::Gzip;
    let client = cluster.assets().await.send_compressed(gzip).accept_compressed(gzip);
    let name = format!("assets/{}", "a".repeat(4_000));
    let request = authorized(GetAssetRequest { name: name.clone() }, &cluster.key(Uuid::now_v7()));
    let reply = client.clone().get_asset(request).await.unwrap();
    assert_eq!(reply.metadata().get("grpc-encoding").unwrap(), "gzip");
    assert_eq!(reply.get_ref().name, name);
    assert_eq!(cluster.upstream.calls.lock().unwrap()[0]["grpc-encoding"], "gzip");
}

#[tokio::test]
async fn a_service_that_is_gone_is_unavailable_and_the_others_answer() {
    let cluster = Cluster::start_with(|config| {
        config.upstreams.generation_status = format!("http://127.0.0.1:{}", testkit::free_port()).parse().unwrap();
    })
    .await;
    let key = cluster.key(Uuid::now_v7());
    let mut client = GenerationServiceClient::new(cluster.channel().await);
    let status = client.get_generation(authorized(GetGenerationRequest::default(), &key)).await.unwrap_err();
    check(&status, Code::Unavailable, "DEPENDENCY_DOWN");
    assert!(cluster.get(&key, "assets/a").await.is_ok());
}

#[tokio::test]
async fn either_header_carries_a_key() {
    let cluster = Cluster::start().await;
    let mut request = tonic::Request::new(RenderThumbnailRequest::default());
    request.metadata_mut().insert("x-api-key", cluster.key(Uuid::now_v7()).parse().unwrap());
    assert!(cluster.assets().await.render_thumbnail(request).await.is_ok());
}
