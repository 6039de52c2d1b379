//! A provider that is none: it speaks Replicate's and fal's protocols on one port, keeps a bill, and goes wrong by seed.
//!
//! `door` takes requests, `replicate` and `fal` are the two protocols, `orders` what becomes of an order, `bill` the record on
//! disk, `hooks` what is sent to us; `receiver` is another third party, a customer that webhooks go to. Invariant: an order, a charge or a stop is on the bill before anybody is told of it, so that
//! the bill says what a real provider would want paid, whatever the answer's fate.

mod bill;
mod door;
mod fal;
mod hooks;
mod orders;
mod receiver;
mod replicate;
mod settings;
mod signing;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

pub use bill::{Event, Line, Protocol, read as read_bill};
pub use receiver::{Received, Receiver};
pub use settings::{Faults, Settings};

use crate::orders::Orders;

/// What every video is made from.
const VIDEO: &[u8] = include_bytes!("video.mp4");

/// A running double; it ends when it is dropped.
#[derive(Debug)]
pub struct Double {
    address: SocketAddr,
    serving: AbortHandle,
}

impl Double {
    /// Binds its port and serves.
    ///
    /// # Errors
    /// When the port or the bill cannot be had.
    pub async fn start(settings: Settings) -> Result<Self> {
        // Set once for the process; whoever came first chose the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind(settings.listen).await.context("binding the double's port")?;
        let address = listener.local_addr()?;
        let orders = Arc::new(Orders::new(settings, address)?);
        let reply = move |request| {
            let orders = Arc::clone(&orders);
            async move { door::reply(&orders, request).await }
        };
        let serving = tokio::spawn(door::serve(listener, reply)).abort_handle();
        Ok(Self { address, serving })
    }

    /// Where it listens: Replicate's API below `/replicate/v1`, fal's queue below `/fal`, fal's keys at `/fal-keys`.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
