//! Object storage: real files, and a bucket behind a small S3 that remembers what it was asked.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Body, extract::State, response::IntoResponse as _};
use bytes::Bytes;
use chassis::blobs::{Access, Error, Name, Settings, Store};
use futures::TryStreamExt as _;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;

struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("rushes-blobs-{}", uuid::Uuid::now_v7())))
    }

    fn store(&self) -> Store {
        let url = format!("file://{}", self.0.display());
        Store::open(&Settings { url, options: Vec::new() }).unwrap()
    }

    fn files(&self) -> usize {
        let folders = std::fs::read_dir(&self.0).unwrap();
        folders.map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap().count()).sum()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn bytes() -> Bytes {
    (0..50_000_u32).flat_map(u32::to_le_bytes).collect()
}

#[tokio::test]
async fn a_large_object_is_stored_in_pieces() {
    let directory = Directory::new();
    let store = directory.store();
    // A piece has 8 MiB: less than one, exactly two, and two and a bit.
    for size in [100, 16 << 20, (16 << 20) + 5] {
        let bytes: Bytes = (0..size).map(|n: usize| (n % 253) as u8).collect();
        let name = Name::of(&bytes, "mov");
        store.put_from(&name, &bytes[..]).await.unwrap();
        assert_eq!(store.get(&name).await.unwrap(), bytes, "{size}");
        store.put_from(&name, &bytes[..]).await.unwrap();
        // What has another hash than its name says is not stored, and leaves nothing.
        let before = directory.files();
        let other = Name::of(b"another", "mov");
        let answer = store.put_from(&other, &bytes[..]).await;
        assert!(matches!(answer, Err(Error::Changed(_))), "{answer:?}");
        assert_eq!(store.head(&other).await.unwrap(), None);
        assert_eq!(directory.files(), before);
    }
}

/// What any storage must do.
async fn check(store: &Store) {
    let name = store.put(bytes(), "mp4").await.unwrap();
    assert_eq!(name, Name::of(&bytes(), "mp4"));
    assert_eq!(store.put(bytes(), "mp4").await.unwrap(), name, "again is no error");
    assert_eq!(store.get(&name).await.unwrap(), bytes());
    assert_eq!(store.head(&name).await.unwrap().map(|meta| meta.bytes), Some(200_000));
    assert_eq!(store.get_range(&name, 10..20).await.unwrap(), bytes().slice(10..20));
    assert_eq!(store.get_range(&name, 199_990..999_999).await.unwrap(), bytes().slice(199_990..));
    assert!(matches!(store.get_range(&name, 200_000..200_001).await, Err(Error::Range)));
    for range in [None, Some(5..100_000)] {
        let pieces = store.stream(&name, range.clone()).await.unwrap();
        let read: Vec<Bytes> = pieces.try_collect().await.unwrap();
        let range = range.map_or(0..200_000, |range| range);
        assert_eq!(read.concat(), bytes()[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]);
        assert!(read.len() <= 4, "each piece of a file takes a thread for a moment: {}", read.len());
    }
    let missing = Name::new([0; 32], "mp4");
    assert!(matches!(store.get(&missing).await, Err(Error::Missing(name)) if name == missing));
    assert_eq!(store.head(&missing).await.unwrap(), None);
    assert!(store.stream(&missing, None).await.is_err());
}

#[tokio::test]
async fn files_keep_each_object_once() {
    let directory = Directory::new();
    let store = directory.store();
    check(&store).await;
    let puts = (0..20).map(|_| store.put(Bytes::from_static(b"at the same time"), "txt"));
    futures::future::try_join_all(puts).await.unwrap();
    assert_eq!(directory.files(), 2, "two objects, and nothing half done beside them");
}

#[tokio::test]
async fn files_are_there_for_another_process() {
    let directory = Directory::new();
    let name = directory.store().put(bytes(), "mp4").await.unwrap();
    assert_eq!(directory.store().get(&name).await.unwrap(), bytes());
}

#[tokio::test]
async fn a_url_that_names_no_storage_is_an_error_that_names_the_setting() {
    for url in ["", "files", "ftp://host/x", "file://relative/x", "s3://"] {
        let error = Store::open(&Settings { url: url.to_owned(), options: Vec::new() }).unwrap_err();
        assert!(error.to_string().starts_with("RUSHES_BLOBS_URL"), "{url:?}: {error}");
    }
}

#[tokio::test]
async fn a_start_says_what_is_wrong_with_the_storage() {
    let directory = Directory::new();
    let store = directory.store();
    store.check(Access::Read).await.expect("nobody has written yet");
    store.check(Access::Write).await.unwrap();
    store.check(Access::Write).await.expect("again is no error");
    store.check(Access::Read).await.unwrap();
    // A file lies where the directory was.
    std::fs::remove_dir_all(&directory.0).unwrap();
    std::fs::write(&directory.0, "").unwrap();
    let sentence = store.check(Access::Write).await.unwrap_err().to_string();
    assert!(sentence.starts_with("RUSHES_BLOBS_URL") && sentence.contains("cannot be written to"), "{sentence}");
    std::fs::remove_file(&directory.0).unwrap();

    for (answer, part) in [
        ((StatusCode::NOT_FOUND, "<Error><Code>NoSuchBucket</Code><Message>gone</Message></Error>"), "no such bucket"),
        ((StatusCode::FORBIDDEN, "<Error><Code>AccessDenied</Code><Message>no</Message></Error>"), "credentials"),
    ] {
        let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(async move || answer)).await });
        let store = Store::open(&bucket_at(&endpoint, &[("AWS_ALLOW_HTTP", "true")])).unwrap();
        for access in [Access::Read, Access::Write] {
            let sentence = store.check(access).await.unwrap_err().to_string();
            assert!(sentence.starts_with("RUSHES_BLOBS_URL") && sentence.contains(part), "{access:?}: {sentence}");
        }
    }
    let error = Store::open(&bucket_at("http://127.0.0.1:9", &[])).unwrap_err().to_string();
    assert!(error.contains("AWS_ALLOW_HTTP"), "{error}");
}

fn bucket_at(endpoint: &str, more: &[(&str, &str)]) -> Settings {
    let settings = [
        ("RUSHES_BLOBS_URL", "s3://rushes/production"),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "here"),
        ("AWS_ENDPOINT", endpoint),
    ];
    Settings::read(&chassis::settings::Source::of(&[&settings[..], more].concat())).unwrap()
}

/// Objects by path, with the headers they were put with.
type Bucket = Arc<Mutex<BTreeMap<String, (HeaderMap, Bytes)>>>;

/// Uploads in parts, as S3 has them: begun, sent, completed or aborted. `None` for another request.
fn s3_parts(
    objects: &mut BTreeMap<String, (HeaderMap, Bytes)>,
    parts: &http::request::Parts,
    body: &Bytes,
) -> Option<Response<Body>> {
    let (path, query) = (parts.uri.path(), parts.uri.query().unwrap_or_default());
    let of_upload = format!("{path}?part=");
    match (&parts.method, query) {
        (&Method::POST, "uploads" | "uploads=") => {
            objects.insert(format!("{of_upload}0"), (parts.headers.clone(), Bytes::new()));
            let answer = "<InitiateMultipartUploadResult><UploadId>one</UploadId></InitiateMultipartUploadResult>";
            Some(answer.into_response())
        }
        (&Method::PUT, query) if query.contains("uploadId=one") => {
            let number = query.split('&').find_map(|pair| pair.strip_prefix("partNumber=")).unwrap();
            objects.insert(format!("{of_upload}{number}"), (parts.headers.clone(), body.clone()));
            Some([("etag", format!("\"{number}\""))].into_response())
        }
        (&Method::POST | &Method::DELETE, "uploadId=one") => {
            let sent: Vec<_> = objects.keys().filter(|key| key.starts_with(&of_upload)).cloned().collect();
            let sent: Vec<_> = sent.iter().map(|key| objects.remove(key).unwrap()).collect();
            if parts.method == Method::DELETE {
                return Some(StatusCode::NO_CONTENT.into_response());
            }
            let whole: Vec<u8> = sent.iter().flat_map(|(_, bytes)| bytes.to_vec()).collect();
            objects.insert(path.to_owned(), (sent[0].0.clone(), whole.into()));
            Some("<CompleteMultipartUploadResult><ETag>\"1\"</ETag></CompleteMultipartUploadResult>".into_response())
        }
        _ => None,
    }
}

/// The part of S3 that we use: put if absent, put in parts, get with a range, head.
async fn s3(State(bucket): State<Bucket>, request: Request<Body>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let path = parts.uri.path().to_owned();
    let mut objects = bucket.lock().unwrap();
    if let Some(response) = s3_parts(&mut objects, &parts, &body) {
        return response;
    }
    let stored = objects.get(&path).cloned();
    match (parts.method, stored) {
        (Method::PUT, Some(_)) if parts.headers.get("if-none-match").is_some_and(|value| value == "*") => {
            StatusCode::PRECONDITION_FAILED.into_response()
        }
        (Method::PUT, _) => {
            objects.insert(path, (parts.headers, body));
            [("etag", "\"1\"")].into_response()
        }
        (_, None) => StatusCode::NOT_FOUND.into_response(),
        (method, Some((_, bytes))) => {
            let range = parts.headers.get("range").and_then(|value| value.to_str().ok()?.strip_prefix("bytes="));
            let range = range.and_then(|range| range.split_once('-'));
            let (from, to) =
                range.map_or((0, bytes.len()), |(a, b)| (a.parse().unwrap(), b.parse::<usize>().unwrap() + 1));
            let mut response = Response::builder()
                .header("etag", "\"1\"")
                .header("last-modified", "Sat, 21 Nov 2026 08:00:00 GMT")
                .header("content-length", to - from);
            if range.is_some() {
                response =
                    response.status(206).header("content-range", format!("bytes {from}-{}/{}", to - 1, bytes.len()));
            }
            let body = if method == Method::HEAD { Body::empty() } else { Body::from(bytes.slice(from..to)) };
            response.body(body).unwrap()
        }
    }
}

#[tokio::test]
async fn a_bucket_is_asked_as_s3_is() {
    let bucket = Bucket::default();
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let routes = Router::new().fallback(s3).with_state(bucket.clone());
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let source = chassis::settings::Source::of(&[
        ("RUSHES_BLOBS_URL", "s3://rushes/production"),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ENDPOINT", &endpoint),
        ("AWS_ALLOW_HTTP", "true"),
    ]);
    let store = Store::open(&Settings::read(&source).unwrap()).unwrap();
    check(&store).await;

    // A long one goes in parts, with its type; one that is not what its name says leaves none of them.
    let long: Bytes = (0..(8 << 20) + 9).map(|n: usize| (n % 253) as u8).collect();
    let name = Name::of(&long, "m4a");
    store.put_from(&name, &long[..]).await.unwrap();
    assert_eq!(store.get(&name).await.unwrap(), long);
    let other = Name::of(b"another", "m4a");
    assert!(matches!(store.put_from(&other, &long[..]).await, Err(Error::Changed(_))));
    let (headers, _) =
        bucket.lock().unwrap().remove(&format!("/rushes/production/{}/{name}", &name.to_string()[..2])).unwrap();
    assert_eq!(headers["content-type"], "audio/mp4");

    let name = Name::of(&bytes(), "mp4").to_string();
    let objects = bucket.lock().unwrap();
    let (headers, stored) = &objects[&format!("/rushes/production/{}/{name}", &name[..2])];
    assert_eq!(*stored, bytes());
    assert_eq!(headers["content-type"], "video/mp4");
    assert_eq!(headers["if-none-match"], "*");
    assert!(headers["authorization"].to_str().unwrap().starts_with("AWS4-HMAC-SHA256 Credential=id/"));
    assert_eq!(objects.len(), 1);
}
