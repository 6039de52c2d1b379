//! The service: its parts put together, its two ports, and its drain.

use std::net::SocketAddr;

use cache::Cache;
use chassis::{
    blobs::Store,
    client,
    drain::Drain,
    nats,
    server::{self, ByAddress, Server, Timeouts},
};

use crate::{
    assets::Assets,
    config::{Config, Origins, Upstreams},
    forward::{Forward, Way},
    hooks::Hooks,
    ingress::Ingress,
    keys::Keys,
    limits::Limits,
    routes::Routes,
};

/// The service's name.
const NAME: &str = "gateway";

/// The gateway, built and bound to no port.
#[derive(Debug)]
pub struct Service {
    server: Server,
    forward: Forward,
    assets: Assets,
    hooks: Hooks,
    origins: Origins,
}

/// The gateway with its ports bound.
#[derive(Debug)]
pub struct Bound {
    server: server::Bound,
    forward: Forward,
    assets: Assets,
    hooks: Hooks,
    origins: Origins,
}

impl Service {
    /// Builds the gateway. It waits for no server: neither the services behind it nor NATS need to answer yet.
    ///
    /// # Errors
    /// When a setting cannot be used; the error names it.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let Upstreams {
            dashboard,
            dashboard_internal,
            generation_status,
            thumbnail_worker,
            generation_worker_internal,
        } = &config.upstreams;
        let inside = |name, uri| client::connect(name, uri).as_service(NAME, &config.internal_keys);
        let routes = Routes::new(|upstream, is_watch| {
            let connect = if is_watch { client::connect_for_watches } else { client::connect };
            match upstream {
                "dashboard" => Some(connect("dashboard", dashboard)),
                "generation-status" => Some(connect("generation-status", generation_status)),
                "thumbnail-worker" => Some(connect("thumbnail-worker", thumbnail_worker)),
                _ => None,
            }
        });
        let server = Server::new(NAME, &config.server)
            .public(&config.door)
            .describe(proto::DESCRIPTOR_SET)
            .advertise(routes.services());
        let server = routes.methods().fold(server, |server, method| server.method(method.path, timeouts(method)));
        let mut limits = Limits::new(config.limits);
        let mut keys = Keys::new(inside("dashboard", dashboard_internal), config.key_lifetime);
        let mut cache = None;
        if let Some(url) = &config.nats_url {
            let client = nats::connect(url).await?;
            limits = limits.shared_over(client.clone(), &config.cache.space);
            // Without Redis: what is kept here came from a service, and only a load from the database may be shared.
            let settings = cache::Settings { redis_url: None, relay: false, ..config.cache.clone() };
            let changes = Cache::start(settings, None, Some(client))?;
            keys.invalidate_on_change(changes.clone());
            cache = Some(changes).filter(|_| config.cache_answers);
        }
        let forward = Forward::new(routes, keys, limits, config.max_watches, &config.internal_keys);
        let forward = match cache {
            Some(cache) => forward.keeping_answers(cache),
            None => forward,
        };
        let places = ByAddress::new("asset", config.max_asset_answers, config.max_asset_answers_per_address);
        Ok(Self {
            server,
            forward,
            assets: Assets::new(
                Store::open(&config.blobs)?,
                config.assets.clone(),
                config.internal_keys.clone(),
                places,
                config.door.write_timeout,
            ),
            hooks: Hooks::new(generation_worker_internal.as_ref().map(|uri| inside("generation-worker", uri))),
            origins: config.origins.clone(),
        })
    }

    /// Binds both ports; nothing is answered until [`Bound::serve`].
    ///
    /// # Errors
    /// When an address is taken or not ours.
    pub async fn bind(self) -> Result<Bound, server::Error> {
        let Self { server, forward, assets, hooks, origins } = self;
        Ok(Bound { server: server.bind().await?, forward, assets, hooks, origins })
    }
}

impl Bound {
    /// The address of the public port.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// The address of the admin port.
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.server.admin_addr()
    }

    /// Serves until `drain` has begun and the running calls have ended or its grace period has passed.
    ///
    /// # Errors
    /// When a server fails.
    pub async fn serve(self, drain: Drain) -> Result<(), server::Error> {
        let Self { server, forward, assets, hooks, origins } = self;
        let forward = Way::from(forward.until(drain.clone()));
        // On the heap: both servers and all that they wait for.
        Box::pin(server.serve_around(forward, |rpc| Ingress::new(rpc, assets, hooks, &origins), drain)).await
    }
}

/// The deadlines of a method, from its row of the table. An upload takes its client's time, so it has all that the row
/// allows unless the client says less.
fn timeouts(method: &proto::Method) -> Timeouts {
    let default = if method.client_streaming { method.max_timeout } else { Timeouts::default().default };
    match method.max_timeout {
        Some(longest) => Timeouts { default: default.map(|d| d.min(longest)), longest: Some(longest) },
        None => Timeouts::NONE,
    }
}
