//! A running double: one port, served by a task that ends with it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::faults::Faults;
use crate::orders::Orders;
use crate::outages::Outage;
use crate::settings::Settings;
use crate::{routes, server};

/// A running double; it ends when it is dropped.
#[derive(Debug)]
pub struct Double {
    address: SocketAddr,
    orders: Arc<Orders>,
    serving: AbortHandle,
}

impl Double {
    /// Binds its port and serves.
    ///
    /// # Errors
    /// When the port cannot be bound or the bill cannot be opened.
    pub async fn start(settings: Settings) -> Result<Self> {
        // Process-wide; an error only says that somebody installed the same one before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = TcpListener::bind(settings.listen).await.context("binding the double's port")?;
        let address = listener.local_addr()?;
        let orders = Arc::new(Orders::open(settings, address)?);
        let (refusing, serves) = (orders.outages().refusing(), Arc::clone(&orders));
        let reply = move |request| {
            let orders = Arc::clone(&serves);
            async move { routes::reply(&orders, request).await }
        };
        let serving = tokio::spawn(server::serve(listener, refusing, reply)).abort_handle();
        Ok(Self { address, orders, serving })
    }

    /// Where it listens: Replicate's API below `/replicate/v1`; fal's queue below `/fal`, its keys at
    /// `/fal-keys`, its storage below `/fal-rest`, its prices below `/fal-api`; OpenRouter's below `/openrouter/api/v1`; boxes below `/cog/{name}`.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes how often what goes wrong, for what is ordered, asked and fetched from now on. `POST /double/faults` does the same.
    pub fn set_faults(&self, faults: Faults) {
        self.orders.chance().set_faults(faults);
    }

    /// SHA-256 of every file that was uploaded to its storages, sorted.
    #[must_use]
    pub fn uploads(&self) -> Vec<String> {
        self.orders.uploads().sha256()
    }

    /// Begins an outage. `POST /double/outages` does the same.
    pub fn begin_outage(&self, outage: Outage) {
        self.orders.outages().begin(outage);
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
