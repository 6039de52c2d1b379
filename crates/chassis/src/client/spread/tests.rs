//! Calls through a name whose addresses come and go. The servers are bare HTTP/2 on addresses of loopback.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use axum::Router;
use http::Request;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tower::ServiceExt as _;

use super::*;

const EVERY: Duration = Duration::from_millis(200);

/// One of several servers on a port.
struct Replica {
    address: SocketAddr,
    calls: Arc<AtomicUsize>,
    end: CancellationToken,
    task: JoinHandle<()>,
}

impl Replica {
    async fn begin(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (calls, end) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let counted = calls.clone();
        let app = Router::new().fallback(move |uri: http::Uri| {
            counted.fetch_add(1, Ordering::Relaxed);
            async move {
                if uri.path() == "/test.Test/Watch" {
                    std::future::pending::<()>().await;
                }
                [("grpc-status", "0"), ("content-type", "application/grpc")]
            }
        });
        let serve = axum::serve(listener, app).with_graceful_shutdown(end.clone().cancelled_owned());
        let task = tokio::spawn(async move { serve.await.unwrap() });
        Self { address, calls, end, task }
    }

    fn take_calls(&self) -> usize {
        self.calls.swap(0, Ordering::Relaxed)
    }

    /// Says goodbye on every connection and waits for what is under way.
    async fn drain(self) {
        self.end.cancel();
        self.task.await.unwrap();
    }
}

/// `127.0.0.{last}`, on the port of the first.
fn beside(first: &Replica, last: u8) -> SocketAddr {
    (IpAddr::from(Ipv4Addr::new(127, 0, 0, last)), first.address.port()).into()
}

/// The addresses of a name, which a test changes.
#[derive(Clone, Default)]
struct Name(Arc<Mutex<Vec<SocketAddr>>>);

impl Name {
    fn set(&self, replicas: &[&Replica]) {
        *self.0.lock().unwrap() = replicas.iter().map(|replica| replica.address).collect();
    }

    fn channel(&self) -> crate::client::Channel {
        let addresses = self.0.clone();
        let resolve: Resolve = Arc::new(move || {
            let found = addresses.lock().unwrap().clone();
            Box::pin(async move { Ok(found) })
        });
        let uri = "http://replicas.test:1".parse().unwrap();
        let mut channel = crate::client::connect_by(
            "replicas",
            &uri,
            crate::client::STREAM_WINDOW,
            &by_system("replicas.test", 1),
            None,
        );
        channel.spread = Some(Spread::begin_at_pace("replicas", crate::client::STREAM_WINDOW, 4, resolve, EVERY));
        channel
    }
}

async fn call(channel: &crate::client::Channel) -> bool {
    let request = Request::post("/test.Test/Get").body(Body::empty()).unwrap();
    channel.clone().oneshot(request).await.unwrap().headers()["grpc-status"] == "0"
}

async fn until(what: &str, mut question: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !question().await {
        assert!(began.elapsed() < Duration::from_secs(20), "{what} never comes");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether of many calls each replica gets the same number, give or take a tenth.
async fn are_even(channel: &crate::client::Channel, replicas: &[&Replica]) -> bool {
    for replica in replicas {
        replica.take_calls();
    }
    for _ in 0..400 {
        assert!(call(channel).await);
    }
    let mean = 400 / replicas.len();
    replicas.iter().all(|replica| replica.take_calls().abs_diff(mean) * 10 <= mean)
}

/// Two replicas behind a name that goes on naming both, and a channel that has found them.
async fn two() -> (Replica, Replica, crate::client::Channel) {
    let first = Replica::begin((Ipv4Addr::LOCALHOST, 0).into()).await;
    let second = Replica::begin(beside(&first, 2)).await;
    let name = Name::default();
    name.set(&[&first, &second]);
    let channel = name.channel();
    until("the first address", async || call(&channel).await).await;
    until("an even share of two", async || are_even(&channel, &[&first, &second]).await).await;
    (first, second, channel)
}

#[tokio::test]
async fn each_address_gets_its_share_also_a_new_one_and_none_when_it_is_gone() {
    let first = Replica::begin((Ipv4Addr::LOCALHOST, 0).into()).await;
    let second = Replica::begin(beside(&first, 2)).await;
    let third = Replica::begin(beside(&first, 3)).await;
    let name = Name::default();
    name.set(&[&first, &second, &third]);
    let channel = name.channel();
    until("the first address", async || call(&channel).await).await;
    until("an even share of three", async || are_even(&channel, &[&first, &second, &third]).await).await;

    let fourth = Replica::begin(beside(&first, 4)).await;
    name.set(&[&first, &second, &third, &fourth]);
    until("an even share of four", async || are_even(&channel, &[&first, &second, &third, &fourth]).await).await;

    name.set(&[&second, &third, &fourth]);
    until("an even share without the first", async || are_even(&channel, &[&second, &third, &fourth]).await).await;
    first.take_calls();
    assert!(are_even(&channel, &[&second, &third, &fourth]).await);
    assert_eq!(first.take_calls(), 0);
}

#[tokio::test]
async fn no_call_fails_while_one_address_after_the_other_is_renewed() {
    // The name is late: it has the addresses of those that are gone all the time.
    let (first, second, channel) = two().await;

    let (end, failed) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (channel, end, failed) = (channel.clone(), end.clone(), failed.clone());
            tokio::spawn(async move {
                while !end.is_cancelled() {
                    if !call(&channel).await {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    let mut replicas = vec![first, second];
    for _ in 0..4 {
        let old = replicas.remove(0);
        let address = old.address;
        old.drain().await;
        tokio::time::sleep(EVERY).await;
        replicas.push(Replica::begin(address).await);
        let new = &replicas[1];
        until("calls for the new one", async || new.calls.load(Ordering::Relaxed) > 0).await;
    }
    end.cancel();
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(failed.load(Ordering::Relaxed), 0);
}

/// A watch keeps its connection alive beyond the goodbye.
#[tokio::test]
async fn a_call_on_a_connection_that_said_goodbye_goes_to_another_address() {
    let (first, second, channel) = two().await;
    let watches: Vec<_> = (0..8)
        .map(|_| {
            let request = Request::post("/test.Test/Watch").body(Body::empty()).unwrap();
            tokio::spawn(channel.clone().oneshot(request))
        })
        .collect();
    until("all watches", async || first.calls.load(Ordering::Relaxed) + second.calls.load(Ordering::Relaxed) >= 8)
        .await;

    first.end.cancel();
    until("no new connection to the first", async || TcpListener::bind(first.address).await.is_ok()).await;
    for _ in 0..40 {
        assert!(call(&channel).await);
    }
    for watch in watches {
        assert!(!watch.is_finished());
        watch.abort();
    }
}

#[tokio::test]
async fn a_name_without_an_address_that_answers_is_unavailable_and_found_again() {
    let first = Replica::begin((Ipv4Addr::LOCALHOST, 0).into()).await;
    let address = first.address;
    let name = Name::default();
    name.set(&[&first]);
    let channel = name.channel();
    until("the first address", async || call(&channel).await).await;
    first.drain().await;
    assert!(!call(&channel).await);
    let _again = Replica::begin(address).await;
    until("the address again", async || call(&channel).await).await;
}
