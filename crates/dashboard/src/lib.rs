//! The service that owns accounts, API keys, projects, scenes and notices, and answers with the dashboard.
//!
//! A request reads downward: `grpc` parses it, `projects`, `scenes`, `dashboards`, `watches`, `notices` and `accounts` are the
//! rules,
//! `cache` keeps what is read often, `store` has the only SQL, and `wire` makes the messages of the answer.

mod accounts;
mod cache;
mod config;
mod dashboards;
mod error;
mod etag;
mod fields;
mod grpc;
mod notices;
mod once;
mod projects;
mod scenes;
mod store;
mod watches;
mod wire;

use std::net::SocketAddr;

use chassis::drain::Drain;
use chassis::postgres::{Pool, PoolSettings};
use chassis::{nats, server};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub use config::{Config, Pools};
pub use store::for_reads;

/// The service, built and not yet bound.
pub struct Dashboard {
    server: server::Server,
    routes: Routes,
    cache: ::cache::Cache,
    /// Ends watches when the drain begins.
    stop: CancellationToken,
}

/// The service with its ports bound.
pub struct Bound {
    server: server::Bound,
    routes: Routes,
    cache: ::cache::Cache,
    /// Ends watches when the drain begins.
    stop: CancellationToken,
}

impl Dashboard {
    /// Builds the service. It waits for nothing: what is away is found when it is needed. Needs a tokio runtime.
    ///
    /// # Errors
    /// When a setting cannot be used; the error names it.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let store = store::Store::connect_lazy(&config.database_url, &config.pools)?;
        let pool =
            PoolSettings { unresponsive_after: config.pools.write.unresponsive_after, ..::cache::Settings::pool() };
        let pool = Pool::connect_lazy("cache", config.database_url.as_str(), &pool)?;
        let nats = match &config.nats_url {
            Some(url) => Some(nats::connect(url).await?),
            None => None,
        };
        let cache = ::cache::Cache::start(config.cache.clone(), Some(pool), nats)?;
        let dashboards = dashboards::Dashboards::new(store.clone(), config.section_patience);
        let face = wire::Face::new(config.public_url.as_str());
        let dashes = cache::Dashes::new(cache.clone(), dashboards, face);
        let (hub, stop) = (watches::Hub::default(), CancellationToken::new());
        tokio::spawn(stop.clone().run_until_cancelled_owned(hub.clone().feed(cache.changes())));
        let watches = watches::Watches::new(dashes.clone(), hub, config.watch, stop.clone());
        let keys = cache::Keys::new(cache.clone(), store.clone());
        let routes = grpc::routes(
            grpc::ProjectsApi {
                projects: projects::Projects::new(store.clone(), dashes.clone()),
                scenes: scenes::Scenes::new(store.clone(), dashes.clone()),
            },
            grpc::DashboardsApi { notices: notices::Notices::new(store.clone(), dashes.clone()), dashes, watches },
            grpc::AccountsApi { accounts: accounts::Accounts::new(store, keys.clone()), keys },
        );
        let server = server::Server::new("dashboard", &config.server).streaming(grpc::STREAMING);
        Ok(Self { server: server.describe(proto::DESCRIPTOR_SET), routes, cache, stop })
    }

    /// Binds both ports; nothing is answered until [`Bound::serve`].
    ///
    /// # Errors
    /// When an address is taken or not ours.
    pub async fn bind(self) -> Result<Bound, server::Error> {
        Ok(Bound { server: self.server.bind().await?, routes: self.routes, cache: self.cache, stop: self.stop })
    }
}

impl Bound {
    /// The address of the gRPC port.
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
        let (begun, stop) = (drain.token(), self.stop);
        tokio::spawn(async move {
            begun.cancelled().await;
            stop.cancel();
        });
        let result = self.server.serve(self.routes, drain).await;
        self.cache.close().await;
        result
    }
}
