//! Channels: what leaves with a call, and what a broken peer becomes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chassis::{client, request::deadline, server::Server, status::Failure};
use futures::{StreamExt as _, stream};
use http::Request;
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use testkit::eventually;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic::{Code, Status, body::Body};
use tonic_types::{ErrorDetails, StatusExt as _};
use tower::ServiceExt as _;

use crate::wire::{self, free, ok, serve, status};

async fn call(channel: &client::Channel) -> http::HeaderMap {
    let request = Request::post("/test.Test/Get").header("content-type", "application/grpc").body(Body::empty());
    let response = channel.clone().oneshot(request.unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let trailers = body.collect().await.unwrap().trailers().cloned();
    trailers.unwrap_or(parts.headers)
}

#[tokio::test]
async fn nobody_there_is_unavailable() {
    let uri = format!("http://127.0.0.1:{}", testkit::free_port()).parse().unwrap();
    let trailers = call(&client::connect("nobody", &uri)).await;
    assert_eq!(status(&trailers), (Code::Unavailable, "DEPENDENCY_DOWN".to_owned()));
}

#[tokio::test]
async fn no_time_left_means_that_nothing_is_sent() {
    let server = serve(Server::new("test", &free()), |_| async { panic!("a call arrived") }).await;
    let channel = client::connect("test", &format!("http://{}", server.addr).parse().unwrap());
    let trailers = deadline::within(Instant::now() + Duration::from_millis(4), call(&channel)).await;
    assert_eq!(status(&trailers), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned()));
}

#[tokio::test]
async fn a_silent_peer_costs_no_more_than_the_deadline() {
    // It takes connections and says nothing, which is what a hung process looks like.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let channel = client::connect("silent", &format!("http://{}", silent.local_addr().unwrap()).parse().unwrap());
    let began = Instant::now();
    let trailers = deadline::within(began + Duration::from_millis(200), call(&channel)).await;
    assert_eq!(status(&trailers).0, Code::DeadlineExceeded);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_silent_peer_ends_calls_that_have_no_deadline() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let channel = client::connect("silent", &format!("http://{}", silent.local_addr().unwrap()).parse().unwrap());
    let trailers = tokio::time::timeout(Duration::from_secs(30), call(&channel)).await.expect("it ends");
    assert_eq!(status(&trailers), (Code::Unavailable, "DEPENDENCY_DOWN".to_owned()));
}

#[tokio::test]
async fn a_peer_that_comes_back_is_found_again() {
    let first = serve(Server::new("test", &free()), |_| async { ok() }).await;
    let uri = format!("http://{}", first.addr).parse().unwrap();
    let channel = client::connect("test", &uri);
    assert_eq!(status(&call(&channel).await).0, Code::Ok);
    first.drain.begin();
    first.task.await.unwrap().unwrap();
    assert_eq!(status(&call(&channel).await).0, Code::Unavailable);

    let settings = chassis::server::Settings { listen: first.addr, ..free() };
    let _second = serve(Server::new("test", &settings), |_| async { ok() }).await;
    let answer = eventually("it answers again", Duration::from_secs(5), async || {
        (status(&call(&channel).await).0 == Code::Ok).then_some(())
    });
    answer.await.unwrap();
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;

/// Reads the beginning of a connection up to the first frame of this type.
async fn read_until(stream: &mut TcpStream, kind: u8) {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    stream.write_all(&SETTINGS).await.unwrap();
    stream.read_exact(&mut [0; 24]).await.unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload).await.unwrap();
        if head[3] == kind {
            break;
        }
    }
}

/// Says goodbye once a frame of this type has come over a connection, and takes no request: the goodbye was on its way already, as that of
/// a server that ends.
async fn part(mut stream: TcpStream, after: u8) {
    const GOAWAY: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    read_until(&mut stream, after).await;
    stream.write_all(&GOAWAY).await.unwrap();
    // Until the caller has let go of it.
    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
}

/// Where the first `parting` connections end so, and the others are answered with the length of the body that came.
async fn peer_that_parts(parting: usize, after: u8) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for _ in 0..parting {
            tokio::spawn(part(listener.accept().await.unwrap().0, after));
        }
        serve_lengths(listener).await;
    });
    address
}

/// Answers with the length of the body that came.
async fn serve_lengths(listener: TcpListener) {
    loop {
        let stream = TokioIo::new(listener.accept().await.unwrap().0);
        let answer = async |request: Request<hyper::body::Incoming>| {
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let mut answer = ok();
            answer.headers_mut().insert("x-length", body.len().into());
            Ok::<_, std::convert::Infallible>(answer)
        };
        let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        tokio::spawn(serving.serve_connection(stream, service_fn(answer)));
    }
}

#[tokio::test]
async fn a_request_that_came_too_late_for_a_connection_goes_out_on_another() {
    let whole = |length: usize| Body::new(Full::new(Bytes::from(vec![1; length])).map_err(|never| match never {}));
    let of_pieces = |lengths: [usize; 2]| {
        let pieces = lengths.map(|length| Ok::<_, Status>(Frame::data(Bytes::from(vec![1; length]))));
        Body::new(StreamBody::new(stream::iter(pieces)))
    };
    for (parting, after, body, length) in [
        (1, HEADERS, Body::empty(), 0),
        (1, HEADERS, whole(40), 40),
        (1, DATA, whole(40), 40),
        (3, DATA, whole(40), 40),
        // As many clients end a message.
        (1, DATA, of_pieces([40, 0]), 40),
    ] {
        let address = peer_that_parts(parting, after).await;
        let channel = client::connect("test", &format!("http://{address}").parse().unwrap());
        let request = Request::post("/test.Test/Get").header("content-type", "application/grpc").body(body).unwrap();
        let response = channel.clone().oneshot(request).await.unwrap();
        assert_eq!(response.headers()["x-length"], length.to_string().as_str(), "after {parting}");
    }
    // Of more than one piece nothing is kept, and of what goes on the first is not all.
    let pieces =
        |count: usize| stream::iter((0..count).map(|_| Ok::<_, Status>(Frame::data(Bytes::from(vec![1; 40])))));
    for pieces in [pieces(2).boxed(), pieces(1).chain(stream::pending()).boxed()] {
        let address = peer_that_parts(1, DATA).await;
        let channel = client::connect("test", &format!("http://{address}").parse().unwrap());
        let request = Request::post("/test.Test/Get").header("content-type", "application/grpc");
        let request = request.body(Body::new(StreamBody::new(pieces))).unwrap();
        let refused = channel.clone().oneshot(request).await.unwrap();
        assert_eq!(status(refused.headers()).0, Code::Unavailable);
    }
    // And no call is tried for ever.
    let address = peer_that_parts(usize::MAX, HEADERS).await;
    let channel = client::connect("test", &format!("http://{address}").parse().unwrap());
    assert_eq!(status(&call(&channel).await), (Code::Unavailable, "DEPENDENCY_DOWN".to_owned()));
}

/// Where the first connections say goodbye once the head of a request has come, and as many as are `breaking` after them end without a word
/// then, as those of a process that is killed.
async fn peer_that_breaks(parting: usize, breaking: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for _ in 0..parting {
            tokio::spawn(part(listener.accept().await.unwrap().0, HEADERS));
        }
        for _ in 0..breaking {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move { read_until(&mut stream, HEADERS).await });
        }
        serve_lengths(listener).await;
    });
    address
}

#[tokio::test]
async fn what_changes_nothing_goes_out_once_more_when_its_connection_ends() {
    for (parting, breaking, changes_nothing, is_answered) in [
        (0, 1, true, true),
        // It may be what ends them.
        (0, 2, true, false),
        (0, 1, false, false),
        // One that had said goodbye did nothing with it.
        (1, 1, true, true),
        (1, 2, true, false),
        (1, 1, false, false),
    ] {
        let address = peer_that_breaks(parting, breaking).await;
        let channel = client::connect("test", &format!("http://{address}").parse().unwrap());
        let request = Request::post("/test.Test/Get").header("content-type", "application/grpc");
        let mut request = request.body(Body::empty()).unwrap();
        if changes_nothing {
            request.extensions_mut().insert(client::ChangesNothing);
        }
        let response = channel.clone().oneshot(request).await.unwrap();
        assert_eq!(
            response.headers().contains_key("x-length"),
            is_answered,
            "{parting}, {breaking}, {changes_nothing}"
        );
    }
}

#[tokio::test]
async fn a_large_error_arrives_as_what_it_is_and_breaks_nothing_else_on_its_connection() {
    let server = Server::new("test", &free()).streaming(["/test.Test/Watch"]);
    let server = serve(server, |path| async move {
        let violations = || (0..20_000).map(|at| (format!("scenes[{at}]"), "must be a scene's name"));
        match path.as_str() {
            "/test.Test/Watch" => {
                let event = || Ok(Frame::data(Bytes::from_static(&[0; 5])));
                wire::stream(stream::iter([event()]).chain(stream::pending()))
            }
            // As a service makes it.
            "/test.Test/Get" => {
                let first = Failure::invalid("scenes", "INPUT_SCHEMA_VIOLATION", "must be names");
                let all = violations().fold(first, |failure, (field, should)| failure.and_field(field, should));
                Status::from(all).into_http()
            }
            // As code makes it that knows nothing of that.
            _ => {
                let mut details = ErrorDetails::with_error_info("FOREIGN", "rushes.dev", []);
                for (field, should) in violations() {
                    details.add_bad_request_violation(field, should);
                }
                Status::with_error_details(Code::InvalidArgument, "x".repeat(50_000), details).into_http()
            }
        }
    })
    .await;
    let channel = client::connect("test", &format!("http://{}", server.addr).parse().unwrap());
    let request = |path: &str| {
        let request = Request::post(path).header("content-type", "application/grpc").body(Body::empty());
        channel.clone().oneshot(request.unwrap())
    };
    // One watch on each of the channel's connections.
    let mut watches = Vec::new();
    for _ in 0..4 {
        let mut watch = request("/test.Test/Watch").await.unwrap().into_body();
        assert!(watch.frame().await.unwrap().unwrap().is_data());
        watches.push(watch);
    }
    for at in 0..16 {
        let (path, reason) = [("/test.Test/Get", "INPUT_SCHEMA_VIOLATION"), ("/test.Test/Foreign", "FOREIGN")][at % 2];
        let headers = request(path).await.unwrap().into_parts().0.headers;
        assert_eq!(status(&headers), (Code::InvalidArgument, reason.to_owned()), "{path}");
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        assert!(bytes < 8_192, "{path}: {bytes} bytes of headers, of which a client takes 8 KiB");
    }
    for watch in &mut watches {
        let ended = tokio::time::timeout(Duration::from_millis(20), watch.frame()).await;
        assert!(ended.is_err(), "a watch ended: {ended:?}");
    }
}

/// What a server is at, and whether it may go on.
#[derive(Default)]
struct Gate {
    /// Its thread is blocked.
    blocked: AtomicBool,
    released: AtomicBool,
    /// The answers and frames that it has made.
    made: AtomicUsize,
}

impl Gate {
    async fn until_blocked(&self) {
        let blocked = async || self.blocked.load(Ordering::SeqCst).then_some(());
        eventually("the server has too much to do", Duration::from_secs(20), blocked).await.unwrap();
    }

    fn release(&self) {
        self.released.store(true, Ordering::SeqCst);
    }

    /// Waits, by `pause`, until the server has made more than `min` and makes no more. On a machine that never lets it come to
    /// that, what follows is asked of a server that is at work.
    async fn until_idle(&self, min: usize, mut pause: impl AsyncFnMut(Duration)) {
        let began = Instant::now();
        let (mut before, mut same) = (0, 0);
        while same < 5 && began.elapsed() < Duration::from_secs(20) {
            pause(Duration::from_millis(50)).await;
            let made = self.made.load(Ordering::SeqCst);
            same = if made == before && made > min { same + 1 } else { 0 };
            before = made;
        }
    }
}

/// A server on a thread of its own, a channel to it, and one watch on each of the channel's connections.
async fn watched() -> (client::Channel, Vec<Body>, Arc<Gate>) {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let gate = Arc::new(Gate::default());
    let inside = Arc::clone(&gate);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let streaming = ["/test.Test/Watch", "/test.Test/Large", "/test.Test/Trickle"];
            let server = Server::new("test", &free()).limit(100_000).streaming(streaming);
            let answers = move |path: String| {
                let gate = Arc::clone(&inside);
                async move { answer(&path, &gate) }
            };
            let server = serve(server, answers).await;
            sender.send(server.addr).unwrap();
            std::future::pending::<()>().await;
        });
    });
    let channel = client::connect("test", &format!("http://{}", receiver.await.unwrap()).parse().unwrap());
    let mut watches = Vec::new();
    for _ in 0..4 {
        let mut watch = send(&channel, "/test.Test/Watch").await;
        assert!(watch.frame().await.unwrap().unwrap().is_data());
        watches.push(watch);
    }
    (channel, watches, gate)
}

fn answer(path: &str, gate: &Arc<Gate>) -> http::Response<Body> {
    let made = Arc::clone(gate);
    let event = move |bytes: usize| {
        made.made.fetch_add(1, Ordering::SeqCst);
        Ok(Frame::data(Bytes::from(vec![0; bytes])))
    };
    match path {
        "/test.Test/Watch" => wire::stream(stream::iter([event(5)]).chain(stream::pending())),
        "/test.Test/Large" => wire::stream(stream::repeat_with(move || event(16_384))),
        "/test.Test/Trickle" => {
            let trickle = stream::unfold((0, event), |(count, event)| async move {
                tokio::task::yield_now().await;
                (count < 1_000).then(|| (event(5), (count + 1, event)))
            });
            wire::stream(trickle.chain(stream::pending()))
        }
        // Nothing else is done while the thread sleeps: this is what a process with too much to do looks like.
        "/test.Test/Block" => {
            gate.blocked.store(true, Ordering::SeqCst);
            while !gate.released.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
            }
            ok()
        }
        _ => {
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            wire::stream(stream::iter([event(5), Ok(Frame::trailers(trailers))]))
        }
    }
}

async fn send(channel: &client::Channel, path: &str) -> Body {
    let request = Request::post(path).header("content-type", "application/grpc").body(Body::empty());
    channel.clone().oneshot(request.unwrap()).await.unwrap().into_body()
}

/// All watches go on, and each connection answers.
async fn check_open(channel: &client::Channel, watches: &mut [Body]) {
    for _ in 0..8 {
        let answer = async { send(channel, "/test.Test/Get").await.frame().await };
        let answer = tokio::time::timeout(Duration::from_secs(10), answer).await;
        assert!(matches!(&answer, Ok(Some(Ok(frame))) if frame.is_data()), "no answer beside it: {answer:?}");
    }
    for watch in watches {
        let ended = tokio::time::timeout(Duration::from_millis(50), watch.frame()).await;
        assert!(ended.is_err(), "a watch ended: {ended:?}");
    }
}

#[tokio::test]
async fn a_burst_of_calls_that_are_cancelled_before_they_are_accepted_ends_no_connection() {
    let (channel, mut watches, gate) = watched().await;
    let blocking = channel.clone();
    let blocked = tokio::spawn(async move { send(&blocking, "/test.Test/Block").await });
    gate.until_blocked().await;
    let mut calls: stream::FuturesUnordered<_> = (0..720).map(|_| send(&channel, "/test.Test/Get")).collect();
    let sent = tokio::time::timeout(Duration::from_millis(200), calls.next()).await;
    assert!(sent.is_err(), "the process has too much to do to answer");
    drop(calls);
    gate.release();
    blocked.await.unwrap();
    check_open(&channel, &mut watches).await;
}

#[tokio::test]
async fn answers_to_calls_that_were_cancelled_end_no_connection() {
    let (channel, mut watches, gate) = watched().await;
    let blocking = channel.clone();
    let blocked = tokio::spawn(async move { send(&blocking, "/test.Test/Block").await });
    gate.until_blocked().await;
    let mut calls: stream::FuturesUnordered<_> = (0..6_000).map(|_| send(&channel, "/test.Test/Get")).collect();
    let sent = tokio::time::timeout(Duration::from_millis(300), calls.next()).await;
    assert!(sent.is_err(), "all were sent and none is answered");
    // Now this thread has too much to do, and the answers wait in the socket for calls that then are gone.
    let before = gate.made.load(Ordering::SeqCst);
    gate.release();
    gate.until_idle(before, async |pause| std::thread::sleep(pause)).await;
    drop(calls);
    blocked.await.unwrap();
    check_open(&channel, &mut watches).await;
}

#[tokio::test]
async fn replies_that_nobody_reads_keep_no_other_from_arriving() {
    for path in ["/test.Test/Large", "/test.Test/Trickle"] {
        let (channel, mut watches, gate) = watched().await;
        let mut unread = Vec::new();
        for _ in 0..100 {
            unread.push(send(&channel, path).await);
        }
        // Each has sent as much as its own window takes.
        gate.until_idle(100, tokio::time::sleep).await;
        check_open(&channel, &mut watches).await;
        drop(unread);
    }
}

/// A watch that nobody reads keeps little of what is sent to it.
#[tokio::test]
async fn of_a_watchs_answer_fewer_bytes_wait_unread_than_of_a_calls() {
    type Connect = fn(&'static str, &http::Uri) -> client::Channel;
    for (connect, expected) in [(client::connect as Connect, 256 << 10), (client::connect_for_watches, 32 << 10)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let channel = connect("test", &format!("http://{}", listener.local_addr().unwrap()).parse().unwrap());
        let calling = tokio::spawn(async move { call(&channel).await });
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let (_, mut respond) = connection.accept().await.unwrap().unwrap();
        let mut answer = respond.send_response(http::Response::new(()), false).unwrap();
        answer.reserve_capacity(1 << 20);
        assert_eq!(answer.capacity(), expected);
        calling.abort();
    }
}
