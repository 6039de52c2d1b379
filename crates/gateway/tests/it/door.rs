//! The public port before anybody has shown a key: what connections and addresses may take, and that others feel nothing of it.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use proto::generations::v1::watch_generations_response::Event;
use proto::generations::v1::{WatchGenerationsRequest, generation_service_client::GenerationServiceClient};
use testkit::eventually;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::{
    assets::send,
    cluster::{Cluster, authorized, check, random_key},
    probes::admin,
    upstream::DashboardMood,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const GET_ASSET: &str = "/rushes.assets.v1.AssetService/GetAsset";
/// Longer than any limit of a test here, for what ought to end by one.
const SOON: Duration = Duration::from_secs(20);

/// A connection from `127.0.0.{last}`.
pub(crate) async fn connect_from(cluster: &Cluster, last: u8) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into()).unwrap();
    socket.connect(cluster.addr).await.unwrap()
}

/// Whether the other side ends a connection soon.
async fn ends(mut stream: TcpStream) -> bool {
    let mut bytes = Vec::new();
    // An end with bytes unread is a reset, and an end as well.
    timeout(SOON, stream.read_to_end(&mut bytes)).await.is_ok()
}

async fn http2(stream: TcpStream) -> SendRequest<Empty<Bytes>> {
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// The status of a call without a message, with these headers besides.
async fn call(sender: &mut SendRequest<Empty<Bytes>>, path: &str, headers: &[(&str, &str)]) -> Status {
    let mut request = Request::post(format!("http://gateway{path}")).header("content-type", "application/grpc");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(Empty::new()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let trailers = body.collect().await.unwrap().trailers().cloned().unwrap_or(parts.headers);
    Status::from_header_map(&trailers).unwrap()
}

/// The value of a series of the process, 0 if there is none yet.
async fn counted(cluster: &Cluster, series: &str) -> f64 {
    let page = admin(cluster, "/metrics").await;
    let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_does_not_say_what_it_wants_ends() {
    let cluster = Cluster::start_with(|config| config.door.handshake_timeout = Duration::from_millis(500)).await;
    let series = "rushes_public_connections_closed_total{reason=\"handshake\"}";
    let before = counted(&cluster, series).await;
    for begin in
        [&b""[..], b"P", &PREFACE[..23], PREFACE, b"GET / HT", b"GET /assets/a HTTP/1.1\r\nhost: gateway\r\nx-a: "]
    {
        let mut stream = TcpStream::connect(cluster.addr).await.unwrap();
        stream.write_all(begin).await.unwrap();
        assert!(ends(stream).await, "after {:?}", String::from_utf8_lossy(begin));
    }
    assert!(counted(&cluster, series).await >= before + 3.0);

    // One byte now and then makes it no better.
    let mut slow = TcpStream::connect(cluster.addr).await.unwrap();
    let began = Instant::now();
    for byte in PREFACE.iter().cycle() {
        if slow.write_all(&[*byte]).await.is_err() || began.elapsed() > SOON {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());

    // A client that is slow to ask has said what it wants.
    let mut client = http2(TcpStream::connect(cluster.addr).await.unwrap()).await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    check(&call(&mut client, GET_ASSET, &[]).await, Code::Unauthenticated, "KEY_MISSING");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_requests_ends_and_one_with_a_watch_does_not() {
    let cluster = Cluster::start_with(|config| {
        config.door.handshake_timeout = Duration::from_millis(100);
        config.door.idle_timeout = Duration::from_millis(600);
    })
    .await;
    let key = cluster.key(Uuid::now_v7());
    let mut watching = GenerationServiceClient::new(cluster.channel().await);
    let request = authorized(WatchGenerationsRequest::default(), &key);
    let mut watch = watching.watch_generations(request).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());

    let mut stream = TcpStream::connect(cluster.addr).await.unwrap();
    stream.write_all(&[PREFACE, SETTINGS].concat()).await.unwrap();
    assert!(ends(stream).await);
    let mut asked = http2(TcpStream::connect(cluster.addr).await.unwrap()).await;
    call(&mut asked, GET_ASSET, &[]).await;
    let ended = eventually("it ends", SOON, async || asked.is_closed().then_some(())).await;
    assert!(ended.is_ok());

    cluster.upstream.next.notify_one();
    assert!(watch.message().await.unwrap().is_some(), "the watch goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_does_not_take_the_connections_of_others() {
    let cluster = Cluster::start_with(|config| {
        config.door.max_connections = 8;
        config.door.max_connections_per_address = 5;
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut connection = http2(connect_from(&cluster, 7).await).await;
        call(&mut connection, GET_ASSET, &[]).await;
        held.push(connection);
    }
    for _ in 0..20 {
        assert!(ends(connect_from(&cluster, 7).await).await, "one more of the same address");
    }
    let refused = "rushes_public_refused_total{kind=\"connection\",limit=\"address\"}";
    assert!(counted(&cluster, refused).await >= 20.0);
    for last in 8..11 {
        let mut connection = http2(connect_from(&cluster, last).await).await;
        check(&call(&mut connection, GET_ASSET, &[]).await, Code::Unauthenticated, "KEY_MISSING");
        held.push(connection);
    }
    assert!(ends(connect_from(&cluster, 11).await).await, "one more than there are in all");
    held.clear();
    let again = eventually("there is room again", SOON, async || {
        let io = TokioIo::new(connect_from(&cluster, 7).await);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), io).await.ok()?;
        tokio::spawn(connection);
        let request = Request::get("http://gateway/").body(Empty::new()).unwrap();
        sender.send_request(request).await.ok()
    });
    assert_eq!(again.await.unwrap().status(), StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_connection_ends_after_its_calls_and_moves_its_watches() {
    let cluster = Cluster::start_with(|config| config.door.max_age = Duration::from_secs(1)).await;
    let key = cluster.key(Uuid::now_v7());
    let client = GenerationServiceClient::new(cluster.channel().await);
    // More than once, since the first connection may be old before a busy machine has opened a watch on it.
    for what in ["a watch ends with `moved`", "its client connects anew, and so does the next"] {
        let moved = eventually(what, Duration::from_secs(30), async || {
            let request = authorized(WatchGenerationsRequest::default(), &key);
            let mut watch = client.clone().watch_generations(request).await.ok()?.into_inner();
            let mut moved = false;
            while let Some(event) = tokio::time::timeout(SOON, watch.message()).await.ok()?.ok()? {
                moved |= matches!(event.event, Some(Event::Moved(_)));
            }
            moved.then_some(())
        });
        moved.await.unwrap();
    }
    let aged = "rushes_public_connections_closed_total{reason=\"age\"}";
    let counted = eventually("it is counted", SOON, async || (counted(&cluster, aged).await >= 1.0).then_some(()));
    counted.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_proxy_the_address_is_what_the_proxy_says() {
    let cluster = Cluster::start_with(|config| {
        config.door.trusted_hops = 1;
        config.door.max_requests_per_address = 2;
        config.door.max_connections_per_address = 1;
    })
    .await;
    let key = format!("Bearer {}", cluster.key(Uuid::now_v7()));
    let authorization = ("authorization", key.as_str());
    let path = "/rushes.generations.v1.GenerationService/WatchGenerations";
    let mut held = Vec::new();
    // The proxy's connections are not counted as one client's.
    for _ in 0..2 {
        let io = TokioIo::new(TcpStream::connect(cluster.addr).await.unwrap());
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        let message = Bytes::from([&[0, 0, 0, 0, 0][..], &WatchGenerationsRequest::default().encode_to_vec()].concat());
        let request = Request::post(format!("http://gateway{path}"))
            .header("content-type", "application/grpc")
            .header("authorization", &key)
            .header("x-forwarded-for", "192.0.2.7");
        let body = http_body_util::Full::new(message);
        held.push((sender.send_request(request.body(body).unwrap()).await.unwrap(), sender));
    }
    let mut client = http2(TcpStream::connect(cluster.addr).await.unwrap()).await;
    for one in ["192.0.2.7", "203.0.113.9, 192.0.2.7", "192.0.2.9,192.0.2.7"] {
        let status = call(&mut client, GET_ASSET, &[authorization, ("x-forwarded-for", one)]).await;
        check(&status, Code::ResourceExhausted, "OVERLOADED");
    }
    for other in ["192.0.2.8", "192.0.2.7, 192.0.2.8", ""] {
        let status = call(&mut client, GET_ASSET, &[("x-forwarded-for", other)]).await;
        check(&status, Code::Unauthenticated, "KEY_MISSING");
    }
    drop(held);
    let free = eventually("its places are free again", SOON, async || {
        let status = call(&mut client, GET_ASSET, &[("x-forwarded-for", "192.0.2.7")]).await;
        (status.code() == Code::Unauthenticated).then_some(())
    });
    free.await.unwrap();
}

/// A connection whose streams take no more than a byte, and a request for `path` on it.
async fn reluctant(
    cluster: &Cluster,
    last: u8,
    path: &str,
) -> (http::Response<hyper::body::Incoming>, SendRequest<Empty<Bytes>>) {
    let io = TokioIo::new(connect_from(cluster, last).await);
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new()).initial_stream_window_size(1).clone();
    let (mut sender, connection) = builder.handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(format!("http://gateway{path}")).body(Empty::new()).unwrap();
    (sender.send_request(request).await.unwrap(), sender)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_an_asset_is_cut_off_and_takes_no_place_of_others() {
    let cluster = Cluster::start_with(|config| {
        config.door.write_timeout = Duration::from_secs(1);
        (config.max_asset_answers, config.max_asset_answers_per_address) = (4, 2);
    })
    .await;
    let large = cluster.store.put(Bytes::from(vec![7; 20 << 20]), "mp4").await.unwrap();
    // Smaller than what is buffered for a stream.
    let small = cluster.store.put(Bytes::from(vec![7; 5_000]), "png").await.unwrap();
    let (large, small) = (format!("/assets/{large}"), format!("/assets/{small}"));
    for path in [&large, &small] {
        let held = [reluctant(&cluster, 7, path).await, reluctant(&cluster, 7, path).await];
        let began = Instant::now();
        let ask = || Request::get(small.as_str()).body(Bytes::new()).unwrap();
        assert_eq!(send(&cluster, ask()).await.status(), StatusCode::OK, "another address has places");
        assert!(began.elapsed() < Duration::from_secs(4), "and at once: {:?}", began.elapsed());
        // The same address waits until those are cut off that nobody reads.
        let (third, _connection) = reluctant(&cluster, 7, path).await;
        assert_eq!(third.status(), StatusCode::OK);
        for (response, _connection) in held {
            assert!(timeout(SOON, response.into_body().collect()).await.unwrap().is_err(), "{path} was cut off");
        }
    }
    // Over HTTP/1 a client that reads nothing is seen by its connection.
    let stalled = "rushes_public_connections_closed_total{reason=\"stalled\"}";
    let before = counted(&cluster, stalled).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = connect_from(&cluster, 9).await;
        stream.write_all(format!("GET {large} HTTP/1.1\r\nhost: gateway\r\n\r\n").as_bytes()).await.unwrap();
        held.push(stream);
    }
    let (third, _connection) = reluctant(&cluster, 9, &small).await;
    assert_eq!(third.status(), StatusCode::OK, "the place of one is free");
    // What is read now of one that was not cut off yet would be all of it.
    let both = async || (counted(&cluster, stalled).await >= before + 2.0).then_some(());
    testkit::eventually("both are cut off", SOON, both).await.unwrap();
    for mut stream in held {
        let mut sum = 0;
        let mut buffer = vec![0; 1 << 20];
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            sum += read;
        }
        assert!(sum < 20 << 20, "{sum} bytes came");
    }
    assert!(counted(&cluster, "rushes_gateway_assets_cut_off_total").await >= 4.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_an_asset_slowly_but_reads_gets_all_of_it() {
    let cluster = Cluster::start_with(|config| config.door.write_timeout = Duration::from_secs(1)).await;
    let name = cluster.store.put(Bytes::from(vec![7; 400_000]), "mp4").await.unwrap();
    let (response, _connection) = {
        let io = TokioIo::new(TcpStream::connect(cluster.addr).await.unwrap());
        let builder =
            hyper::client::conn::http2::Builder::new(TokioExecutor::new()).initial_stream_window_size(65_535).clone();
        let (mut sender, connection) = builder.handshake(io).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get(format!("http://gateway/assets/{name}")).body(Empty::<Bytes>::new()).unwrap();
        (sender.send_request(request).await.unwrap(), sender)
    };
    let (mut body, mut sum) = (response.into_body(), 0);
    while let Some(frame) = body.frame().await {
        sum += frame.unwrap().into_data().map_or(0, |data| data.len());
        tokio::time::sleep(Duration::from_millis(80)).await;
    }
    assert_eq!(sum, 400_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_is_not_there_unless_it_is_asked_for() {
    let cluster = Cluster::start_with(|config| config.door.reflection = false).await;
    let mut client = http2(TcpStream::connect(cluster.addr).await.unwrap()).await;
    for version in ["v1", "v1alpha"] {
        let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
        check(&call(&mut client, &path, &[]).await, Code::Unimplemented, "METHOD_UNKNOWN");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invented_keys_of_one_address_leave_places_to_new_ones_of_others() {
    let cluster = Cluster::start().await;
    *cluster.upstream.dashboard.lock().unwrap() = DashboardMood::HangsOnUnknown;
    let mut attacker = http2(connect_from(&cluster, 7).await).await;
    let mut flood = Vec::new();
    for _ in 0..200 {
        let request = Request::post(format!("http://gateway{GET_ASSET}"))
            .header("content-type", "application/grpc")
            .header("authorization", format!("Bearer {}", random_key()));
        flood.push(tokio::spawn(attacker.send_request(request.body(Empty::new()).unwrap())));
    }
    let new = cluster.key(Uuid::now_v7());
    let answer = cluster.get_slowly(&new, "assets/a").await;
    assert!(answer.is_ok(), "{answer:?}");
    assert!(cluster.authentications() <= 17, "{} were asked about", cluster.authentications());
    flood.iter().for_each(tokio::task::JoinHandle::abort);
}
