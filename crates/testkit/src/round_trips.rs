//! A proxy before PostgreSQL that counts round trips as the wire shows them, so that "cold 1, warm 0" does not rest on
//! what the code under test says of itself.
//!
//! A round trip is a message after which a client waits: `Sync` of the extended protocol, a simple `Query`, or a function
//! call. Logging in is not counted; preparing a statement is (a pool that has not run it yet pays twice).

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use url::Url;

/// The length of a message with nothing but its length in it.
const EMPTY: usize = 4;
/// A message longer than PostgreSQL itself takes (1 GiB): we have lost our place in the stream.
const LONGEST: usize = 1 << 30;
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

/// Counts the round trips of every connection that goes through it.
pub struct RoundTrips {
    url: String,
    counted: Arc<Mutex<Vec<String>>>,
    accepting: AbortHandle,
}

impl RoundTrips {
    /// Listens on a free loopback port before the database of `url`.
    pub async fn before(url: &str) -> Result<Self> {
        let parsed = Url::parse(url).with_context(|| format!("not a URL: {url}"))?;
        let host = parsed.host_str().context("a database URL without a host")?;
        let server = format!("{host}:{}", parsed.port().unwrap_or(5432));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("binding the counter")?;
        let address: SocketAddr = listener.local_addr()?;
        let counted = Arc::new(Mutex::new(Vec::new()));
        let accepting = tokio::spawn(accept(listener, server, counted.clone())).abort_handle();
        Ok(Self { url: crate::proxy::at(url, address)?, counted, accepting })
    }

    /// The URL of the database through this counter.
    #[must_use]
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// How many round trips clients have made since the last [`RoundTrips::take`].
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// The round trips since the last call, each as the SQL that it carried, and starts anew. A `prepare` is marked so.
    #[must_use]
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RoundTrips {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, server: String, counted: Arc<Mutex<Vec<String>>>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(pass(client, server.clone(), counted.clone()));
    }
}

async fn pass(mut client: TcpStream, server: String, counted: Arc<Mutex<Vec<String>>>) -> Result<()> {
    let mut upstream = TcpStream::connect(&server).await?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    log_in(&mut client, &mut upstream).await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = upstream.split();
    let up = async {
        let mut connection = Connection::default();
        let mut buffer = vec![0; 64 * 1024];
        let mut pending = Vec::new();
        loop {
            let read = from_client.read(&mut buffer).await?;
            if read == 0 {
                to_server.shutdown().await?;
                return anyhow::Ok(());
            }
            pending.extend_from_slice(&buffer[..read]);
            // Counted before it is passed on: whoever sees the answer sees the count.
            connection.read(&mut pending, &counted)?;
            to_server.write_all(&buffer[..read]).await?;
        }
    };
    let down = async {
        tokio::io::copy(&mut from_server, &mut to_client).await?;
        to_client.shutdown().await?;
        anyhow::Ok(())
    };
    tokio::try_join!(up, down)?;
    Ok(())
}

/// Passes the first, untagged message on. Encryption is declined on the server's behalf: the client then speaks in clear.
async fn log_in(client: &mut TcpStream, upstream: &mut TcpStream) -> Result<()> {
    loop {
        let length = client.read_u32().await?;
        let rest = usize::try_from(length)?.checked_sub(EMPTY).filter(|rest| *rest <= 64 * 1024);
        let mut body = vec![0; rest.context("a startup message of impossible length")?];
        client.read_exact(&mut body).await?;
        let code = body.first_chunk().map(|code| u32::from_be_bytes(*code));
        if code == Some(SSL_REQUEST) || code == Some(GSS_REQUEST) {
            client.write_all(b"N").await?;
            continue;
        }
        upstream.write_u32(length).await?;
        upstream.write_all(&body).await?;
        return Ok(());
    }
}

/// What one connection has prepared and bound so far, to say which SQL a round trip carried.
#[derive(Default)]
struct Connection {
    statements: HashMap<Vec<u8>, String>,
    since_sync: Vec<String>,
}

impl Connection {
    /// Takes the whole messages from the front of `pending`.
    fn read(&mut self, pending: &mut Vec<u8>, counted: &Mutex<Vec<String>>) -> Result<()> {
        let mut at = 0;
        while let Some(head) = pending[at..].first_chunk::<5>() {
            let length = usize::try_from(u32::from_be_bytes([head[1], head[2], head[3], head[4]]))?;
            if !(EMPTY..=LONGEST).contains(&length) {
                bail!("a message of impossible length {length}");
            }
            let end = at + 1 + length;
            let Some(body) = pending.get(at + 5..end) else { break };
            self.message(head[0], body, counted);
            at = end;
        }
        pending.drain(..at);
        Ok(())
    }

    fn message(&mut self, tag: u8, body: &[u8], counted: &Mutex<Vec<String>>) {
        let count = |what: String| counted.lock().unwrap_or_else(PoisonError::into_inner).push(what);
        match tag {
            // Parse: name, SQL, parameter types.
            b'P' => {
                let (name, rest) = c_string(body);
                let sql = String::from_utf8_lossy(c_string(rest).0).into_owned();
                self.since_sync.push(format!("prepare: {sql}"));
                self.statements.insert(name.to_vec(), sql);
            }
            // Bind: portal, statement, values.
            b'B' => {
                let statement = c_string(c_string(body).1).0;
                let sql = self.statements.get(statement).cloned();
                // Parse and Bind before one Sync are one trip for one statement: the preparing is not told apart.
                self.since_sync.retain(|carried| Some(carried.trim_start_matches("prepare: ")) != sql.as_deref());
                self.since_sync.push(sql.unwrap_or_else(|| "an unknown statement".to_owned()));
            }
            b'S' if self.since_sync.is_empty() => count("a ping".to_owned()),
            b'S' => count(std::mem::take(&mut self.since_sync).join("; ")),
            b'Q' => match &*String::from_utf8_lossy(c_string(body).0) {
                // The limits of a session end its logging in.
                sql if sql.starts_with("set statement_timeout") => {}
                // The probe that asks whether the server lives, and what it is.
                sql if sql.starts_with("select pg_is_in_recovery()") => count("a probe".to_owned()),
                sql => count(sql.to_owned()),
            },
            b'F' => count("a function call".to_owned()),
            _ => {}
        }
    }
}

/// What stands before the first zero byte, and what follows it.
fn c_string(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}
