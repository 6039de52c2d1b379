//! The service put together: pools, cache, rules, handlers, and the tasks that run beside them.

use chassis::drain::Drain;
use chassis::egress::Egress;
use chassis::postgres::{self, Pool, PoolSettings};
use chassis::{nats, server};
use jobs::Notifier;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

use crate::cache::Generations as Cached;
use crate::claims::Claims;
use crate::config::Settings;
use crate::credits::Credits;
use crate::generations::Generations;
use crate::grpc::{CreditsApi, GenerationsApi, ModelsApi, QueuesApi, STREAMING, WebhooksApi, WorkApi, routes};
use crate::holds::{self, Holds};
use crate::models::Models;
use crate::progress::Progress;
use crate::queues::Queues;
use crate::reconciler::Reconciler;
use crate::store::{Account, KIND, Pools, Store};
use crate::watches::{Hub, Watches};
use crate::webhooks::{self, Messages, Sender, Webhooks};
use crate::wire::Face;
use crate::work::Work;

/// Why the service cannot start. A server that is away is no reason: it is waited for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// PostgreSQL's URL.
    #[error(transparent)]
    Postgres(#[from] postgres::Error),
    /// NATS' URL.
    #[error(transparent)]
    Nats(#[from] nats::Error),
    /// Redis' URL.
    #[error(transparent)]
    Cache(#[from] cache::Error),
    /// The client that webhooks are sent with.
    #[error("no client for webhooks can be built")]
    Egress(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The description of what webhooks say.
    #[error("the messages of webhooks cannot be described")]
    Messages(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The running service without its ports.
pub struct Service {
    routes: Routes,
    cached: Cached,
    tasks: TaskTracker,
    drain: Drain,
}

impl Service {
    /// Builds everything and starts the background tasks, which end with `drain`.
    ///
    /// # Errors
    /// When a URL cannot be read.
    pub async fn start(settings: &Settings, drain: &Drain) -> Result<Self, StartError> {
        let pool = |name, pool| Pool::connect_lazy(name, &settings.database_url, pool);
        let pools = Pools {
            read: pool("read", &settings.read)?,
            write: pool("write", &settings.write)?,
            claim: pool("claim", &settings.claim)?,
            finalize: pool("finalize", &settings.finalize)?,
            rescue: pool("rescue", &settings.rescue)?,
            webhook: pool("webhook", &settings.webhook)?,
        };
        let store = Store::new(pools, Account { running: settings.account_running, open: settings.account_open });
        let nats = match &settings.nats_url {
            Some(url) => Some(nats::connect(url).await?),
            None => None,
        };
        let cache_pool = PoolSettings { silence: settings.read.silence, ..cache::Settings::pool() };
        let cache_pool = pool("cache", &cache_pool)?;
        let cache = cache::Cache::start(settings.cache.clone(), Some(cache_pool), nats.clone())?;
        let face = Face::new(&settings.public_url);
        let cached = Cached::new(cache, store.clone(), face.clone());
        let notifier = Notifier::new(KIND, nats.clone());
        let hub = Hub::default();
        let generations =
            Generations::new(settings.models.clone(), store.clone(), cached.clone(), hub.clone(), notifier.clone());
        let (progress, writer) = Progress::new(store.clone(), generations.clone());
        let work = Work::new(store.clone(), generations.clone(), progress, notifier.clone(), settings.lease);
        let stop = drain.token();

        let tasks = TaskTracker::new();
        tasks.spawn(stop.clone().run_until_cancelled_owned(notifier.clone().relay()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(hub.clone().feed(store.clone(), cached.changes())));
        tasks.spawn(work.clone().keep_sweeping(settings.sweep, stop.clone()));
        let reconciler = Reconciler::new(store.clone(), generations.clone(), notifier.clone());
        tasks.spawn(reconciler.keep_reconciling(settings.reconcile, stop.clone()));
        tasks.spawn(work.clone().keep_measuring(stop.clone()));
        let egress = Egress::new(settings.webhooks.reach).map_err(|error| StartError::Egress(error.into()))?;
        let hooks = Notifier::new(webhooks::KIND, nats);
        let messages = Messages::new().map_err(StartError::Messages)?;
        let timeout = settings.webhooks.timeout;
        let sender = Sender::new(store.clone(), egress.clone(), messages, face.clone(), hooks.clone(), timeout);
        tasks.spawn(stop.clone().run_until_cancelled_owned(hooks.clone().relay()));
        tasks.spawn(sender.clone().keep_sending(stop.clone()));
        tasks.spawn(sender.clone().keep_sweeping(settings.sweep, stop.clone()));
        tasks.spawn(sender.keep_measuring(stop.clone()));
        // Ends by itself when the last handler that could report is gone.
        tasks.spawn(writer);
        tasks.close();

        let credits = Credits::new(store.clone(), cached.clone());
        let models = Models::new(settings.models.clone(), store.clone());
        let webhooks = Webhooks::new(store.clone(), egress, hooks);
        let queues = Queues::new(store.clone(), generations.clone(), notifier);
        let (held, told) = Holds::new();
        let polling = holds::keep_looking(told, store.clone(), stop.clone());
        chassis::task::spawn(polling);
        let face = face.telling(held);
        let watches = Watches::new(store, hub, settings.watch, stop.clone());
        let routes = routes(
            GenerationsApi { generations, watches, face: face.clone() },
            WorkApi { claims: Claims::new(work.clone(), stop), work },
            CreditsApi { credits },
            ModelsApi { models },
            QueuesApi { queues, face },
            WebhooksApi { webhooks },
        );
        Ok(Self { routes, cached, tasks, drain: drain.clone() })
    }

    /// The server for this service, not bound yet.
    #[must_use]
    pub fn server(settings: &server::Settings) -> server::Server {
        server::Server::new("generation-status", settings).streaming(STREAMING).describe(proto::DESCRIPTOR_SET)
    }

    /// Serves until the drain has ended, then ends the background tasks.
    ///
    /// # Errors
    /// When a server fails.
    pub async fn serve(self, bound: server::Bound) -> Result<(), server::Error> {
        let served = bound.serve(self.routes, self.drain.clone()).await;
        self.drain.begin();
        // What still runs is cut off by the process's end: everything here is safe to lose at any moment.
        let _ = tokio::time::timeout(self.drain.grace(), self.tasks.wait()).await;
        self.cached.close().await;
        served
    }
}
