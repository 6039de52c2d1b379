//! Watches through the gateway: how many there may be, how they pass a buffering proxy, and how they end with the gateway.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use proto::assets::v1::{GetAssetRequest, asset_service_client::AssetServiceClient};
use proto::generations::v1::watch_generations_response::Event;
use proto::generations::v1::{
    WatchGenerationsRequest, WatchGenerationsResponse, generation_service_client::GenerationServiceClient,
};
use sha2::{Digest as _, Sha256};
use testkit::Nats;
use tokio::net::TcpStream;
use tonic::codec::CompressionEncoding::Gzip;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::cluster::{Cluster, authorized, check};

/// How many watches one connection has at most.
const PER_CONNECTION: usize = 256;

async fn watch(channel: &Channel, key: &str) -> Result<Streaming<WatchGenerationsResponse>, Status> {
    let mut client = GenerationServiceClient::new(channel.clone()).accept_compressed(Gzip);
    Ok(client.watch_generations(authorized(WatchGenerationsRequest::default(), key)).await?.into_inner())
}

/// What has only so many watches, by the refusal of one more.
fn limit(refusal: &Status) -> String {
    check(refusal, Code::ResourceExhausted, "TOO_MANY_WATCHES");
    let details = refusal.get_error_details();
    assert!(details.retry_info().is_some(), "{refusal:?}");
    details.error_info().unwrap().metadata["limit"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_are_refused_before_they_keep_calls_from_a_connection() {
    let cluster = Cluster::start().await;
    let (key, other) = (cluster.key(Uuid::now_v7()), cluster.key(Uuid::now_v7()));
    let (one, two) = (cluster.channel().await, cluster.channel().await);
    let mut open = Vec::new();
    for _ in 0..PER_CONNECTION {
        open.push(watch(&one, &key).await.unwrap());
    }
    assert_eq!(limit(&watch(&one, &key).await.unwrap_err()), "connection");
    assert_eq!(limit(&watch(&one, &other).await.unwrap_err()), "connection", "whoever asks");
    let get = authorized(GetAssetRequest { name: "assets/a".into() }, &key);
    assert!(AssetServiceClient::new(one.clone()).get_asset(get).await.is_ok(), "a call finds a stream");
    for _ in PER_CONNECTION..400 {
        open.push(watch(&two, &key).await.unwrap());
    }
    assert_eq!(limit(&watch(&two, &key).await.unwrap_err()), "account");
    assert!(watch(&two, &other).await.is_ok(), "another account has its own");
    open.clear();
    let again = testkit::eventually("their places are free again", Duration::from_secs(5), async || {
        watch(&one, &key).await.ok()
    });
    again.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_one_account_a_few_watches_are_opened_at_a_time_and_others_do_not_wait_for_them() {
    let cluster = Cluster::start().await;
    let (key, other) = (cluster.key(Uuid::now_v7()), cluster.key(Uuid::now_v7()));
    let channel = cluster.channel().await;
    let mut slow = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let (mut client, key) = (GenerationServiceClient::new(channel.clone()), key.clone());
        let request = WatchGenerationsRequest { resume_token: "slow".into(), ..WatchGenerationsRequest::default() };
        slow.spawn(async move { client.watch_generations(authorized(request, &key)).await.map(drop) });
    }
    let opening = || cluster.upstream.opening.load(Ordering::SeqCst);
    let some =
        testkit::eventually("some are being opened", Duration::from_secs(10), async || (opening() > 0).then_some(()));
    some.await.unwrap();
    let get = || authorized(GetAssetRequest { name: "assets/a".into() }, &key);
    for _ in 0..20 {
        // Each is a way through the same connection and gateway, behind all watches.
        assert!(AssetServiceClient::new(channel.clone()).get_asset(get()).await.is_ok(), "the account's calls go on");
        assert!(watch(&channel, &other).await.is_ok(), "another account's watches do not wait");
        assert!(opening() <= 8, "{} at a time", opening());
    }
    cluster.upstream.answer.cancel();
    while let Some(opened) = slow.join_next().await {
        opened.unwrap().unwrap();
    }
    assert_eq!(opening(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_watch_that_nobody_reads_little_is_kept() {
    let cluster = Cluster::start().await;
    let key = cluster.key(Uuid::now_v7());
    let mut client = GenerationServiceClient::new(cluster.channel_with_window(16 << 10).await);
    let request = WatchGenerationsRequest { resume_token: "endless".into(), ..WatchGenerationsRequest::default() };
    let watch = client.watch_generations(authorized(request, &key)).await.unwrap();
    let taken = || cluster.upstream.taken.load(Ordering::SeqCst);
    let mut before = 0;
    let all = testkit::eventually("no more is taken", Duration::from_secs(10), async || {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = taken();
        (now > 0 && now == std::mem::replace(&mut before, now)).then_some(now)
    });
    let kilobytes = all.await.unwrap();
    drop(watch);
    // The window of this client, that of the gateway, and what a server sends ahead.
    assert!(kilobytes < 160, "{kilobytes} KB");
}

/// The rest of a watch: its events' tokens, the last of which must be `moved`.
async fn ending(events: &mut Streaming<WatchGenerationsResponse>) -> Vec<String> {
    let (mut tokens, mut moved) = (Vec::new(), false);
    let within = Duration::from_secs(8);
    while let Some(event) =
        tokio::time::timeout(within, events.message()).await.expect("it ends").expect("without an error")
    {
        assert!(!moved, "something follows: {event:?}");
        moved = matches!(event.event, Some(Event::Moved(_)));
        tokens.push(event.resume_token);
    }
    assert!(moved, "it ends with moved: {tokens:?}");
    tokens
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_gateway_ends_a_watch_with_the_token_of_its_last_event() {
    let cluster = Cluster::start().await;
    let key = cluster.key(Uuid::now_v7());
    let channel = cluster.channel().await;
    let mut events = watch(&channel, &key).await.unwrap();
    assert_eq!(events.message().await.unwrap().unwrap().resume_token, "first");
    let began = Instant::now();
    cluster.gateway.begin();
    tokio::time::sleep(Duration::from_millis(100)).await;
    cluster.upstream.next.notify_one();
    assert_eq!(ending(&mut events).await, ["second", "second"]);
    // A watch of which nothing comes is ended after half of the grace.
    assert!(began.elapsed() < Duration::from_millis(1_900), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_gateway_ends_a_watch_of_which_nothing_comes_within_its_grace() {
    let cluster = Cluster::start().await;
    let key = cluster.key(Uuid::now_v7());
    let channel = cluster.channel().await;
    let (mut read, mut unread) = (watch(&channel, &key).await.unwrap(), watch(&channel, &key).await.unwrap());
    assert_eq!(read.message().await.unwrap().unwrap().resume_token, "first");
    let began = Instant::now();
    cluster.gateway.begin();
    assert_eq!(ending(&mut read).await, [""]);
    assert_eq!(ending(&mut unread).await.pop().unwrap(), "");
    let took = began.elapsed();
    assert!((Duration::from_millis(1_900)..Duration::from_millis(3_900)).contains(&took), "{took:?} of 4 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http_1_events_come_at_once_also_behind_a_proxy_that_buffers_and_end_with_moved() {
    let cluster = Cluster::start().await;
    let stream = TcpStream::connect(cluster.addr).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::post("/rushes.generations.v1.GenerationService/WatchGenerations")
        .header("host", "gateway")
        .header("content-type", "application/grpc-web+proto")
        .header("authorization", format!("Bearer {}", cluster.key(Uuid::now_v7())))
        .body(Full::new(Bytes::from_static(&[0; 5])))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    let mut body = response.into_body();
    let mut next = async || {
        // What is held back comes with the end of the watch, which is not asked for before the first event is there.
        let frame = tokio::time::timeout(Duration::from_secs(10), body.frame()).await.expect("it comes at once");
        frame.map(|frame| frame.unwrap().into_data().unwrap())
    };
    let token = |event: &[u8]| WatchGenerationsResponse::decode(event).unwrap().resume_token;
    let first = next().await.unwrap();
    assert_eq!(token(&first[5..]), "first");
    cluster.gateway.begin();
    tokio::time::sleep(Duration::from_millis(100)).await;
    cluster.upstream.next.notify_one();
    let mut rest = Vec::new();
    while let Some(data) = next().await {
        rest.extend_from_slice(&data);
    }
    let text = String::from_utf8_lossy(&rest);
    assert!(text.matches("second").count() == 2 && text.contains("grpc-status:0"), "{text}");
}

/// A watch used to go on for as long as it is let live, twelve minutes, with a key that was revoked.
#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_when_its_key_is_revoked_whether_or_not_a_message_says_so() {
    let nats = Nats::launch().await.unwrap();
    // Dashboard tells the cache when it revokes a key.
    let client = chassis::nats::connect(&nats.url()).await.unwrap();
    let settings = cache::Settings { relay: false, ..cache::Settings::default() };
    let dashboard = cache::Cache::start(settings, None, Some(client)).unwrap();
    for heard in [true, false] {
        let cluster = Cluster::start_with(|config| {
            // Without a message the key is asked about again after this time.
            config.key_lifetime = if heard { Duration::from_secs(600) } else { Duration::from_secs(1) };
            config.nats_url = heard.then(|| nats.url());
        })
        .await;
        let (key, other) = (cluster.key(Uuid::now_v7()), cluster.key(Uuid::now_v7()));
        let mut events = watch(&cluster.channel().await, &key).await.unwrap();
        let mut others = watch(&cluster.channel().await, &other).await.unwrap();
        events.message().await.unwrap().unwrap();
        others.message().await.unwrap().unwrap();
        let hash = Sha256::digest(&key).to_vec();
        let name = cache::Key::global("key", hex::encode(&hash));
        let revoke_time = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
        cluster.upstream.keys.lock().unwrap().get_mut(&hash).unwrap().revoke_time = revoke_time;
        let revoked = Instant::now();
        let ended = async {
            loop {
                if heard {
                    // Repeated, because the gateway may not be subscribed yet.
                    dashboard.wrote(&name, 2).await;
                }
                match tokio::time::timeout(Duration::from_millis(200), events.message()).await {
                    Ok(Ok(Some(_))) | Err(_) => {}
                    Ok(Ok(None)) => panic!("it ended as if nothing were wrong"),
                    Ok(Err(status)) => return status,
                }
            }
        };
        let status = tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the watch ends");
        check(&status, Code::Unauthenticated, "KEY_REVOKED");
        println!("ended after {:?}, heard of it: {heard}", revoked.elapsed());
        let going = tokio::time::timeout(Duration::from_millis(500), others.message()).await;
        assert!(!matches!(going, Ok(Err(_) | Ok(None))), "another's watch goes on: {going:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_when_its_account_is_suspended_or_its_key_bound_elsewhere() {
    let cluster = Cluster::start().await;
    for reason in ["ACCOUNT_SUSPENDED", "KEY_ADDRESS_REFUSED"] {
        let (key, other) = (cluster.key(Uuid::now_v7()), cluster.key(Uuid::now_v7()));
        let mut events = watch(&cluster.channel().await, &key).await.unwrap();
        let mut others = watch(&cluster.channel().await, &other).await.unwrap();
        events.message().await.unwrap().unwrap();
        others.message().await.unwrap().unwrap();
        if let Some(stored) = cluster.upstream.keys.lock().unwrap().get_mut(Sha256::digest(&key).as_slice()) {
            match reason {
                "ACCOUNT_SUSPENDED" => {
                    stored.account_suspend_time = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
                }
                _ => stored.allowed_networks = vec!["10.0.0.0/8".to_owned()],
            }
        }
        let changed = Instant::now();
        let ended = tokio::time::timeout(Duration::from_secs(10), events.message()).await.expect("the watch ends");
        check(&ended.unwrap_err(), Code::PermissionDenied, reason);
        let took = changed.elapsed();
        assert!(took < Duration::from_secs(4), "an answer is acted on for 1 s, and looked at each 0.4 s: {took:?}");
        let going = tokio::time::timeout(Duration::from_millis(500), others.message()).await;
        assert!(!matches!(going, Ok(Err(_) | Ok(None))), "another's watch goes on: {going:?}");
    }
}
