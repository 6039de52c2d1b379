//! The connections to a service whose name has several addresses: the same number to each, renewed while calls go on.
//!
//! Invariants: a call goes out on a connection that is open while there is one; an address that the name has lost gets no new call, and
//! what is under way there ends in peace; nothing here waits in the path of a call.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::future::{BoxFuture, join_all};
use tokio::sync::Notify;

use super::connection::Connection;
use crate::metrics;

/// How often the name is asked for its addresses, give or take a fifth, so that callers do not ask in step. While an address cannot be
/// connected to, it is five times as often.
const RESOLVE_EVERY: Duration = Duration::from_secs(5);
/// The least time between two rounds, however many connections are lost.
const PAUSE: Duration = Duration::from_millis(50);

/// Asks for the addresses behind a name.
pub(super) type Resolve = Arc<dyn Fn() -> BoxFuture<'static, std::io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// What asks the system about `host`.
pub(super) fn by_system(host: &str, port: u16) -> Resolve {
    let host: Arc<str> = host.into();
    Arc::new(move || {
        let host = host.clone();
        Box::pin(async move { Ok(tokio::net::lookup_host((&*host, port)).await?.collect()) })
    })
}

/// The open connections of one caller to one service.
#[derive(Debug)]
pub(super) struct Spread {
    /// What the service is called.
    name: &'static str,
    /// How many bytes of each call's answer wait unread.
    window: u32,
    /// Addresses take turns in it, so whoever goes through it in order spreads its calls evenly.
    connections: ArcSwap<Vec<Connection>>,
    /// Told when a connection is lost.
    lost: Arc<Notify>,
}

impl Spread {
    /// Keeps `min_connections` connections open in all, and at least one to each address that `resolve` answers, until what is returned is
    /// dropped. Needs a tokio runtime.
    pub(super) fn begin(name: &'static str, window: u32, min_connections: usize, resolve: Resolve) -> Arc<Self> {
        Self::begin_at_pace(name, window, min_connections, resolve, RESOLVE_EVERY)
    }

    fn begin_at_pace(
        name: &'static str,
        window: u32,
        min_connections: usize,
        resolve: Resolve,
        every: Duration,
    ) -> Arc<Self> {
        let spread = Arc::new(Self { name, window, connections: ArcSwap::default(), lost: Arc::default() });
        tokio::spawn(renew(Arc::downgrade(&spread), min_connections, resolve, every));
        spread
    }

    /// The connection for the call with this number, if one is open.
    pub(super) fn pick(&self, number: usize) -> Option<Connection> {
        let connections = self.connections.load();
        let count = connections.len();
        for further in 0..count {
            let connection = &connections[number.wrapping_add(further) % count];
            if connection.is_open() {
                return Some(connection.clone());
            }
            // Its other side has said goodbye; it may go on for as long as watches do.
            self.lost.notify_one();
        }
        None
    }
}

/// Asks for the addresses and opens what is missing, again and again, while somebody holds `spread`.
async fn renew(spread: Weak<Spread>, min_connections: usize, resolve: Resolve, every: Duration) {
    let mut addresses = Vec::new();
    loop {
        match resolve().await {
            // A name that has no address at the moment is no reason to give up those that answer.
            Ok(found) if !found.is_empty() => addresses = distinct(found),
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "a service's name is not resolved"),
        }
        let Some(held) = spread.upgrade() else { return };
        let whole = open_missing(&held, min_connections, &addresses).await;
        let wait = if whole { every } else { every / 5 };
        // A loss is what ends the wait early; the name is asked again then, since a service that goes leaves its name first.
        let _ = tokio::time::timeout(wait.mul_f64(0.8 + 0.4 * fastrand::f64()), held.lost.notified()).await;
        drop(held);
        tokio::time::sleep(PAUSE).await;
    }
}

fn distinct(mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// Keeps what is open to `addresses` and opens what is missing; answers whether nothing is missing now.
async fn open_missing(spread: &Arc<Spread>, min_connections: usize, addresses: &[SocketAddr]) -> bool {
    let each = min_connections.div_ceil(addresses.len().max(1));
    let mut of_addresses: Vec<Vec<Connection>> = Vec::with_capacity(addresses.len());
    {
        let connections = spread.connections.load();
        for address in addresses {
            let of_one = connections.iter().filter(|one| one.address() == *address && one.is_open());
            of_addresses.push(of_one.take(each).cloned().collect());
        }
    }
    // What is lost or no longer named gets no call while the rest is dialled.
    spread.connections.store(Arc::new(interleaved(&of_addresses, each)));
    let dialled = join_all(addresses.iter().zip(&mut of_addresses).map(async |(address, of_one)| {
        while of_one.len() < each {
            match open(spread, *address).await {
                Some(connection) => of_one.push(connection),
                None => return false,
            }
        }
        true
    }))
    .await;
    spread.connections.store(Arc::new(interleaved(&of_addresses, each)));
    let answering = of_addresses.iter().filter(|of_one| !of_one.is_empty()).count();
    metrics::CLIENT_ADDRESSES.with([spread.name]).set(answering as f64);
    dialled.into_iter().all(|whole| whole)
}

/// The first connection of each address, then the second of each, and so on.
fn interleaved(of_addresses: &[Vec<Connection>], each: usize) -> Vec<Connection> {
    (0..each).flat_map(|turn| of_addresses.iter().filter_map(move |of_one| of_one.get(turn).cloned())).collect()
}

async fn open(spread: &Spread, address: SocketAddr) -> Option<Connection> {
    let opened = Connection::open(address, spread.window, Arc::clone(&spread.lost)).await;
    opened.inspect_err(|error| tracing::debug!(%address, %error, "an address of a service does not answer")).ok()
}

#[cfg(test)]
mod tests;
