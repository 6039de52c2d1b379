//! What anybody can do with a connection alone.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::attacker::{Attacker, many};
use super::super::http2::{END_HEADERS, END_STREAM, Frame, Http2, headers};

/// How many connections wait.
const IDLE: usize = 600;
/// How many connections flood.
const FLOODS: usize = 8;
/// How many frames are written at once.
const BURST: usize = 500;
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// Opens `count` connections, sends `bytes` on each and waits for what comes.
async fn waiting(attacker: Arc<Attacker>, until: Instant, count: usize, bytes: &'static [u8]) {
    many(&attacker, count, until, move |attacker, _| async move {
        let Ok(mut stream) = attacker.connect().await else {
            attacker.hear("not connected");
            return tokio::time::sleep(Duration::from_millis(100)).await;
        };
        if stream.write_all(bytes).await.is_ok() {
            let mut buffer = [0; 4096];
            while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
        }
        attacker.hear("closed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    })
    .await;
}

pub(super) async fn idle(attacker: Arc<Attacker>, until: Instant) {
    waiting(attacker, until, IDLE, b"").await;
}

pub(super) async fn half_preface(attacker: Arc<Attacker>, until: Instant) {
    waiting(attacker, until, IDLE, b"PRI * HTTP/2.0\r\n").await;
}

pub(super) async fn silent(attacker: Arc<Attacker>, until: Instant) {
    waiting(attacker, until, IDLE, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
}

pub(super) async fn random_bytes(attacker: Arc<Attacker>, until: Instant) {
    many(&attacker, 32, until, |attacker, _| async move {
        let Ok(mut stream) = attacker.connect().await else { return attacker.hear("not connected") };
        let bytes = (0..1_024).map(|_| fastrand::u8(..)).collect::<Vec<_>>();
        // What is closed is not written to; either is an answer.
        let _ = stream.write_all(&bytes).await;
        let mut buffer = [0; 1024];
        let answer = tokio::time::timeout(Duration::from_secs(2), stream.read(&mut buffer)).await;
        attacker.hear(if answer.is_ok() { "closed" } else { "no answer" });
    })
    .await;
}

pub(super) async fn churn(attacker: Arc<Attacker>, until: Instant) {
    many(&attacker, 64, until, |attacker, _| async move {
        match attacker.connect().await {
            Ok(stream) => {
                // No address waits for what is gone.
                let _ = stream.set_zero_linger();
                attacker.hear("connected");
            }
            Err(_) => attacker.hear("not connected"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    })
    .await;
}

pub(super) async fn slow_headers(attacker: Arc<Attacker>, until: Instant) {
    many(&attacker, 400, until, |attacker, _| async move {
        let Ok(mut stream) = attacker.connect().await else { return attacker.hear("not connected") };
        for byte in b"GET /assets/x HTTP/1.1\r\nhost: localhost\r\nx-filler: ".iter().chain([b'a'].iter().cycle()) {
            if stream.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        attacker.hear("closed");
    })
    .await;
}

/// Floods on a few connections until each is closed, and begins again.
async fn flood<W>(attacker: Arc<Attacker>, until: Instant, write: fn(Http2, Arc<Attacker>) -> W)
where
    W: Future<Output = io::Result<()>> + Send + 'static,
{
    many(&attacker, FLOODS, until, move |attacker, _| async move {
        let Ok(stream) = attacker.connect().await else { return attacker.hear("not connected") };
        let Ok(http) = Http2::begin(stream, &[], true).await else { return attacker.hear("closed") };
        match write(http, Arc::clone(&attacker)).await {
            Ok(()) => attacker.hear("sent"),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => attacker.hear("not read"),
            Err(_) => attacker.hear("closed"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    })
    .await;
}

pub(super) async fn pings(attacker: Arc<Attacker>, until: Instant) {
    flood(attacker, until, |mut http, _| async move {
        while !http.closed() {
            http.frames(Frame::Ping, &[0; 8], 0, BURST).await?;
        }
        Ok(())
    })
    .await;
}

pub(super) async fn settings(attacker: Arc<Attacker>, until: Instant) {
    flood(attacker, until, |mut http, _| async move {
        while !http.closed() {
            http.frames(Frame::Settings, &[0, 4, 0, 0, 255, 255], 0, BURST).await?;
        }
        Ok(())
    })
    .await;
}

pub(super) async fn windows(attacker: Arc<Attacker>, until: Instant) {
    flood(attacker, until, |mut http, _| async move {
        while !http.closed() {
            http.frames(Frame::WindowUpdate, &[0, 0, 0, 1], 0, BURST).await?;
        }
        Ok(())
    })
    .await;
}

pub(super) async fn priorities(attacker: Arc<Attacker>, until: Instant) {
    flood(attacker, until, |mut http, _| async move {
        while !http.closed() {
            for stream in (1..2_000).step_by(2) {
                http.frame(Frame::Priority, 0, stream, &[0, 0, 0, 0, 16]).await?;
            }
        }
        Ok(())
    })
    .await;
}

pub(super) async fn empty_data(attacker: Arc<Attacker>, until: Instant) {
    flood(attacker, until, |mut http, _| async move {
        let stream = http.open(HEALTH, &[], END_HEADERS).await?;
        while !http.closed() {
            http.frames(Frame::Data, &[], stream, BURST).await?;
        }
        Ok(())
    })
    .await;
}

pub(super) async fn rapid_reset(attacker: Arc<Attacker>, until: Instant) {
    flood(attacker, until, |mut http, _| async move {
        for _ in 0..20_000 {
            let stream = http.open(HEALTH, &[], END_HEADERS).await?;
            http.frame(Frame::Reset, 0, stream, &[0, 0, 0, 8]).await?;
        }
        Ok(())
    })
    .await;
}

pub(super) async fn continuations(attacker: Arc<Attacker>, until: Instant) {
    flood(attacker, until, |mut http, _| async move {
        let stream = http.open(HEALTH, &[], 0).await?;
        while !http.closed() {
            http.frame(Frame::Continuation, 0, stream, &[0, 1, b'x', 1, b'y'].repeat(2_000)).await?;
        }
        Ok(())
    })
    .await;
}

pub(super) async fn header_list(attacker: Arc<Attacker>, until: Instant) {
    flood(attacker, until, |mut http, _| async move {
        let long = "x".repeat(200 << 10);
        let block = headers(HEALTH, &[("x-long", &long)]);
        let mut pieces = block.chunks(16_000).peekable();
        let first = pieces.next().unwrap_or_default();
        http.frame(Frame::Headers, END_STREAM, 1, first).await?;
        while let Some(piece) = pieces.next() {
            let flags = if pieces.peek().is_none() { END_HEADERS } else { 0 };
            http.frame(Frame::Continuation, flags, 1, piece).await?;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        Ok(())
    })
    .await;
}

pub(super) async fn header_fields(attacker: Arc<Attacker>, until: Instant) {
    flood(attacker, until, |mut http, _| async move {
        let fields = vec![("x-a", "b"); 1_000];
        for _ in 0..100 {
            http.open(HEALTH, &fields, END_HEADERS | END_STREAM).await?;
        }
        Ok(())
    })
    .await;
}

pub(super) async fn no_window(attacker: Arc<Attacker>, until: Instant) {
    many(&attacker, 32, until, |attacker, _| async move {
        let Ok(stream) = attacker.connect().await else { return attacker.hear("not connected") };
        // Setting 4 is the window that each stream begins with.
        let Ok(mut http) = Http2::begin(stream, &[(4, 0)], true).await else { return attacker.hear("closed") };
        for _ in 0..200 {
            let Ok(stream) = http.open(HEALTH, &[], END_HEADERS).await else { break };
            if http.frame(Frame::Data, END_STREAM, stream, &[0; 5]).await.is_err() {
                break;
            }
        }
        let held = Instant::now();
        while !http.closed() && held.elapsed() < Duration::from_secs(60) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        attacker.hear("closed");
    })
    .await;
}
