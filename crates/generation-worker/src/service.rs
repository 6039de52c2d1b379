//! The service as a whole: built without waiting for anything, bound, and served until its drain has ended.

use std::net::SocketAddr;

use chassis::drain::Drain;
use chassis::process;
use chassis::server::{self, Server};
use chassis::{blobs, client};
use proto::work::v1::hook_service_server::HookServiceServer;
use proto::work::v1::provider_service_server::ProviderServiceServer;
use tonic::service::Routes;

use crate::checks;
use crate::clients::{AssetClient, WorkClient};
use crate::config::Config;
use crate::grpc::Grpc;
use crate::media::Media;
use crate::orders::Orders;
use crate::outputs::Outputs;
use crate::providers::Registry;
use crate::retry_budget::RetryBudgets;
use crate::webhooks::Webhooks;
use crate::worker::Worker;

/// The service's name.
const NAME: &str = "generation-worker";

/// The service, built but bound to no port.
pub struct Service {
    worker: Worker,
    providers: Registry,
    work: WorkClient,
    grpc: Grpc,
    server: Server,
}

/// The service with its ports bound; nothing is claimed or answered until [`Bound::serve`].
pub struct Bound {
    worker: Worker,
    providers: Registry,
    work: WorkClient,
    grpc: Grpc,
    server: server::Bound,
}

impl Service {
    /// Builds the service with the providers that the settings name. Nothing needs to be reachable yet.
    ///
    /// # Errors
    /// When the object storage cannot be opened or no HTTP client be built.
    #[expect(clippy::unused_async, reason = "every service opens alike")]
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        Self::with_providers(config, Registry::open(config)?)
    }

    /// Builds the service with these providers.
    ///
    /// # Errors
    /// When the object storage cannot be opened.
    pub fn with_providers(config: &Config, providers: Registry) -> anyhow::Result<Self> {
        let connect = |name, uri| client::connect(name, uri).as_service(NAME, &config.internal_keys);
        let work = WorkClient::new(connect("generation-status", &config.upstreams.generation_status));
        let assets = AssetClient::new(connect("thumbnail-worker", &config.upstreams.thumbnail_worker));
        let blobs = blobs::Store::open(&config.blobs)?;
        let media = Media::new(blobs.clone(), config.links.clone());
        let outputs = Outputs::new(blobs, assets, &config.downloads);
        let grpc = Grpc::new(
            Webhooks::new(providers.clone(), work.clone(), config.hooks.clone()),
            providers.clone(),
            work.clone(),
        );
        let orders = Orders {
            providers: providers.clone(),
            work: work.clone(),
            media,
            outputs,
            timeout: config.work.order_timeout,
            retries: RetryBudgets::default(),
        };
        // A claim keeps what a worker let run out from workers of its name for one more lease, so no two starts may share one.
        let name = process::instance_name(NAME);
        let worker = Worker::new(orders, name, config.work.slots, config.work.heartbeat);
        let server = Server::new(NAME, &config.server)
            .describe(proto::DESCRIPTOR_SET)
            .message_limits(proto::message_limits(NAME))
            .guarded(&config.internal_keys, proto::scopes(NAME), proto::callers(NAME))
            .advertise(proto::services(NAME));
        Ok(Self { worker, providers, work, grpc, server })
    }

    /// The name under which it claims work; no other start of a worker has it.
    #[must_use]
    pub fn worker_name(&self) -> &str {
        self.worker.name()
    }

    /// Binds both ports.
    ///
    /// # Errors
    /// When an address is taken or not ours.
    pub async fn bind(self) -> Result<Bound, server::Error> {
        let Self { worker, providers, work, grpc, server } = self;
        Ok(Bound { worker, providers, work, grpc, server: server.bind().await? })
    }
}

impl Bound {
    /// The address of the gRPC port, which is internal.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// The same address: everything that is answered here is internal.
    #[must_use]
    pub fn internal_addr(&self) -> SocketAddr {
        self.server.internal_addr()
    }

    /// The address of the admin port.
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.server.admin_addr()
    }

    /// Works, and takes webhooks, until `drain` begins and to the end of what runs then.
    ///
    /// # Errors
    /// When a port cannot be served.
    pub async fn serve(self, drain: Drain) -> Result<(), server::Error> {
        let Self { worker, providers, work, grpc, server } = self;
        tracing::info!(worker = worker.name(), providers = ?worker.providers(), "claiming work");
        // Beside the work: a provider that does not answer keeps nobody from starting.
        let token = drain.token();
        tokio::spawn(async move { token.run_until_cancelled(checks::report(providers, work)).await });
        let routes = Routes::new(HookServiceServer::new(grpc.clone())).add_service(ProviderServiceServer::new(grpc));
        let mut working = Box::pin(worker.run(drain.clone()));
        tokio::select! {
            () = &mut working => Ok(()),
            served = server.serve(routes, drain) => {
                served?;
                // A port that nobody calls ends as soon as the drain begins; what runs has its grace period still.
                working.await;
                Ok(())
            }
        }
    }
}
