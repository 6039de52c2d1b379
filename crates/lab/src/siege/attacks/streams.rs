//! Calls that are begun and not gone on with.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::attacker::{Attacker, many};
use super::super::http2::{END_HEADERS, Frame, Http2};

/// Calls in all, over how many connections.
const CALLS: usize = 1_024;
const CONNECTIONS: usize = 6;
const HEALTH: &str = "/grpc.health.v1.Health/Check";
/// One round of bytes that come slowly.
const SLOW: Duration = Duration::from_secs(1);

/// Calls that are held open.
struct Held {
    connections: usize,
    /// On each connection.
    calls: usize,
    path: &'static str,
    /// Whether they have the attacker's key.
    key: bool,
    /// What is sent of the body at once.
    first: &'static [u8],
    /// What is sent of it in each round.
    next: &'static [u8],
}

impl Held {
    /// As many calls as six connections have of `path`, without a body.
    const fn of(path: &'static str) -> Self {
        Self { connections: CONNECTIONS, calls: CALLS / CONNECTIONS + 1, path, key: false, first: b"", next: b"" }
    }
}

/// Holds calls open, until each connection is closed.
async fn hold(attacker: Arc<Attacker>, until: Instant, held: Held) {
    let Held { connections, calls, path, key, first, next } = held;
    many(&attacker, connections, until, move |attacker, _| async move {
        let bearer = format!("Bearer {}", attacker.key);
        let more = if key { vec![("authorization", bearer.as_str())] } else { Vec::new() };
        let Ok(stream) = attacker.connect().await else {
            attacker.hear("not connected");
            return tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let Ok(mut http) = Http2::begin(stream, &[], true).await else { return attacker.hear("closed") };
        let mut opened = Vec::with_capacity(calls);
        for _ in 0..calls {
            let Ok(stream) = http.open(path, &more, END_HEADERS).await else { return attacker.hear("closed") };
            opened.push(stream);
            for piece in first.chunks(16_000) {
                if http.frame(Frame::Data, 0, stream, piece).await.is_err() {
                    return attacker.hear("closed");
                }
            }
        }
        attacker.hear("calls opened");
        while !http.closed() {
            tokio::time::sleep(SLOW).await;
            for stream in &opened {
                if !next.is_empty() && http.frame(Frame::Data, 0, *stream, next).await.is_err() {
                    return attacker.hear("closed");
                }
            }
        }
        attacker.hear("closed");
    })
    .await;
}

pub(super) async fn health(attacker: Arc<Attacker>, until: Instant) {
    hold(attacker, until, Held::of(HEALTH)).await;
}

pub(super) async fn health_slowly(attacker: Arc<Attacker>, until: Instant) {
    // The message is said to have 255 bytes.
    let held = Held { calls: 100, first: &[0, 0, 0, 0, 255], next: &[0], ..Held::of(HEALTH) };
    hold(attacker, until, held).await;
}

pub(super) async fn reflection(attacker: Arc<Attacker>, until: Instant) {
    static LONG_PART: [u8; 60_000] = {
        let mut bytes = [0; 60_000];
        // Four megabytes are announced.
        bytes[2] = 64;
        bytes
    };
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    hold(attacker, until, Held { connections: 10, calls: 50, first: &LONG_PART, ..Held::of(path) }).await;
}

pub(super) async fn unknown(attacker: Arc<Attacker>, until: Instant) {
    hold(attacker, until, Held::of("/no.such/Method")).await;
}

pub(super) async fn with_key(attacker: Arc<Attacker>, until: Instant) {
    let path = "/rushes.dashboard.v1.DashboardService/GetDashboard";
    hold(attacker, until, Held { key: true, ..Held::of(path) }).await;
}

pub(super) async fn watches(attacker: Arc<Attacker>, until: Instant) {
    many(&attacker, 16, until, |attacker, _| async move {
        let bearer = format!("Bearer {}", attacker.key);
        let Ok(stream) = attacker.connect().await else { return attacker.hear("not connected") };
        // Nothing is read, and the windows are as small as they may be.
        let Ok(mut http) = Http2::begin(stream, &[(4, 1)], false).await else { return attacker.hear("closed") };
        for _ in 0..64 {
            let path = "/rushes.generations.v1.GenerationService/WatchGenerations";
            let Ok(stream) = http.open(path, &[("authorization", &bearer)], END_HEADERS).await else {
                return attacker.hear("closed");
            };
            if http.frame(Frame::Data, 1, stream, &[0; 5]).await.is_err() {
                return attacker.hear("closed");
            }
        }
        attacker.hear("watches opened");
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
}
