//! A TCP proxy that makes faults: latency, a black hole in one direction, a reset, an end after so many bytes, an open
//! connection that nobody serves.
//!
//! Faults hold for open connections and new ones alike, from the moment they are set until [`Proxy::heal`].

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Faults {
    latency: Duration,
    swallow_to_server: bool,
    swallow_to_client: bool,
    cut_after: Option<usize>,
    refuse: bool,
    hang: bool,
    forget_idle: Option<Duration>,
    /// Raised by each reset: a connection ends when it differs from what it began with.
    resets: u64,
}

/// A proxy before one server; it and its connections end when it is dropped.
pub struct Proxy {
    address: SocketAddr,
    faults: Arc<watch::Sender<Faults>>,
    server: Arc<Mutex<String>>,
    accepting: AbortHandle,
}

impl Proxy {
    /// Listens on a free loopback port and passes connections on to `server`, a host with its port.
    pub async fn before(server: impl Into<String>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("binding the proxy")?;
        let address = listener.local_addr()?;
        let faults = Arc::new(watch::Sender::new(Faults::default()));
        let server = Arc::new(Mutex::new(server.into()));
        let accepting = tokio::spawn(accept(listener, server.clone(), faults.clone())).abort_handle();
        Ok(Self { address, faults, server, accepting })
    }

    /// A proxy before the server of a URL, which names its port.
    pub async fn before_url(url: &str) -> Result<Self> {
        let url = url::Url::parse(url).with_context(|| format!("not a URL: {url}"))?;
        let (host, port) =
            (url.host_str().context("a URL without a host")?, url.port().context("a URL without a port")?);
        Self::before(format!("{host}:{port}")).await
    }

    /// Resets every open connection, and passes new ones on to another server: a failover.
    pub fn lead_to(&self, server: impl Into<String>) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = server.into();
        self.reset();
    }

    /// Passes new connections on to another server; open ones go on to the one that they have.
    pub fn divert(&self, server: impl Into<String>) {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = server.into();
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `url` with the proxy's address in place of its host and port.
    pub fn url(&self, url: &str) -> Result<String> {
        at(url, self.address)
    }

    /// Holds each chunk back for `latency`, in both directions.
    pub fn latency(&self, latency: Duration) {
        self.faults.send_modify(|faults| faults.latency = latency);
    }

    /// Swallows everything that goes in `direction`: connections stay open, and nobody hears of it.
    pub fn black_hole(&self, direction: Direction) {
        self.faults.send_modify(|faults| match direction {
            Direction::ToServer => faults.swallow_to_server = true,
            Direction::ToClient => faults.swallow_to_client = true,
        });
    }

    /// Swallows what comes on a connection on which nothing went for so long, from then on: what a router does that forgot it.
    pub fn forget_idle(&self, after: Duration) {
        self.faults.send_modify(|faults| faults.forget_idle = Some(after));
    }

    /// Resets every open connection (RST); new ones are let through.
    pub fn reset(&self) {
        self.faults.send_modify(|faults| faults.resets += 1);
    }

    /// Resets every open connection, and each new one as soon as it is made.
    pub fn refuse(&self) {
        self.faults.send_modify(|faults| {
            faults.refuse = true;
            faults.resets += 1;
        });
    }

    /// Resets every open connection, and accepts new ones without ever serving them: a server that hangs.
    pub fn hang(&self) {
        self.faults.send_modify(|faults| {
            faults.hang = true;
            faults.resets += 1;
        });
    }

    /// Resets each connection once it has passed on `bytes` bytes to the client, counted from its beginning.
    pub fn cut_after(&self, bytes: usize) {
        self.faults.send_modify(|faults| faults.cut_after = Some(bytes));
    }

    /// Ends all faults. What a black hole swallowed stays lost, so a connection that it hit may be of no use any more.
    pub fn heal(&self) {
        self.faults.send_modify(|faults| *faults = Faults { resets: faults.resets, ..Faults::default() });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// `url` with `address` in place of its host and port.
pub(crate) fn at(url: &str, address: SocketAddr) -> Result<String> {
    let mut url = url::Url::parse(url).with_context(|| format!("not a URL: {url}"))?;
    url.set_host(Some(&address.ip().to_string())).context("a URL that cannot have a host")?;
    url.set_port(Some(address.port())).ok().context("a URL that cannot have a port")?;
    Ok(url.to_string())
}

async fn accept(listener: TcpListener, server: Arc<Mutex<String>>, faults: Arc<watch::Sender<Faults>>) {
    // Dropped with this task, and the connections with it.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let server = server.lock().unwrap_or_else(PoisonError::into_inner).clone();
        connections.spawn(pass(client, server, faults.subscribe()));
    }
}

async fn pass(client: TcpStream, server: String, mut faults: watch::Receiver<Faults>) {
    let began = *faults.borrow_and_update();
    if began.hang {
        // Held without a word, and reset when it is over: nobody will answer what was sent meanwhile.
        let _ = faults.wait_for(|now| !now.hang || now.resets != began.resets).await;
        let _ = client.set_zero_linger();
        return;
    }
    let upstream = if began.refuse { None } else { TcpStream::connect(&server).await.ok() };
    let Some(upstream) = upstream else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), upstream.set_nodelay(true));
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = upstream.into_split();
    let reset = {
        let (first, second) = (faults.clone(), faults.clone());
        let up = copy(&mut from_client, &mut to_server, first, Direction::ToServer);
        let down = copy(&mut from_server, &mut to_client, second, Direction::ToClient);
        let both = async { tokio::try_join!(up, down) };
        tokio::select! {
            passed = both => passed.is_err(),
            _ = faults.wait_for(|now| now.resets != began.resets) => true,
        }
    };
    if reset {
        let _ = (to_client.as_ref().set_zero_linger(), to_server.as_ref().set_zero_linger());
    }
    // The whole stream, not half of it: a dropped write half alone would send FIN where RST is due.
    drop((from_client.reunite(to_client), from_server.reunite(to_server)));
}

/// The connection is to be reset.
struct Reset;

async fn copy(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    faults: watch::Receiver<Faults>,
    direction: Direction,
) -> Result<(), Reset> {
    let mut buffer = vec![0; 64 * 1024];
    let (mut passed, mut forgotten, mut last) = (0, false, Instant::now());
    loop {
        let read = from.read(&mut buffer).await.map_err(|_| Reset)?;
        let now = *faults.borrow();
        forgotten |= now.forget_idle.is_some_and(|after| last.elapsed() > after);
        last = Instant::now();
        if forgotten {
            // Not the end either: whoever is at the other side hears nothing any more.
            if read == 0 {
                std::future::pending::<()>().await;
            }
            continue;
        }
        if read == 0 {
            let _ = to.shutdown().await;
            return Ok(());
        }
        if !now.latency.is_zero() {
            tokio::time::sleep(now.latency).await;
        }
        let swallowed = match direction {
            Direction::ToServer => now.swallow_to_server,
            Direction::ToClient => now.swallow_to_client,
        };
        if swallowed {
            continue;
        }
        let room = match (direction, now.cut_after) {
            (Direction::ToClient, Some(limit)) => limit.saturating_sub(passed),
            _ => usize::MAX,
        };
        let part = read.min(room);
        to.write_all(&buffer[..part]).await.map_err(|_| Reset)?;
        passed += part;
        if part < read {
            return Err(Reset);
        }
    }
}
