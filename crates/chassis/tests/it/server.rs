//! The server: deadlines, panics, overload, counters, and how it ends.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use chassis::{
    request::{self, deadline},
    server::{Door, Error, Server, Settings, Timeouts},
};
use futures::{StreamExt as _, stream};
use http::StatusCode;
use http_body::Frame;
use testkit::eventually;
use tokio::sync::Notify;
use tonic::Code;

use crate::wire::{self, admin, call, free, ok, serve, status};

fn timeouts(default: u64, longest: u64) -> Timeouts {
    let ms = |n| Some(Duration::from_millis(n));
    Timeouts { default: ms(default), longest: ms(longest) }
}

#[tokio::test]
async fn an_expired_deadline_is_deadline_exceeded_and_not_cancelled() {
    let server = Server::new("test", &free()).timeouts(timeouts(150, 300));
    let server = serve(server, |_| std::future::pending()).await;
    for (asked, min) in [(None, 150), (Some("50m"), 50), (Some("0u"), 0), (Some("60S"), 300), (Some("x"), 150)] {
        let began = Instant::now();
        let headers: Vec<_> = asked.map(|asked| ("grpc-timeout", asked)).into_iter().collect();
        let (_, trailers) = call(server.addr, "/test.Test/Wait", &headers).await;
        assert_eq!(status(&trailers).0, Code::DeadlineExceeded, "{asked:?}");
        let took = began.elapsed().as_millis();
        assert!((min..min + 1_500).contains(&took), "{asked:?} took {took} ms");
    }
}

#[tokio::test]
async fn a_method_has_its_own_deadlines() {
    let server = Server::new("test", &free())
        .method("/test.Test/Long", timeouts(30_000, 60_000))
        .streaming(["/test.Test/Watch"]);
    let server = serve(server, |_| async {
        let left = deadline::remaining().map_or("none".to_owned(), |left| left.as_secs_f64().round().to_string());
        let mut response = ok();
        response.headers_mut().insert("left", left.parse().unwrap());
        response
    })
    .await;
    let left = async |path: &str, asked: Option<&str>| {
        let headers: Vec<_> = asked.map(|asked| ("grpc-timeout", asked)).into_iter().collect();
        call(server.addr, path, &headers).await.0["left"].to_str().unwrap().to_owned()
    };
    assert_eq!(left("/test.Test/Short", None).await, "2");
    assert_eq!(left("/test.Test/Short", Some("1H")).await, "10");
    assert_eq!(left("/test.Test/Long", None).await, "30");
    assert_eq!(left("/test.Test/Long", Some("1H")).await, "60");
    assert_eq!(left("/test.Test/Watch", None).await, "none");
    assert_eq!(left("/test.Test/Watch", Some("100S")).await, "100");
}

#[tokio::test]
async fn a_stream_ends_at_the_clients_deadline() {
    let server = Server::new("test", &free()).streaming(["/test.Test/Watch"]);
    let server = serve(server, |_| async {
        let first = stream::iter([Ok(Frame::data(Bytes::from_static(&[0; 5])))]);
        wire::stream(first.chain(stream::pending()))
    })
    .await;
    let (_, trailers) = call(server.addr, "/test.Test/Watch", &[("grpc-timeout", "100m")]).await;
    assert_eq!(status(&trailers).0, Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_panic_is_internal_and_the_next_call_is_answered() {
    let server = serve(Server::new("test", &free()), |path| async move {
        match path.as_str() {
            "/test.Test/Handler" => panic!("in the handler"),
            "/test.Test/Stream" => {
                let first = stream::iter([Ok(Frame::data(Bytes::from_static(&[0; 5])))]);
                wire::stream(first.chain(stream::once(async { panic!("in the stream") })))
            }
            _ => ok(),
        }
    })
    .await;
    for path in ["/test.Test/Handler", "/test.Test/Stream"] {
        let (_, trailers) = call(server.addr, path, &[]).await;
        assert_eq!(status(&trailers), (Code::Internal, "INTERNAL".to_owned()), "{path}");
    }
    let (_, trailers) = call(server.addr, "/test.Test/Well", &[]).await;
    assert_eq!(status(&trailers).0, Code::Ok);
}

#[tokio::test]
async fn one_call_too_many_is_shed_at_once_and_streams_do_not_count() {
    let go = Arc::new(Notify::new());
    let (entered, mut entries) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::new("test", &free()).limit(1).streaming(["/test.Test/Watch"]);
    let waiting = go.clone();
    let server = serve(server, move |path| {
        let (go, entered) = (waiting.clone(), entered.clone());
        async move {
            if path == "/test.Test/Wait" {
                entered.send(()).unwrap();
                go.notified().await;
            }
            ok()
        }
    })
    .await;
    let addr = server.addr;
    let first = tokio::spawn(async move { call(addr, "/test.Test/Wait", &[]).await });
    entries.recv().await.unwrap();
    let (_, trailers) = call(addr, "/test.Test/Other", &[]).await;
    assert_eq!(status(&trailers), (Code::ResourceExhausted, "OVERLOADED".to_owned()));
    assert_eq!(trailers["grpc-retry-pushback-ms"], "250");
    let (_, trailers) = call(addr, "/test.Test/Watch", &[]).await;
    assert_eq!(status(&trailers).0, Code::Ok);
    go.notify_one();
    assert_eq!(status(&first.await.unwrap().1).0, Code::Ok);
    let (_, trailers) = call(addr, "/test.Test/Other", &[]).await;
    assert_eq!(status(&trailers).0, Code::Ok, "its place is free again");
}

#[tokio::test]
async fn a_reply_says_inside_how_many_round_trips_it_cost() {
    let handler = |_| async {
        request::count_query();
        request::spawn(async { request::count_query() }).await.unwrap();
        ok()
    };
    let inside = serve(Server::new("test", &free()), handler).await;
    let (headers, _) = call(inside.addr, "/test.Test/Get", &[]).await;
    assert_eq!(headers["x-rushes-queries"], "2");
    let outside = serve(Server::new("test", &free()).public(&Door::default()), handler).await;
    let (headers, _) = call(outside.addr, "/test.Test/Get", &[]).await;
    assert!(!headers.contains_key("x-rushes-queries"));
}

#[tokio::test]
async fn draining_lets_what_runs_end_and_takes_nothing_new() {
    let go = Arc::new(Notify::new());
    let (entered, mut entries) = tokio::sync::mpsc::unbounded_channel();
    let waiting = go.clone();
    let server = serve(Server::new("test", &free()), move |_| {
        let (go, entered) = (waiting.clone(), entered.clone());
        async move {
            entered.send(()).unwrap();
            go.notified().await;
            ok()
        }
    })
    .await;
    assert_eq!(admin(server.admin, "/readyz").await.0, StatusCode::OK);
    let addr = server.addr;
    let running = tokio::spawn(async move { call(addr, "/test.Test/Wait", &[]).await });
    entries.recv().await.unwrap();
    server.drain.begin();
    assert_eq!(admin(server.admin, "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(admin(server.admin, "/healthz").await.0, StatusCode::OK);
    let refused = eventually("new connections are refused", Duration::from_secs(5), async || {
        tokio::net::TcpStream::connect(addr).await.err()
    });
    refused.await.unwrap();
    go.notify_one();
    assert_eq!(status(&running.await.unwrap().1).0, Code::Ok);
    server.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_does_not_end_is_left_when_the_grace_period_has_passed() {
    let bound = Server::new("test", &free()).bind().await.unwrap();
    let addr = bound.addr();
    let drain = chassis::drain::Drain::default().with_grace(Duration::from_millis(100));
    let never = tower::service_fn(|_| std::future::pending());
    let task = tokio::spawn(bound.serve_around(never, |rpc| rpc, drain.clone()));
    tokio::spawn(async move { call(addr, "/test.Test/Wait", &[("grpc-timeout", "9S")]).await });
    drain.begin();
    let ended = tokio::time::timeout(Duration::from_secs(5), task).await;
    ended.expect("it ends by itself").unwrap().unwrap();
}

#[tokio::test]
async fn a_taken_address_is_an_error_that_names_the_setting() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = taken.local_addr().unwrap();
    let settings = Settings { listen, ..free() };
    let error = Server::new("test", &settings).bind().await.unwrap_err();
    assert!(matches!(error, Error::Bind { .. }));
    assert!(error.to_string().starts_with(&format!("RUSHES_LISTEN is {listen}")), "{error}");
}

#[tokio::test]
async fn a_server_that_fills_up_sheds_background_before_polls_and_people() {
    let go = Arc::new(Notify::new());
    let (entered, mut entries) = tokio::sync::mpsc::unbounded_channel();
    let places = [("/test.Test/Poll", 75), ("/test.Test/Report", 50)];
    let server = places
        .iter()
        .fold(Server::new("test", &free()), |server, (path, _)| server.method(path, timeouts(2_000, 10_000)));
    // A call that waits takes its place for as long as the test wants.
    let server = server.method("/test.Test/Wait", timeouts(60_000, 60_000));
    let waiting = go.clone();
    let server = serve(server.limit(4).places(places), move |path| {
        let (go, entered) = (waiting.clone(), entered.clone());
        async move {
            if path == "/test.Test/Wait" {
                entered.send(()).unwrap();
                go.notified().await;
            }
            ok()
        }
    })
    .await;
    let addr = server.addr;
    let mut running = Vec::new();
    for (reports, polls, others) in [(true, true, true), (true, true, true), (false, true, true), (false, false, true)]
    {
        for (path, is_taken) in
            [("/test.Test/Report", reports), ("/test.Test/Poll", polls), ("/test.Test/Open", others)]
        {
            let (_, trailers) = call(addr, path, &[]).await;
            let expected = if is_taken { Code::Ok } else { Code::ResourceExhausted };
            assert_eq!(status(&trailers).0, expected, "{path} beside {}", running.len());
        }
        running.push(tokio::spawn(async move { call(addr, "/test.Test/Wait", &[]).await }));
        entries.recv().await.unwrap();
    }
    go.notify_waiters();
}

/// Takes CPU time.
#[inline(never)]
fn burn(until: Instant) {
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_port_tells_where_the_cpu_time_goes_to_one_at_a_time() {
    let server = serve(Server::new("test", &Settings::FREE), |_| async { ok() }).await;
    let until = Instant::now() + Duration::from_secs(2);
    let burning = std::thread::spawn(move || burn(until));
    let first = tokio::spawn(admin(server.admin, "/profile?seconds=1"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(admin(server.admin, "/profile?seconds=1").await.0, StatusCode::CONFLICT);
    let (status, stacks) = first.await.unwrap();
    assert_eq!(status, StatusCode::OK, "{stacks}");
    let burnt = stacks.lines().filter(|line| line.contains("::burn;") || line.contains("::burn "));
    let seen: u64 = burnt.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()).sum();
    assert!(seen > 10, "{seen} of 99 samples: {stacks}");
    burning.join().unwrap();
    for wrong in ["0", "61", "-1", "x", ""] {
        let (status, said) = admin(server.admin, &format!("/profile?seconds={wrong}")).await;
        assert_eq!((status, said.as_str()), (StatusCode::BAD_REQUEST, "seconds: must be from 1 to 60\n"));
    }
}
