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
use crate::erasures;
use crate::ffmpeg::Ffmpeg;
use crate::grpc;
use crate::keyed_lock::KeyedLock;
use crate::metrics;
use crate::orphans::Orphans;
use crate::pages::Pages;
use crate::retention;
use crate::runner::Runner;
use crate::scratch::Scratch;
use crate::store::{KIND, Store};
use crate::thumbnails::Thumbnails;

/// The service, built and bound to no port.
pub struct Service {
    server: server::Server,
    routes: Routes,
    runner: Runner,
    notifier: Notifier,
    pool: DecodePool,
    orphans: Orphans,
    assets: Assets,
    retention: retention::Settings,
    erasures: erasures::Settings,
}

/// The service with its ports bound.
pub struct Bound {
    server: server::Bound,
    routes: Routes,
    runner: Runner,
    notifier: Notifier,
    pool: DecodePool,
    orphans: Orphans,
    assets: Assets,
    retention: retention::Settings,
    erasures: erasures::Settings,
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
        let scratch = |bytes, count_refused| Scratch {
            directory: config.uploads.scratch.clone(),
            budget: ByteBudget::new(bytes, count_refused),
        };
        let thumbnails = Thumbnails {
            store: Store::new(pool, notifier.clone()),
            blobs: blobs::Store::open(&config.blobs)?,
            pool: DecodePool::new(config.decode_pool.clone()),
            sources: scratch(config.max_output_bytes, metrics::source_refused),
            ffmpeg: Arc::new(Ffmpeg::new(config.ffmpeg.clone())),
            rendering: KeyedLock::default(),
        };
        let runner = Runner::new(thumbnails.clone(), notifier.clone(), config.runner.slots);
        let media = config.uploads.limits;
        let longest = media.video_bytes.max(media.sound_bytes).max(config.decode_pool.pictures.bytes);
        let mut uploads = scratch(config.uploads.scratch_budget, metrics::upload_refused);
        uploads.budget = uploads.budget.with_share(longest.max(config.uploads.scratch_budget / 4));
        let uploads = Rules { pictures: config.decode_pool.pictures, media, scratch: uploads };
        let outputs = scratch(config.max_output_bytes, metrics::output_refused);
        let pool = thumbnails.pool.clone();
        let orphans =
            Orphans { store: thumbnails.store.clone(), blobs: thumbnails.blobs.clone(), settings: config.orphans };
        let assets =
            Assets { thumbnails, uploads, outputs, max_output_bytes: config.max_output_bytes, quota: config.quota };
        let pages = Pages::new(&config.internal_keys);
        let routes = grpc::routes(assets.clone(), config.assets.clone(), pages, config.uploads.idle_timeout);
        let server = server::Server::new("thumbnail-worker", &config.server)
            .describe(proto::DESCRIPTOR_SET)
            .message_limits(proto::message_limits("thumbnail-worker"))
            .guarded(&config.internal_keys, proto::scopes("thumbnail-worker"), proto::callers("thumbnail-worker"))
            .advertise(proto::services("thumbnail-worker"));
        let server = grpc::TIMEOUTS.into_iter().fold(server, |server, (path, timeouts)| server.method(path, timeouts));
        Ok(Self {
            server,
            routes,
            runner,
            notifier,
            pool,
            orphans,
            assets,
            retention: config.retention,
            erasures: config.erasures,
        })
    }

    /// Binds its ports; nothing is answered until [`Bound::serve`].
    ///
    /// # Errors
    /// When an address is taken or not ours.
    pub async fn bind(self) -> Result<Bound, server::Error> {
        let server = self.server.bind().await?;
        let Self { routes, runner, notifier, pool, orphans, assets, retention, erasures, .. } = self;
        Ok(Bound { server, routes, runner, notifier, pool, orphans, assets, retention, erasures })
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

    /// Answers, and makes queued thumbnails, until `drain` has begun and what runs has ended or its grace period has passed.
    ///
    /// # Errors
    /// When a server fails.
    pub async fn serve(self, drain: Drain) -> Result<(), server::Error> {
        // So the log says at the start how decoders are confined, or that there are none.
        tokio::spawn(async move { self.pool.warm().await });
        let relay = tokio::spawn(self.notifier.relay());
        let runner = tokio::spawn(self.runner.run(drain.clone()));
        let orphans = tokio::spawn(self.orphans.run(drain.clone()));
        let erasures = tokio::spawn(erasures::run(self.assets.clone(), self.erasures, drain.clone()));
        let retention = tokio::spawn(retention::run(self.assets, self.retention, drain.clone()));
        let served = self.server.serve(self.routes, drain.clone()).await;
        // A server that failed by itself ends the runner too, which else would claim jobs for ever.
        drain.begin();
        if let Err(error) = runner.await {
            tracing::error!(%error, "the runner ended by itself");
        }
        if let Err(error) = orphans.await {
            tracing::error!(%error, "the scan of the storage ended by itself");
        }
        if let Err(error) = retention.await {
            tracing::error!(%error, "retention ended by itself");
        }
        if let Err(error) = erasures.await {
            tracing::error!(%error, "erasures ended by themselves");
        }
        relay.abort();
        served
    }
}
