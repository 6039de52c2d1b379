//! The service: its parts put together, its two ports, its worker, and its drain.

use std::net::SocketAddr;
use std::sync::Arc;

use chassis::drain::Drain;
use chassis::postgres::Pool;
use chassis::{blobs, nats, server};
use jobs::Notifier;
use tonic::service::Routes;

use crate::assets::{Assets, Rules};
use crate::byte_budget::ByteBudget;
use crate::config::Config;
use crate::decode_pool::DecodePool;
use crate::grpc;
use crate::keyed_lock::KeyedLock;
use crate::metrics;
use crate::runner::Runner;
use crate::scratch::Scratch;
use crate::store::{KIND, Store};
use crate::thumbnails::Thumbnails;
use crate::videos::ffmpeg::Ffmpeg;

/// The service, built and bound to no port.
pub struct Service {
    server: server::Server,
    routes: Routes,
    runner: Runner,
    notifier: Notifier,
}

/// The service with its ports bound.
pub struct Bound {
    server: server::Bound,
    routes: Routes,
    runner: Runner,
    notifier: Notifier,
}

impl Service {
    /// Builds the service. It waits for no server: one that is away is found so when it is needed. Needs a tokio runtime.
    ///
    /// # Errors
    /// When a URL or the directory of the object storage cannot be used.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let pool = Pool::connect_lazy("thumbnails", &config.database.url, &config.database.pool)?;
        let nats = match &config.nats_url {
            Some(url) => Some(nats::connect(url).await?),
            None => None,
        };
        let notifier = Notifier::new(KIND, nats);
        let thumbnails = Thumbnails {
            store: Store::new(pool, notifier.clone()),
            blobs: blobs::Store::open(&config.blobs)?,
            pool: DecodePool::new(config.decode_pool),
            memory: ByteBudget::new(config.memory_budget, metrics::memory_refused),
            ffmpeg: Arc::new(Ffmpeg::new(config.ffmpeg.clone())),
            pictures: config.pictures,
            videos: config.videos.poster,
            rendering: KeyedLock::default(),
        };
        let runner = Runner::new(thumbnails.clone(), notifier.clone(), config.runner.slots);
        let uploads = Rules {
            pictures: config.pictures,
            media: config.uploads.limits,
            memory: thumbnails.memory.clone(),
            scratch: Scratch {
                directory: config.ffmpeg.scratch.clone(),
                budget: ByteBudget::new(config.uploads.scratch_budget, metrics::scratch_refused),
            },
        };
        let assets = Assets { thumbnails, uploads, max_output_bytes: config.videos.max_bytes };
        let routes = grpc::routes(assets, config.assets.clone());
        let server = server::Server::new("thumbnail-worker", &config.server)
            .describe(proto::DESCRIPTOR_SET)
            .message_limits(proto::message_limits("thumbnail-worker"))
            .advertise(proto::services("thumbnail-worker"));
        let server = grpc::TIMEOUTS.into_iter().fold(server, |server, (path, timeouts)| server.method(path, timeouts));
        Ok(Self { server, routes, runner, notifier })
    }

    /// Binds both ports; nothing is answered until [`Bound::serve`].
    ///
    /// # Errors
    /// When an address is taken or not ours.
    pub async fn bind(self) -> Result<Bound, server::Error> {
        let server = self.server.bind().await?;
        Ok(Bound { server, routes: self.routes, runner: self.runner, notifier: self.notifier })
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

    /// Answers, and makes queued thumbnails, until `drain` has begun and what runs has ended or its grace period has passed.
    ///
    /// # Errors
    /// When a server fails.
    pub async fn serve(self, drain: Drain) -> Result<(), server::Error> {
        let relay = tokio::spawn(self.notifier.relay());
        let runner = tokio::spawn(self.runner.run(drain.clone()));
        let served = self.server.serve(self.routes, drain.clone()).await;
        // A server that failed by itself ends the runner too, which else would claim jobs for ever.
        drain.begin();
        if let Err(error) = runner.await {
            tracing::error!(%error, "the runner ended by itself");
        }
        relay.abort();
        served
    }
}
