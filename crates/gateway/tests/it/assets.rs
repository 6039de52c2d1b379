//! Assets over HTTP/1.1, from real files.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use chassis::blobs::Name;
use chassis::keyring::InternalKeys;
use chassis::links::{AssetAccess, AssetUrls, FetchLinks};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::cluster::Cluster;

/// Sends one HTTP/1.1 request to the public port.
pub(crate) async fn send(cluster: &Cluster, request: Request<Bytes>) -> Response<Bytes> {
    let stream = TcpStream::connect(cluster.addr).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = request.map(Full::new);
    request.headers_mut().insert("host", "gateway".parse().unwrap());
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

async fn ask(cluster: &Cluster, method: Method, path: &str, headers: &[(&str, &str)]) -> Response<Bytes> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(cluster, request.body(Bytes::new()).unwrap()).await
}

/// The id of the trace that a response names, in its one header.
pub(crate) fn trace_id(response: &Response<Bytes>) -> &str {
    let ids: Vec<_> = response.headers().get_all("x-trace-id").iter().collect();
    let [id] = ids[..] else { panic!("one trace id in {:?}", response.headers()) };
    assert!(id.len() == 32 && id.as_bytes().iter().all(u8::is_ascii_hexdigit), "{id:?}");
    id.to_str().unwrap()
}

/// A few hundred kilobytes that do not repeat.
fn video() -> Bytes {
    (0..100_000_u32).flat_map(u32::to_le_bytes).collect()
}

async fn cluster_with_video() -> (Cluster, Name, String) {
    let cluster = Cluster::start().await;
    let name = cluster.store.put(video(), "mp4").await.unwrap();
    let path = format!("/assets/{name}");
    (cluster, name, path)
}

#[tokio::test]
async fn an_asset_is_served_whole_and_may_be_cached_forever() {
    let (cluster, name, path) = cluster_with_video().await;
    let response = ask(&cluster, Method::GET, &path, &[("origin", "https://app.example")]).await;
    assert_eq!(response.status(), StatusCode::OK);
    let headers = response.headers();
    let hash = &name.to_string()[..64];
    assert_eq!(headers["etag"], format!("\"{hash}\""));
    assert_eq!(headers["cache-control"], "public, max-age=31536000, immutable");
    assert_eq!(headers["content-type"], "video/mp4");
    assert_eq!(headers["content-length"], "400000");
    assert_eq!(headers["accept-ranges"], "bytes");
    assert_eq!(headers["x-content-type-options"], "nosniff");
    assert_eq!(headers["content-security-policy"], "default-src 'none'; sandbox");
    assert_eq!(headers["access-control-allow-origin"], "*");
    assert_eq!(Name::of(response.body(), "mp4"), name, "the bytes are those of the name");

    let head = ask(&cluster, Method::HEAD, &path, &[]).await;
    assert_eq!((head.status(), &head.headers()["content-length"]), (StatusCode::OK, &"400000".parse().unwrap()));
    assert!(head.body().is_empty());
}

#[tokio::test]
async fn types_follow_the_extension() {
    let cluster = Cluster::start().await;
    let types = [
        ("webp", "image/webp"),
        ("jpg", "image/jpeg"),
        ("png", "image/png"),
        ("mp4", "video/mp4"),
        ("webm", "video/webm"),
        ("mov", "video/quicktime"),
        ("wav", "audio/wav"),
        ("mp3", "audio/mpeg"),
        ("m4a", "audio/mp4"),
    ];
    for (extension, kind) in types {
        let name = cluster.store.put(Bytes::from_static(b"bytes"), extension).await.unwrap();
        let response = ask(&cluster, Method::GET, &format!("/assets/{name}"), &[]).await;
        assert_eq!(response.headers()["content-type"], kind);
    }
}

#[tokio::test]
async fn an_unchanged_asset_is_not_modified() {
    let (cluster, name, path) = cluster_with_video().await;
    let etag = format!("\"{}\"", &name.to_string()[..64]);
    for tag in [etag.as_str(), &format!("W/{etag}"), &format!("\"x\", {etag}"), "*"] {
        let response = ask(&cluster, Method::GET, &path, &[("if-none-match", tag)]).await;
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{tag}");
        assert!(response.body().is_empty());
        assert_eq!(response.headers()["etag"], etag);
    }
    let response = ask(&cluster, Method::GET, &path, &[("if-none-match", "\"x\"")]).await;
    assert_eq!(response.status(), StatusCode::OK);
    let missing = format!("/assets/{}.mp4", "0".repeat(64));
    let response = ask(&cluster, Method::GET, &missing, &[("if-none-match", "*")]).await;
    assert_eq!(
        (response.status(), &response.headers()["cache-control"]),
        (StatusCode::NOT_FOUND, &"no-store".parse().unwrap())
    );
}

#[tokio::test]
async fn a_range_is_served_as_partial_content() {
    let (cluster, _, path) = cluster_with_video().await;
    let whole = video();
    for (range, from, to) in
        [("bytes=0-99", 0, 100), ("bytes=399990-", 399_990, 400_000), ("bytes=-5", 399_995, 400_000)]
    {
        let response = ask(&cluster, Method::GET, &path, &[("range", range)]).await;
        assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT, "{range}");
        assert_eq!(response.headers()["content-range"], format!("bytes {from}-{}/400000", to - 1));
        assert_eq!(response.headers()["content-length"], (to - from).to_string());
        assert_eq!(response.body(), &whole.slice(from..to));
    }
    let outside = ask(&cluster, Method::GET, &path, &[("range", "bytes=400000-")]).await;
    assert_eq!(outside.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(outside.headers()["content-range"], "bytes */400000");
    let several = ask(&cluster, Method::GET, &path, &[("range", "bytes=0-1,5-6")]).await;
    assert_eq!((several.status(), several.body().len()), (StatusCode::OK, 400_000));
    let other = ask(&cluster, Method::GET, &path, &[("range", "bytes=0-1"), ("if-range", "\"x\"")]).await;
    assert_eq!((other.status(), other.body().len()), (StatusCode::OK, 400_000));
}

#[tokio::test]
async fn a_missing_asset_is_a_small_json_that_no_cache_keeps() {
    let (cluster, name, path) = cluster_with_video().await;
    let missing = format!("/assets/{}.mp4", "0".repeat(64));
    let upper = format!("/assets/{}", name.to_string().to_uppercase());
    for path in
        [missing.as_str(), &upper, "/assets/", "/assets/../../etc/passwd", "/assets/%2e%2e/x", "/", "/favicon.ico"]
    {
        let response = ask(&cluster, Method::GET, path, &[]).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(response.headers()["cache-control"], "no-store");
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(body["error"]["code"], 404, "{path}");
        assert_eq!(body["error"]["trace_id"], trace_id(&response), "{path}");
    }
    let response = ask(&cluster, Method::DELETE, &path, &[]).await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(response.headers()["allow"], "GET, HEAD");
}

#[tokio::test]
async fn a_storage_that_fails_is_503_and_not_404() {
    let (cluster, _, path) = cluster_with_video().await;
    // A file where a directory should be is an error of the storage, not the absence of an object.
    let prefix = cluster.directory().join(&path["/assets/".len()..][..2]);
    std::fs::remove_dir_all(&prefix).unwrap();
    std::fs::write(&prefix, b"not a directory").unwrap();
    let response = ask(&cluster, Method::GET, &path, &[]).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()["cache-control"], "no-store");
}

#[tokio::test]
async fn every_response_names_its_trace() {
    let (cluster, name, path) = cluster_with_video().await;
    let etag = format!("\"{}\"", &name.to_string()[..64]);
    let mut seen = BTreeSet::new();
    for (method, headers, status) in [
        (Method::GET, vec![], StatusCode::OK),
        (Method::HEAD, vec![], StatusCode::OK),
        (Method::GET, vec![("range", "bytes=0-9")], StatusCode::PARTIAL_CONTENT),
        (Method::GET, vec![("range", "bytes=400000-")], StatusCode::RANGE_NOT_SATISFIABLE),
        (Method::GET, vec![("if-none-match", etag.as_str())], StatusCode::NOT_MODIFIED),
        (Method::DELETE, vec![], StatusCode::METHOD_NOT_ALLOWED),
    ] {
        let response = ask(&cluster, method, &path, &headers).await;
        assert_eq!(response.status(), status);
        assert!(seen.insert(trace_id(&response).to_owned()), "each request has a trace of its own");
    }
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    let response = ask(&cluster, Method::GET, &path, &[("traceparent", &parent)]).await;
    assert_ne!(trace_id(&response), trace, "whatever the client brings");
    let cluster = Cluster::start_with(|config| config.door.trust_traceparent = true).await;
    let response = ask(&cluster, Method::GET, "/assets/none", &[("traceparent", &parent)]).await;
    assert_eq!(trace_id(&response), trace, "unless it is trusted");
}

/// A provider fetches by a link that runs out; whatever is no such link is nothing.
#[tokio::test]
async fn a_link_leads_to_one_object_for_a_while() {
    let key = InternalKeys::parse("0123456789abcdef0123456789abcdef").unwrap();
    let signed = key.clone();
    let cluster = Cluster::start_with(move |config| config.internal_keys = signed).await;
    let name = cluster.store.put(video(), "mp4").await.unwrap();
    let links = FetchLinks::new(&key, "https://rushes.test".parse().unwrap());
    let (day, now) = (Duration::from_secs(86_400), SystemTime::now());
    let link = links.link(&name, day, now);
    let whole = ask(&cluster, Method::GET, link.path(), &[]).await;
    assert_eq!((whole.status(), whole.body()), (StatusCode::OK, &video()));
    let headers = whole.headers();
    assert_eq!(
        (&headers["content-type"], &headers["content-length"]),
        (&"video/mp4".parse().unwrap(), &"400000".parse().unwrap())
    );
    assert_eq!(headers["cache-control"], "no-store", "nobody keeps what a link led to");
    let head = ask(&cluster, Method::HEAD, link.path(), &[]).await;
    assert_eq!((head.status(), &head.headers()["content-length"]), (StatusCode::OK, &"400000".parse().unwrap()));
    let part = ask(&cluster, Method::GET, link.path(), &[("range", "bytes=4-7")]).await;
    assert_eq!((part.status(), &part.body()[..]), (StatusCode::PARTIAL_CONTENT, &[1, 0, 0, 0][..]));
    assert_eq!(ask(&cluster, Method::POST, link.path(), &[]).await.status(), StatusCode::METHOD_NOT_ALLOWED);

    let forged = link.path().replace(&name.to_string(), &Name::of(b"another", "mp4").to_string());
    assert_eq!(ask(&cluster, Method::GET, &forged, &[]).await.status(), StatusCode::NOT_FOUND);
    let missing = links.link(&Name::of(b"nothing", "mp4"), day, now);
    assert_eq!(ask(&cluster, Method::GET, missing.path(), &[]).await.status(), StatusCode::NOT_FOUND);
    let expired = links.link(&name, day, now - 2 * day);
    let refused = ask(&cluster, Method::GET, expired.path(), &[]).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert!(String::from_utf8_lossy(refused.body()).contains("LINK_EXPIRED"));
    let without = Cluster::start().await;
    assert_eq!(ask(&without, Method::GET, link.path(), &[]).await.status(), StatusCode::NOT_FOUND);
}

/// An asset's address opens it for as long as it says, and neither its hash nor another's address does.
#[tokio::test]
async fn a_signed_address_is_needed_and_runs_out() {
    let keys = InternalKeys::parse("0123456789abcdef0123456789abcdef").unwrap();
    let signed = keys.clone();
    let cluster = Cluster::start_with(move |config| config.assets = AssetAccess::signed(&signed)).await;
    let name = cluster.store.put(video(), "mp4").await.unwrap();
    let account = uuid::Uuid::now_v7();
    let path = |urls: &AssetUrls, name: &Name| urls.url(account, name).replace("https://rushes.test", "");
    let urls = AssetUrls::signed("https://rushes.test", &keys, 7);
    let whole = ask(&cluster, Method::GET, &path(&urls, &name), &[]).await;
    assert_eq!((whole.status(), whole.body()), (StatusCode::OK, &video()));
    let kept = whole.headers()["cache-control"].to_str().unwrap();
    let seconds: u64 =
        kept.strip_prefix("private, max-age=").unwrap().strip_suffix(", immutable").unwrap().parse().unwrap();
    assert!((7 * 86_400..=8 * 86_400).contains(&seconds), "{kept}");
    let etag = whole.headers()["etag"].to_str().unwrap().to_owned();
    let unchanged = ask(&cluster, Method::GET, &path(&urls, &name), &[("if-none-match", &etag)]).await;
    assert_eq!(unchanged.status(), StatusCode::NOT_MODIFIED);

    let missing = ask(&cluster, Method::GET, &path(&urls, &Name::of(b"nothing", "mp4")), &[]).await;
    let bare = ask(&cluster, Method::GET, &format!("/assets/{name}"), &[("if-none-match", &etag)]).await;
    let others = InternalKeys::parse("another-secret-of-32-characters-xxx").unwrap();
    let forged = path(&AssetUrls::signed("https://rushes.test", &others, 7), &name);
    let forged = ask(&cluster, Method::GET, &forged, &[]).await;
    for response in [&missing, &bare, &forged] {
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "a hash alone tells nothing");
        let error: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(error["error"]["reason"], "ASSET_NOT_FOUND");
    }
}
