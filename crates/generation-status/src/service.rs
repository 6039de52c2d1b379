//! The service put together: pools, cache, rules, handlers, and the background tasks that run while it serves.

use anyhow::Context as _;
use chassis::drain::Drain;
use chassis::egress::Egress;
use chassis::keyring::InternalKeys;
use chassis::keyring::tokens::Tokens;
use chassis::postgres::{Pool, PoolSettings};
use chassis::{nats, server};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use jobs::Notifier;
use std::net::SocketAddr;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

use crate::block_reasons::BlockReasons;
use crate::bulk::Bulk;
use crate::cache::CachedGenerations;
use crate::config::Config;
use crate::costs;
use crate::credits::Credits;
use crate::deletions::Deletions;
use crate::erasures;
use crate::events;
use crate::generations::Generations;
use crate::grpc::{
    self, ClaimStreams, CreditsApi, GenerationsApi, ModelsApi, QueuesApi, UsageApi, WebhooksApi, WorkApi,
};
use crate::margins::Margins;
use crate::model::{DELIVERY_JOBS, GENERATION_JOBS};
use crate::models::Models;
use crate::pages::Pages;
use crate::presenter::Presenter;
use crate::progress::Progress;
use crate::queues::Queues;
use crate::reconciler::Reconciler;
use crate::retention;
use crate::serving::Serving;
use crate::store::{AccountLimits, Pools, Store};
use crate::usage::Usages;
use crate::watches::{self, GenerationHub, Watches};
use crate::webhooks::{self, EventEncoder, Sender, Webhooks};
use crate::work::Work;

/// The service, built and not bound to its ports.
pub struct Service {
    server: server::Settings,
    internal_keys: InternalKeys,
    running: Running,
}

/// The service with its ports bound.
pub struct Bound {
    server: server::Bound,
    running: Running,
}

/// All that runs while the service serves.
struct Running {
    routes: Routes,
    /// Each ends by itself after `stop`.
    tasks: Vec<BoxFuture<'static, ()>>,
    /// Cancelled when the drain begins.
    stop: CancellationToken,
    cached: CachedGenerations,
}

impl Service {
    /// Builds everything and waits for nothing: PostgreSQL, NATS and Redis may be away.
    ///
    /// # Errors
    /// When a URL cannot be read, or the client of webhooks cannot be built.
    pub async fn open(config: &Config) -> anyhow::Result<Self> {
        let internal_keys = config.internal_keys.clone();
        Ok(Self { server: config.server, internal_keys, running: Running::build(config).await? })
    }

    /// Binds its ports.
    ///
    /// # Errors
    /// When an address is in use or not ours.
    pub async fn bind(self) -> Result<Bound, server::Error> {
        let server = server::Server::new("generation-status", &self.server)
            .streaming(grpc::STREAMING)
            .describe(proto::DESCRIPTOR_SET)
            .message_limits(proto::message_limits("generation-status"))
            .guarded(&self.internal_keys, proto::scopes("generation-status"), proto::callers("generation-status"))
            .advertise(proto::services("generation-status"))
            .bind()
            .await?;
        Ok(Bound { server, running: self.running })
    }
}

impl Bound {
    /// Where public methods are served.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Where internal methods are served.
    #[must_use]
    pub fn internal_addr(&self) -> SocketAddr {
        self.server.internal_addr()
    }

    /// Where metrics and health are served.
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.server.admin_addr()
    }

    /// Serves and runs the background tasks until the drain has ended.
    ///
    /// # Errors
    /// When a server fails.
    pub async fn serve(self, drain: Drain) -> Result<(), server::Error> {
        let Running { routes, tasks, stop, cached } = self.running;
        let tracker = TaskTracker::new();
        tasks.into_iter().for_each(|task| drop(tracker.spawn(task)));
        tracker.close();
        let (begun, token) = (drain.token(), stop.clone());
        chassis::request::spawn(async move {
            begun.cancelled().await;
            token.cancel();
        });
        let served = self.server.serve(routes, drain.clone()).await;
        drain.begin();
        stop.cancel();
        // A task that outlasts the grace period is cut off by the process's end, which loses nothing: each commits as it goes.
        let _ = tokio::time::timeout(drain.grace(), tracker.wait()).await;
        cached.close().await;
        served
    }
}

impl Running {
    async fn build(config: &Config) -> anyhow::Result<Self> {
        let database = &config.database;
        let pool = |name, settings| Pool::connect_lazy(name, &database.url, settings);
        let pools = Pools {
            read: pool("read", &database.read)?,
            write: pool("write", &database.write)?,
            claim: pool("claim", &database.claim)?,
            finalize: pool("finalize", &database.finalize)?,
            reaper: pool("reaper", &database.reaper)?,
            webhook: pool("webhook", &database.webhook)?,
        };
        let generations = &config.generations;
        let limits = AccountLimits { running: generations.account_running, open: generations.account_open };
        let store = Store::new(pools, limits, config.webhooks.secrets.clone());
        let nats = match &config.nats_url {
            Some(url) => Some(nats::connect(url).await?),
            None => None,
        };
        let cache_pool =
            PoolSettings { unresponsive_after: database.read.unresponsive_after, ..cache::Settings::pool() };
        let cache_pool = pool("cache", &cache_pool)?;
        let cache = cache::Cache::start(config.cache.clone(), Some(cache_pool), nats.clone())?;
        let presenter = Presenter::new(generations.assets.clone());
        let cached = CachedGenerations::new(cache, store.clone(), presenter.clone());
        let egress = Egress::new(config.webhooks.reach).context("the client that sends webhooks cannot be built")?;
        let encoder = EventEncoder::new().map_err(anyhow::Error::from_boxed)?;

        let stop = CancellationToken::new();
        let mut tasks: Vec<BoxFuture<'static, ()>> = Vec::new();
        let mut background = |task: BoxFuture<'static, ()>| tasks.push(task);
        let until_stop = |task: BoxFuture<'static, ()>| stop.clone().run_until_cancelled_owned(task).map(drop).boxed();

        let notifier = Notifier::new(GENERATION_JOBS, nats.clone());
        background(until_stop(notifier.clone().relay().map(drop).boxed()));
        let hub = GenerationHub::new(watches::METRICS);
        background(until_stop(watches::feed(hub.clone(), cached.changes(), store.clone()).boxed()));
        let catalogue = generations.catalogue.clone();
        let margins = Margins::new(store.clone());
        let generations = Generations::new(
            catalogue.clone(),
            margins.clone(),
            store.clone(),
            cached.clone(),
            hub.clone(),
            notifier.clone(),
        );
        let (progress, writer) = Progress::new(store.clone(), generations.clone());
        // It ends by itself when the last handler that could report is gone.
        background(writer.boxed());
        let work = Work::new(
            catalogue.clone(),
            store.clone(),
            generations.clone(),
            progress,
            notifier.clone(),
            config.work.lease,
        );
        background(work.clone().run_reaper(config.work.reap_interval, stop.clone()).boxed());
        background(work.clone().run_gauges(stop.clone()).boxed());
        let reconciler = Reconciler::new(store.clone(), generations.clone(), notifier.clone());
        background(reconciler.run(config.work.reconcile_interval, stop.clone()).boxed());

        background(costs::run(store.clone(), config.work.reconcile_interval * 4, stop.clone()).boxed());

        background(retention::run(store.clone(), config.retention, stop.clone()).boxed());

        let erased = erasures::run(store.clone(), generations.clone(), config.erasures, stop.clone());
        background(erased.boxed());

        let deletions = Deletions::new(store.clone(), generations.clone());
        background(deletions.clone().run(stop.clone()).boxed());
        background(deletions.run_reaper(config.work.reap_interval, stop.clone()).boxed());

        let deliveries = Notifier::new(DELIVERY_JOBS, nats);
        background(until_stop(deliveries.clone().relay().map(drop).boxed()));
        let timeout = config.webhooks.timeout;
        let sender =
            Sender::new(store.clone(), egress.clone(), encoder, presenter.clone(), deliveries.clone(), timeout);
        background(sender.clone().run(stop.clone()).boxed());
        background(sender.clone().run_reaper(config.work.reap_interval, stop.clone()).boxed());
        background(sender.run_gauges(stop.clone()).boxed());

        if config.webhooks.secrets.sealing_id().is_none() {
            events::secrets_in_the_clear();
        }
        background(webhooks::reseal(store.clone(), stop.clone()).boxed());

        let (block_reasons, refresher) = BlockReasons::new(store.clone());
        background(refresher.run(stop.clone()).boxed());
        let presenter = presenter.with_block_reasons(block_reasons.clone());
        let tokens = Tokens::new(&config.internal_keys, "watches of generations");
        let watches = Watches::new(store.clone(), presenter.clone(), hub, config.watch, tokens, stop.clone());
        let queues = Queues::new(store.clone(), generations.clone(), notifier);
        let bulk = Bulk::new(catalogue.clone(), store.clone(), generations.clone());
        let serving = Serving::new(store.clone(), catalogue.clone(), block_reasons.clone());
        background(catalogue.clone().run(store.clone(), stop.clone()).boxed());
        background(serving.clone().run(stop.clone()).boxed());
        let pages = Pages::new(&config.internal_keys);
        let routes = grpc::routes(
            GenerationsApi { generations, watches, presenter: presenter.clone(), pages: pages.clone() },
            WorkApi {
                claims: ClaimStreams::new(work.clone(), serving, stop.clone()),
                work,
                catalogue: catalogue.clone(),
            },
            CreditsApi {
                credits: Credits::new(store.clone(), cached.clone()),
                margins: margins.clone(),
                pages: pages.clone(),
            },
            UsageApi { usages: Usages::new(store.clone()), pages: pages.clone() },
            ModelsApi { models: Models::new(catalogue, margins, store.clone(), block_reasons), pages: pages.clone() },
            QueuesApi { queues, bulk, presenter, pages: pages.clone() },
            WebhooksApi { webhooks: Webhooks::new(store, egress, deliveries), pages },
        );
        Ok(Self { routes, tasks, stop, cached })
    }
}
