//! What anybody may send in any number: it costs those who have a key nothing.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{StreamExt as _, future::join_all};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{net::TcpStream, task::JoinSet};
use tonic::{Code, Status, body::Body};
use uuid::Uuid;

use crate::{
    cluster::{Cluster, authorized, check, random_key},
    door::connect_from,
    probes::admin,
    upstream::DashboardMood,
};

/// A connection that is not the client's library's: it sends what it is given.
struct Connection {
    sender: hyper::client::conn::http2::SendRequest<Body>,
}

impl Connection {
    async fn open(cluster: &Cluster) -> Self {
        Self::over(TcpStream::connect(cluster.addr).await.unwrap()).await
    }

    async fn over(stream: TcpStream) -> Self {
        let io = TokioIo::new(stream);
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        Self { sender }
    }

    /// Sends a request whose body is these bytes and then nothing, for ever.
    fn send(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        bytes: &'static [u8],
    ) -> impl Future<Output = hyper::Result<Response<Incoming>>> + use<> {
        let mut request = Request::post(format!("http://gateway{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        // An empty frame is not the same as none: connections end that send too many of them.
        let begun = (!bytes.is_empty()).then(|| Ok::<_, Status>(Frame::data(Bytes::from_static(bytes))));
        let begun = futures::stream::iter(begun);
        let body = StreamBody::new(begun.chain(futures::stream::pending()));
        self.sender.send_request(request.body(Body::new(body)).unwrap())
    }
}

impl Connection {
    /// Sends a request with these bytes, and that is all of it.
    fn finish(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        bytes: &'static [u8],
    ) -> impl Future<Output = hyper::Result<Response<Incoming>>> + use<> {
        let mut request = Request::post(format!("http://gateway{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Body::new(http_body_util::Full::from(bytes));
        self.sender.send_request(request.body(body).unwrap())
    }
}

const GRPC: (&str, &str) = ("content-type", "application/grpc");

/// Opens `count` calls on connections of 550 each that send the beginning of a body and no more, and keeps them.
async fn flood(
    cluster: &Cluster,
    count: usize,
    path: &str,
    headers: &[(&str, &str)],
    bytes: &'static [u8],
) -> JoinSet<()> {
    let mut calls = JoinSet::new();
    // 550 for each connection, which takes 1,024.
    for _ in 0..count.div_ceil(550) {
        let mut connection = Connection::open(cluster).await;
        for _ in 0..550 {
            let call = connection.send(path, headers, bytes);
            calls.spawn(async move {
                let answer = call.await;
                std::future::pending::<()>().await;
                drop(answer);
            });
        }
        // Answered at once, after everything before it has arrived.
        let last = connection.send("/no.Service/Method", &[GRPC], &[]).await.unwrap();
        assert_eq!(last.status(), StatusCode::OK);
        calls.spawn(async move {
            std::future::pending::<()>().await;
            drop((last, connection));
        });
    }
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_no_key_takes_no_place_of_those_who_do() {
    let cluster = Cluster::start().await;
    let key = cluster.key(Uuid::now_v7());
    let get = "/rushes.assets.v1.AssetService/GetAsset";
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let unknown = format!("Bearer {}", random_key());
    // The calls of one key have places of their own, which its own silent calls take.
    let silent = format!("Bearer {}", cluster.key(Uuid::now_v7()));
    // More than there are places, of what waits for its message; of what is answered at once, a few.
    for (what, count, path, authorization) in [
        ("health", 1_100, "/grpc.health.v1.Health/Check", None),
        ("a key, and no message", 1_100, get, Some(silent.as_str())),
        ("a key that nobody has", 550, get, Some(unknown.as_str())),
        ("reflection", 550, reflection, None),
    ] {
        let headers = [Some(GRPC), authorization.map(|value| ("authorization", value))];
        let headers: Vec<_> = headers.into_iter().flatten().collect();
        let _flood = flood(&cluster, count, path, &headers, &[]).await;
        for _ in 0..5 {
            let answer = cluster.get_slowly(&key, "assets/a").await;
            assert!(answer.is_ok(), "beside calls with {what}: {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_answered_to_all_and_ends_for_who_asks_nothing() {
    let cluster = Cluster::start().await;
    let _flood = flood(&cluster, 1_100, "/grpc.health.v1.Health/Check", &[GRPC], &[]).await;
    let mut client = tonic_health::pb::health_client::HealthClient::new(cluster.channel_from(3).await);
    for _ in 0..20 {
        assert!(client.check(tonic_health::pb::HealthCheckRequest::default()).await.is_ok());
    }
    let began = Instant::now();
    let mut connection = Connection::over(connect_from(&cluster, 4).await).await;
    let answer = connection.send("/grpc.health.v1.Health/Check", &[GRPC], &[0]).await.unwrap();
    let status = Status::from_header_map(answer.headers()).unwrap();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_of_probes_are_refused_when_there_are_too_many() {
    let cluster = Cluster::start().await;
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let _flood = flood(&cluster, 500, reflection, &[GRPC], &[]).await;
    let answer = Connection::open(&cluster).await.send(reflection, &[GRPC], &[]).await.unwrap();
    check(&Status::from_header_map(answer.headers()).unwrap(), Code::ResourceExhausted, "OVERLOADED");
}

#[tokio::test(flavor = "multi_thread")]
async fn invented_keys_take_no_place_of_known_ones() {
    let cluster = Cluster::start_with(|config| config.key_lifetime = Duration::from_millis(1)).await;
    let known = cluster.key(Uuid::now_v7());
    assert!(cluster.get_slowly(&known, "assets/a").await.is_ok());
    *cluster.upstream.dashboard.lock().unwrap() = DashboardMood::HangsOnUnknown;
    let mut invented = JoinSet::new();
    let assets = cluster.assets().await;
    for _ in 0..200 {
        let (mut assets, key) = (assets.clone(), random_key());
        let request = authorized(proto::assets::v1::GetAssetRequest::default(), &key);
        invented.spawn(async move { assets.get_asset(request).await.unwrap_err() });
    }
    // The first that is refused comes after all places of new keys are taken.
    let refused = invented.join_next().await.unwrap().unwrap();
    check(&refused, Code::ResourceExhausted, "OVERLOADED");
    for _ in 0..20 {
        let answer = cluster.get_slowly(&known, "assets/a").await;
        assert!(answer.is_ok(), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_key_is_accepted_while_dashboard_has_too_much_to_do() {
    let cluster = Cluster::start_with(|config| config.key_lifetime = Duration::from_millis(1)).await;
    let (known, other) = (cluster.key(Uuid::now_v7()), cluster.key(Uuid::now_v7()));
    assert!(cluster.get_slowly(&known, "assets/a").await.is_ok());
    *cluster.upstream.dashboard.lock().unwrap() = DashboardMood::Full;
    assert_eq!(cluster.get(&other, "assets/a").await.unwrap_err().code(), Code::ResourceExhausted);
    let answers = join_all((0..100).map(|_| cluster.get_slowly(&known, "assets/a"))).await;
    assert!(answers.iter().all(Result::is_ok), "{:?}", answers.iter().find(|answer| answer.is_err()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deadline_of_one_caller_is_not_that_of_all_who_wait_for_a_key() {
    let cluster = Cluster::start().await;
    let key = cluster.key(Uuid::now_v7());
    *cluster.upstream.dashboard.lock().unwrap() = DashboardMood::Slow(3_000);
    let mut hasty = authorized(proto::assets::v1::GetAssetRequest::default(), &key);
    // Long enough to begin the lookup on a busy machine, and shorter than it.
    hasty.set_timeout(Duration::from_millis(1_500));
    let mut assets = cluster.assets().await;
    let hasty = tokio::spawn(async move { assets.get_asset(hasty).await });
    testkit::eventually("the hasty call began the lookup", Duration::from_secs(5), async || {
        (cluster.authentications() == 1).then_some(())
    })
    .await
    .unwrap();
    let waiting = cluster.get_slowly(&key, "assets/a").await;
    assert!(waiting.is_ok(), "{waiting:?}");
    assert!(hasty.await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_that_stop_half_way_hold_little_and_not_for_long() {
    // What an address may cost would already let less of them in.
    let cluster = Cluster::start_with(|config| config.door.frame_rate = 1_000_000).await;
    static HALF: [u8; 1_048_000] = [b'x'; 1_048_000];
    let mut connection = Connection::open(&cluster).await;
    let (large, json) = ("1048576", ("content-type", "application/json"));
    let mut calls = JoinSet::new();
    for _ in 0..8 {
        // Several connections, since one does not let so many bytes wait.
        let mut other = Connection::open(&cluster).await;
        for _ in 0..5 {
            let call = other.send("/hooks/known/job", &[json, ("content-length", large)], &HALF);
            calls.spawn(async move { call.await.map(|response| response.status()) });
        }
    }
    let mut provider = Connection::over(connect_from(&cluster, 2).await).await;
    let whole = provider.finish("/hooks/known/job", &[json], b"{}").await.unwrap();
    assert_eq!(whole.status(), StatusCode::NO_CONTENT, "a provider's own comes through");
    // Some are refused as soon as there is no room for them, and the others when their time is over.
    let mut statuses = Vec::new();
    let began = Instant::now();
    while let Some(status) = calls.join_next().await {
        statuses.push(status.unwrap().unwrap());
    }
    let refused = statuses.iter().filter(|status| **status == StatusCode::SERVICE_UNAVAILABLE).count();
    let late = statuses.iter().filter(|status| **status == StatusCode::REQUEST_TIMEOUT).count();
    assert_eq!(refused + late, 40, "{statuses:?}");
    assert!(late <= 24, "{late} were held at a time, of a MiB each");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let too_large = connection.send("/hooks/known/job", &[json, ("content-length", "3145729")], &[]).await.unwrap();
    assert_eq!(too_large.status(), StatusCode::PAYLOAD_TOO_LARGE, "by what it announces");
}

#[tokio::test]
async fn nothing_from_outside_names_a_series() {
    let cluster = Cluster::start().await;
    let mark = format!("Mark{}", Uuid::now_v7().simple());
    let mut connection = Connection::open(&cluster).await;
    let service = proto::METHODS[0].path.rsplit_once('/').unwrap().0;
    let grpc_web = ("content-type", "application/grpc-web+proto");
    for path in [
        format!("/x.{mark}/1"),
        format!("{service}/{mark}"),
        format!("/grpc.{mark}/Check"),
        format!("/grpc.health.v1.Health/{mark}"),
        format!("/assets/{mark}"),
        format!("/hooks/{mark}/{mark}"),
        format!("/{mark}"),
    ] {
        for kind in [GRPC, grpc_web, ("content-type", mark.as_str())] {
            for stale in ["x", mark.as_str(), "1"] {
                let headers = [
                    kind,
                    ("rushes-max-stale", stale),
                    ("rushes-session", &mark),
                    ("user-agent", &mark),
                    ("content-length", "0"),
                ];
                let _ = connection.send(&path, &headers, &[]).await;
            }
        }
    }
    let page = admin(&cluster, "/metrics").await;
    assert!(page.contains("method=\"_OTHER\""), "paths that are no method have one series");
    let named: Vec<_> = page.lines().filter(|line| line.contains(&mark)).collect();
    assert_eq!(named, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_for_webhooks_cost_their_address_over_http2_as_over_http1() {
    /// Half a MiB are 512 units and one for each frame, where the burst is of 800.
    static BODY: [u8; 512 << 10] = [b'x'; 512 << 10];
    for (path, status) in [
        ("/hooks/forged/job-7", StatusCode::UNAUTHORIZED),
        ("/hooks/known/job-7", StatusCode::NO_CONTENT),
        // Refused before a byte of it is read.
        ("/hooks/known", StatusCode::NOT_FOUND),
    ] {
        let cluster = Cluster::start_with(|config| config.door.frame_rate = 400).await;
        let begun = Instant::now();
        for at in 0..3 {
            // On whatever connection they come.
            let mut connection = Connection::open(&cluster).await;
            let answer = connection.finish(path, &[], &BODY).await.unwrap();
            // A body of a slow machine may have no time left after what it waits.
            assert!(at > 0 || answer.status() == status, "{path}: {answer:?}");
        }
        assert!(begun.elapsed() > Duration::from_millis(500), "{path}: {:?}", begun.elapsed());
        // Somebody else's costs them nothing yet, and is answered before the address's own next one.
        let mut own = Connection::open(&cluster).await;
        let mut other = Connection::over(connect_from(&cluster, 7).await).await;
        let own = tokio::spawn(own.finish(path, &[], &BODY));
        other.finish(path, &[], b"{}").await.unwrap();
        assert!(!own.is_finished(), "{path}");
    }
}
