//! The least of an HTTP client: one question, one answer, on loopback.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Asks for a path; says whether it was answered with 200, and with what.
pub(crate) async fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> Option<(bool, String)> {
    let ask = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}");
        stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        Some((answer.starts_with("HTTP/1.1 200"), answer))
    };
    tokio::time::timeout(Duration::from_secs(2), ask).await.ok().flatten()
}
