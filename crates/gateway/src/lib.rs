//! The gateway: the one public door of Rushes.
//!
//! It finds a method in the table made from the protos, asks whose key it was shown, holds limits and deadlines, and
//! forwards the HTTP/2 body as bytes. Beside that it serves assets over HTTP.
//!
//! Invariants: no request reaches a service without an account that the gateway itself has put there, and no body is
//! decoded here.

mod assets;
mod config;
mod door;
mod forward;
mod hooks;
mod keys;
mod routes;

use std::net::SocketAddr;

use chassis::{
    blobs::{self, Store},
    client,
    drain::Drain,
    nats,
    server::{self, Bound, Server, Timeouts},
};

pub use config::{Config, Origins, Upstreams};

use crate::{assets::Assets, door::Door, forward::Forward, hooks::Hooks, keys::Keys, routes::Routes};

/// Why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The object storage cannot be used.
    #[error(transparent)]
    Storage(#[from] blobs::Error),
    /// The URL of NATS cannot be used.
    #[error(transparent)]
    Nats(#[from] nats::Error),
    /// The listener to changes cannot be set up.
    #[error(transparent)]
    Changes(#[from] cache::Error),
}

/// A gateway that is set up but bound to no port.
#[derive(Debug)]
pub struct Gateway {
    server: Server,
    forward: Forward,
    assets: Assets,
    hooks: Hooks,
    origins: Origins,
}

/// A gateway with its ports bound.
#[derive(Debug)]
pub struct Listening {
    bound: Bound,
    forward: Forward,
    assets: Assets,
    hooks: Hooks,
    origins: Origins,
}

impl Gateway {
    /// Sets the gateway up. No service behind it, nor NATS, needs to answer yet.
    ///
    /// # Errors
    /// When a setting cannot be used; the error names it.
    pub async fn open(config: &Config) -> Result<Self, Error> {
        let Upstreams { dashboard, generation_status, thumbnail_worker, generation_worker } = &config.upstreams;
        let dashboard = client::connect("dashboard", dashboard);
        let routes = Routes::new(|upstream| match upstream {
            "dashboard" => Some(dashboard.clone()),
            "generation-status" => Some(client::connect("generation-status", generation_status)),
            "thumbnail-worker" => Some(client::connect("thumbnail-worker", thumbnail_worker)),
            _ => None,
        });
        let server = Server::new("gateway", &config.server)
            .public()
            .describe(proto::DESCRIPTOR_SET)
            .advertise(routes.services());
        let server = routes.methods().fold(server, |server, method| server.method(method.path, timeouts(method)));
        let mut keys = Keys::new(dashboard.clone(), config.key_lifetime);
        if let Some(url) = &config.nats_url {
            keys.listen(config.cache.clone(), nats::connect(url).await?)?;
        }
        Ok(Self {
            server,
            forward: Forward::new(routes, keys),
            assets: Assets::new(Store::open(&config.blobs)?),
            hooks: Hooks::new(generation_worker.as_ref().map(|uri| client::connect("generation-worker", uri))),
            origins: config.origins.clone(),
        })
    }

    /// Binds the two ports.
    ///
    /// # Errors
    /// When an address is taken or not ours.
    pub async fn bind(self) -> Result<Listening, server::Error> {
        let Self { server, forward, assets, hooks, origins } = self;
        Ok(Listening { bound: server.bind().await?, forward, assets, hooks, origins })
    }
}

impl Listening {
    /// The address of the public port.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.bound.addr()
    }

    /// The address of the admin port.
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.bound.admin_addr()
    }

    /// Serves until `drain` has begun and the running calls have ended.
    ///
    /// # Errors
    /// When one of the servers fails.
    pub async fn serve(self, drain: Drain) -> Result<(), server::Error> {
        let Self { bound, forward, assets, hooks, origins } = self;
        bound.serve_around(forward, |rpc| Door::new(rpc, assets, hooks, &origins), drain).await
    }
}

/// What a method's row in the table means for its deadlines. An upload takes its client's time, so it has all that the
/// row allows unless the client says less.
fn timeouts(method: &proto::Method) -> Timeouts {
    let default = if method.client_streaming { method.max_timeout } else { Timeouts::default().default };
    match method.max_timeout {
        Some(longest) => Timeouts { default: default.map(|d| d.min(longest)), longest: Some(longest) },
        None => Timeouts::NONE,
    }
}
