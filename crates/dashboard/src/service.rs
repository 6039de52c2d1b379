//! The service: its parts put together, its ports, and its drain.

use std::net::SocketAddr;

use cache::Cache;
use chassis::drain::Drain;
use chassis::encoded::Derived;
use chassis::keyring::tokens::Tokens;
use chassis::postgres::{Pool, PoolSettings};
use chassis::{nats, server};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::accounts::Accounts;
use crate::audit::Audit;
use crate::cache::{CachedDashboards, CachedKeys};
use crate::config::Config;
use crate::dashboards::Dashboards;
use crate::erasures;
use crate::grpc::{self, AccountsApi, AuditApi, DashboardsApi, ProjectsApi};
use crate::notices::Notices;
use crate::pages::Pages;
use crate::presenter::Presenter;
use crate::projects::Projects;
use crate::scenes::Scenes;
use crate::store::Store;
use crate::watches::Watches;

/// The service, built and bound to no port.
pub struct Service {
    server: server::Server,
    routes: Routes,
    cache: Cache,
    /// Ends watches and erasures when the drain begins.
    stop: CancellationToken,
    erasures: BoxFuture<'static, ()>,
}

/// The service with its ports bound.
pub struct Bound {
    server: server::Bound,
    routes: Routes,
    cache: Cache,
    /// Ends watches and erasures when the drain begins.
    stop: CancellationToken,
    erasures: BoxFuture<'static, ()>,
}

impl Service {
    /// Builds the service. It waits for no server: one that is away is found so when it is needed. Needs a tokio runtime.
    ///
    /// # Errors
    /// When a setting cannot be used; the error names it.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let store = Store::connect_lazy(&config.database)?;
        let cache = open_cache(config).await?;
        let dashboards = Dashboards::new(store.clone(), config.dashboards.section_timeout);
        let pages = Pages::new(&config.internal_keys);
        let presenter = Presenter::new(config.dashboards.assets.clone(), pages.clone());
        let dashboards = CachedDashboards::new(cache.clone(), dashboards, presenter);
        let keys = CachedKeys::new(cache.clone(), store.clone());

        let stop = CancellationToken::new();
        let tokens = Tokens::new(&config.internal_keys, "watches of dashboards");
        let watches = Watches::start(dashboards.clone(), cache.changes(), config.watch, tokens, stop.clone());

        let projects = Projects::new(store.clone(), dashboards.clone());
        let scenes = Scenes::new(store.clone(), dashboards.clone());
        let notices = Notices::new(store.clone(), dashboards.clone());
        let routes = grpc::routes(
            ProjectsApi { projects, scenes, pages: pages.clone() },
            DashboardsApi {
                dashboards,
                notices,
                watches,
                events: Derived::new(grpc::MAX_EVENTS),
                pages: pages.clone(),
            },
            AccountsApi { accounts: Accounts::new(store.clone(), keys.clone()), keys, pages: pages.clone() },
            AuditApi { audit: Audit::new(store.clone()), pages },
        );
        let server = server::Server::new("dashboard", &config.server)
            .streaming(grpc::STREAMING)
            .describe(proto::DESCRIPTOR_SET)
            .message_limits(proto::message_limits("dashboard"))
            .guarded(&config.internal_keys, proto::scopes("dashboard"), proto::callers("dashboard"))
            .advertise(proto::services("dashboard"));
        let erasures = erasures::run(store, config.erasures, stop.clone()).boxed();
        Ok(Self { server, routes, cache, stop, erasures })
    }

    /// Binds its ports; nothing is answered until [`Bound::serve`].
    ///
    /// # Errors
    /// When an address is taken or not ours.
    pub async fn bind(self) -> Result<Bound, server::Error> {
        let Self { server, routes, cache, stop, erasures } = self;
        Ok(Bound { server: server.bind().await?, routes, cache, stop, erasures })
    }
}

impl Bound {
    /// The address of the public port.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// The address of the port for internal methods.
    #[must_use]
    pub fn internal_addr(&self) -> SocketAddr {
        self.server.internal_addr()
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
        let (drain_begun, stop) = (drain.token(), self.stop);
        tokio::spawn(async move {
            drain_begun.cancelled().await;
            stop.cancel();
        });
        let erasures = tokio::spawn(self.erasures);
        let result = self.server.serve(self.routes, drain).await;
        // What is cut off here is a transaction that leaves nothing.
        erasures.abort();
        self.cache.close().await;
        result
    }
}

/// The cache, with a pool of its own: its relay and its reads of versions must not wait behind users' reads.
async fn open_cache(config: &Config) -> anyhow::Result<Cache> {
    let pool = PoolSettings { unresponsive_after: config.database.write.unresponsive_after, ..cache::Settings::pool() };
    let pool = Pool::connect_lazy("cache", config.database.url.as_str(), &pool)?;
    let nats = match &config.nats_url {
        Some(url) => Some(nats::connect(url).await?),
        None => None,
    };
    Ok(Cache::start(config.cache.clone(), Some(pool), nats)?)
}
