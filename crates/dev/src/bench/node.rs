//! What one would write instead, as a peer of the hottest reads: a Node process that looks a key up and answers with a string that it
//! has (`node/server.mjs`), loaded over as many connections of HTTP/1.1 as ours has streams.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use testkit::Process;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::load::{Measured, STREAMS_IN_ALL};
use super::process;

const PROGRAM: &str = include_str!("node/server.mjs");
/// How long it may take until it listens.
const LIMIT: Duration = Duration::from_secs(10);
/// How many keys it knows, as many as ours is asked with.
const KEYS: usize = 16;

/// The running peer; it ends when this is dropped.
pub(super) struct Node {
    process: Process,
    address: SocketAddr,
}

impl Node {
    /// Starts it, to answer `size` bytes; nothing where there is no `node` on this machine.
    pub(super) async fn start(folder: &Path, size: usize) -> Result<Option<Self>> {
        if testkit::find_binary("node").is_err() {
            return Ok(None);
        }
        let address = SocketAddr::from(([127, 0, 0, 1], testkit::free_port()));
        let script = folder.join("peer.mjs");
        std::fs::write(&script, PROGRAM).with_context(|| format!("writing {}", script.display()))?;
        let mut command = Command::new("node");
        command.arg(&script).args([address.port().to_string(), size.to_string()]).args((0..KEYS).map(key));
        let process = Process::spawn("node", command, &folder.join("node.log"))?;
        let listens = async || TcpStream::connect(address).await.ok();
        testkit::eventually("the peer listens", LIMIT, listens)
            .await
            .with_context(|| format!("the end of node's log:\n{}", process.tail(12)))?;
        Ok(Some(Self { process, address }))
    }

    /// Loads it for `time`.
    pub(super) async fn load(&self, time: Duration) -> Result<Measured> {
        let before = process::cpu(self.process.id())?;
        let began = Instant::now();
        let until = began + time;
        let mut clients = tokio::task::JoinSet::new();
        for number in 0..STREAMS_IN_ALL {
            clients.spawn(ask_until(self.address, key(number % KEYS), until));
        }
        let mut answered = 0;
        while let Some(client) = clients.join_next().await {
            answered += client??;
        }
        let (took, used) = (began.elapsed(), process::cpu(self.process.id())? - before);
        ensure!(answered > 0, "nothing was answered within {time:?}");
        let answered = f64::from(answered);
        Ok(Measured { cpu: used.as_secs_f64() * 1e6 / answered, rate: answered / took.as_secs_f64() })
    }
}

fn key(number: usize) -> String {
    format!("Bearer rsk_{number:043}000000")
}

/// Asks again and again over one connection; how often it was answered.
async fn ask_until(address: SocketAddr, key: String, until: Instant) -> Result<u32> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let request = format!("GET /v1/dashboard HTTP/1.1\r\nhost: {address}\r\nauthorization: {key}\r\n\r\n");
    let (mut answer, mut answered) = (Vec::new(), 0);
    while Instant::now() < until {
        stream.write_all(request.as_bytes()).await?;
        answer.clear();
        let whole = loop {
            ensure!(stream.read_buf(&mut answer).await? > 0, "the peer closed the connection");
            if let Some(length) = length(&answer)? {
                break length;
            }
        };
        while answer.len() < whole {
            ensure!(stream.read_buf(&mut answer).await? > 0, "the peer closed the connection");
        }
        ensure!(answer.len() == whole, "the peer answered more than it was asked for");
        answered += 1;
    }
    Ok(answered)
}

/// How long an answer is with its head; nothing while the head is not whole.
fn length(answer: &[u8]) -> Result<Option<usize>> {
    let Some(head) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&answer[..head])?;
    ensure!(text.starts_with("HTTP/1.1 200 "), "the peer answered {}", text.lines().next().unwrap_or_default());
    let header = text.lines().filter_map(|line| line.split_once(": "));
    let body = header.filter(|(name, _)| name.eq_ignore_ascii_case("content-length")).map(|(_, length)| length).next();
    Ok(Some(head + 4 + body.context("the peer says no length")?.parse::<usize>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_as_long_as_it_says() {
        assert_eq!(length(b"HTTP/1.1 200 OK\r\nContent-Length: 3").unwrap(), None);
        assert_eq!(length(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab").unwrap(), Some(41));
        assert!(length(b"HTTP/1.1 401 Unauthorized\r\n\r\n").is_err());
        assert!(length(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[tokio::test]
    async fn the_peer_answers_who_has_a_key() {
        let folder = std::env::temp_dir().join(format!("rushes-node-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        if let Some(node) = Node::start(&folder, 1_000).await.unwrap() {
            assert!(node.load(Duration::from_millis(200)).await.unwrap().rate > 0.0);
            let stranger = ask_until(node.address, "Bearer x".into(), Instant::now() + LIMIT).await;
            assert!(stranger.unwrap_err().to_string().contains("401"));
        } else {
            println!("skipped: there is no node on this machine");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
