//! What anybody can send over HTTP/1.1 and gRPC-Web.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::attacker::{Attacker, many};

/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(5);

/// Sends one request on a connection of its own and notes the first line of the answer.
async fn ask(attacker: &Attacker, head: String, body: &[u8]) {
    let Ok(mut stream) = attacker.connect().await else {
        attacker.hear("not connected");
        return tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let asking = async {
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body).await?;
        let mut buffer = vec![0; 4096];
        let count = stream.read(&mut buffer).await?;
        buffer.truncate(count);
        std::io::Result::Ok(buffer)
    };
    match tokio::time::timeout(ANSWER, asking).await {
        Ok(Ok(answer)) if !answer.is_empty() => {
            attacker.hear(String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned());
        }
        Ok(_) => attacker.hear("closed"),
        Err(_) => attacker.hear("no answer"),
    }
    // No port waits for what is over.
    let _ = stream.set_zero_linger();
}

fn get(path: &str, more: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{more}connection: close\r\n\r\n")
}

pub(super) async fn preflights(attacker: Arc<Attacker>, until: Instant) {
    many(&attacker, 32, until, |attacker, _| async move {
        let head = "OPTIONS /rushes.dashboard.v1.DashboardService/GetDashboard HTTP/1.1\r\nhost: localhost\r\n\
                    origin: http://evil.test\r\naccess-control-request-method: POST\r\nconnection: close\r\n\r\n";
        ask(&attacker, head.to_owned(), b"").await;
    })
    .await;
}

pub(super) async fn missing_assets(attacker: Arc<Attacker>, until: Instant) {
    many(&attacker, 32, until, |attacker, _| async move {
        let hash = (0..64).map(|_| char::from_digit(fastrand::u32(0..16), 16).unwrap_or('0')).collect::<String>();
        ask(&attacker, get(&format!("/assets/{hash}.png"), "if-none-match: *\r\n"), b"").await;
    })
    .await;
}

pub(super) async fn slow_readers(attacker: Arc<Attacker>, until: Instant) {
    many(&attacker, 400, until, |attacker, _| async move {
        let Ok(mut stream) = attacker.connect().await else {
            attacker.hear("not connected");
            return tokio::time::sleep(Duration::from_millis(50)).await;
        };
        if stream.write_all(get(&attacker.asset_path, "").as_bytes()).await.is_err() {
            return attacker.hear("closed");
        }
        attacker.hear("asked");
        let mut byte = [0];
        // A byte a second; what is closed ends it.
        while stream.read(&mut byte).await.is_ok_and(|count| count > 0) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        attacker.hear("closed");
    })
    .await;
}

pub(super) async fn ranges(attacker: Arc<Attacker>, until: Instant) {
    let ranges = (0..1_000).map(|at| format!("{at}-{}", at + 1)).collect::<Vec<_>>().join(",");
    many(&attacker, 32, until, move |attacker, _| {
        let more = format!("range: bytes={ranges}\r\n");
        async move { ask(&attacker, get(&attacker.asset_path, &more), b"").await }
    })
    .await;
}

pub(super) async fn forged_links(attacker: Arc<Attacker>, until: Instant) {
    many(&attacker, 32, until, |attacker, _| async move {
        let name = attacker.asset_path.trim_start_matches("/assets/").split('?').next().unwrap_or_default().to_owned();
        let mac = "0".repeat(64);
        ask(&attacker, get(&format!("/fetch/9999999999/{mac}/{name}"), ""), b"").await;
    })
    .await;
}

fn hook(length: &str) -> String {
    let job = uuid::Uuid::now_v7();
    format!(
        "POST /hooks/fal/{job} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n{length}connection: close\r\n\r\n"
    )
}

pub(super) async fn silent_hooks(attacker: Arc<Attacker>, until: Instant) {
    many(&attacker, 200, until, |attacker, _| async move {
        ask(&attacker, hook("content-length: 1048576\r\n"), &vec![b' '; 1_048_000]).await;
    })
    .await;
}

pub(super) async fn long_hooks(attacker: Arc<Attacker>, until: Instant) {
    many(&attacker, 16, until, |attacker, _| async move {
        ask(&attacker, hook("content-length: 3145728\r\n"), &vec![b' '; 3 << 20]).await;
    })
    .await;
}

pub(super) async fn slow_hooks(attacker: Arc<Attacker>, until: Instant) {
    many(&attacker, 200, until, |attacker, _| async move {
        let Ok(mut stream) = attacker.connect().await else { return attacker.hear("not connected") };
        let mut sent = stream.write_all(hook("content-length: 1000\r\n").as_bytes()).await;
        while sent.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
            sent = stream.write_all(b" ").await;
        }
        attacker.hear("closed");
    })
    .await;
}

pub(super) async fn chunked_hooks(attacker: Arc<Attacker>, until: Instant) {
    many(&attacker, 16, until, |attacker, _| async move {
        let body = b"4000\r\n".iter().copied().chain([b' '; 0x4000]).chain(*b"\r\n").collect::<Vec<_>>().repeat(300);
        ask(&attacker, hook("transfer-encoding: chunked\r\n"), &body).await;
    })
    .await;
}

pub(super) async fn grpc_web(attacker: Arc<Attacker>, until: Instant) {
    many(&attacker, 32, until, |attacker, number| async move {
        let kind = if number.is_multiple_of(2) { "application/grpc-web+proto" } else { "application/grpc-web-text" };
        let body = (0..2_048).map(|_| fastrand::u8(..)).collect::<Vec<_>>();
        let head = format!(
            "POST /rushes.dashboard.v1.DashboardService/GetDashboard HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\n\
             authorization: Bearer {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            attacker.key,
            body.len()
        );
        ask(&attacker, head, &body).await;
    })
    .await;
}
