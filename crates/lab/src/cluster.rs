//! The cluster that the laboratory breaks: one or two replicas of each service, each process with proxies of its own to
//! PostgreSQL, Redis and NATS. The first replicas of all services call each other, and so do the second.
//!
//! Invariant: whatever a script did to it, [`Cluster::heal`] leaves every link whole, every server up and every process awake.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proto::accounts::v1::account_service_client::AccountServiceClient;
use proto::accounts::v1::{Account, CreateAccountRequest, CreateApiKeyRequest};
use proto::credits::v1::GrantCreditsRequest;
use proto::credits::v1::credit_service_client::CreditServiceClient;
use sqlx::Connection as _;
use testkit::{Database, Doors, INTERNAL_KEYS, Nats, Postgres, Process, Proxy, Redis};
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

use crate::calls::{timed, until_answered};
use crate::http;

/// The services, in the order of starting.
pub(crate) const SERVICES: [&str; 5] =
    ["dashboard", "generation-status", "thumbnail-worker", "generation-worker", "gateway"];

/// The servers behind the proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Postgres,
    Redis,
    Nats,
}

/// One process and its links.
pub(crate) struct Node {
    pub(crate) name: &'static str,
    replica: usize,
    address: SocketAddr,
    internal: SocketAddr,
    pub(crate) admin: SocketAddr,
    process: Mutex<Option<Process>>,
    /// Raised at each death: what it knew is gone.
    pub(crate) life: AtomicU32,
    postgres: Proxy,
    redis: Proxy,
    nats: Proxy,
}

impl Node {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn internal(&self) -> SocketAddr {
        self.internal
    }

    pub(crate) fn link(&self, backend: Backend) -> &Proxy {
        match backend {
            Backend::Postgres => &self.postgres,
            Backend::Redis => &self.redis,
            Backend::Nats => &self.nats,
        }
    }

    pub(crate) fn with<T>(&self, act: impl FnOnce(&Process) -> T) -> Option<T> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(act)
    }
}

/// Everything that runs.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Node>,
    pub(crate) redis: Redis,
    pub(crate) nats: Nats,
    database: Database,
    // Ended last.
    pub(crate) postgres: Postgres,
    pub(crate) folder: PathBuf,
    kept: bool,
    more: Vec<(&'static str, String)>,
}

/// A generation as the database has it.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct GenerationRow {
    pub(crate) account: String,
    pub(crate) name: String,
    pub(crate) version: i64,
    pub(crate) ended: bool,
}

/// How a cluster is set up.
pub(crate) struct Plan {
    /// How many of each service.
    pub(crate) replicas: usize,
    /// Where logs and videos go; it stays.
    pub(crate) logs: Option<PathBuf>,
    /// Further settings of every process.
    pub(crate) more: Vec<(&'static str, String)>,
}

impl Cluster {
    pub(crate) async fn start(plan: Plan) -> Result<Self> {
        let Plan { replicas, logs, more } = plan;
        let kept = logs.is_some();
        let folder = logs
            .unwrap_or_else(|| std::env::temp_dir().join(format!("rushes-cluster-{}", uuid::Uuid::now_v7().simple())));
        std::fs::create_dir_all(folder.join("blobs")).context("making a folder for the run")?;
        let postgres = Postgres::launch().await?;
        let database = Database::on(&postgres).await?;
        let (redis, nats) = (Redis::launch().await?, Nats::launch().await?);
        let mut nodes = Vec::new();
        for replica in 0..replicas {
            for name in SERVICES {
                let local = || SocketAddr::from(([127, 0, 0, 1], testkit::free_port()));
                nodes.push(Node {
                    name,
                    replica,
                    address: local(),
                    internal: local(),
                    admin: local(),
                    process: Mutex::new(None),
                    life: AtomicU32::new(0),
                    postgres: Proxy::before(postgres.address().to_string()).await?,
                    redis: Proxy::before(redis.address().to_string()).await?,
                    nats: Proxy::before(nats.address().to_string()).await?,
                });
            }
        }
        let cluster = Self { nodes, redis, nats, database, postgres, folder, kept, more };
        for at in 0..cluster.nodes.len() {
            cluster.launch(at)?;
        }
        for at in 0..cluster.nodes.len() {
            cluster.ready(at).await?;
        }
        Ok(cluster)
    }

    /// Waits until a process says that it is ready.
    pub(crate) async fn ready(&self, at: usize) -> Result<()> {
        let node = &self.nodes[at];
        let question = async || http::ask(node.admin, "GET", "/readyz", "").await.filter(|(ok, _)| *ok).map(drop);
        testkit::eventually(&format!("{} is ready", node.name), Duration::from_secs(60), question)
            .await
            .with_context(|| node.with(|process| process.tail(20)).unwrap_or_default())
    }

    /// The place of one replica of a service.
    pub(crate) fn at(&self, replica: usize, name: &str) -> usize {
        let found = self.nodes.iter().position(|node| node.replica == replica && node.name == name);
        found.unwrap_or_default()
    }

    pub(crate) fn node(&self, replica: usize, name: &str) -> &Node {
        &self.nodes[self.at(replica, name)]
    }

    /// Starts a process at its address.
    pub(crate) fn launch(&self, at: usize) -> Result<()> {
        self.launch_with(at, None)
    }

    /// Starts a process with one more setting.
    pub(crate) fn launch_with(&self, at: usize, more: Option<(&str, &str)>) -> Result<()> {
        let node = &self.nodes[at];
        let program = std::env::current_exe().context("finding this program")?.with_file_name(node.name);
        ensure!(program.is_file(), "{} is not built", program.display());
        let url = |name: &str| format!("http://{}", self.node(node.replica, name).address);
        let inside = |name: &str| format!("http://{}", self.node(node.replica, name).internal);
        let mut command = Command::new(program);
        command
            .env("RUSHES_LISTEN", node.address.to_string())
            .env("RUSHES_INTERNAL_LISTEN", node.internal.to_string())
            .env("RUSHES_ADMIN_LISTEN", node.admin.to_string())
            .env("RUSHES_REDIS_URL", node.redis.url(&self.redis.url())?)
            .env("RUSHES_NATS_URL", node.nats.url(&self.nats.url())?)
            .env("RUSHES_BLOBS_URL", format!("file://{}", self.folder.join("blobs").display()))
            .env("RUSHES_DASHBOARD_URL", url("dashboard"))
            .env("RUSHES_GENERATION_STATUS_URL", url("generation-status"))
            .env("RUSHES_THUMBNAIL_WORKER_URL", url("thumbnail-worker"))
            .env("RUSHES_DASHBOARD_INTERNAL_URL", inside("dashboard"))
            .env("RUSHES_GENERATION_STATUS_INTERNAL_URL", inside("generation-status"))
            .env("RUSHES_THUMBNAIL_WORKER_INTERNAL_URL", inside("thumbnail-worker"))
            .env("RUSHES_GENERATION_WORKER_INTERNAL_URL", inside("generation-worker"))
            .env("RUSHES_HOOKS_URL", format!("{}/hooks", url("gateway")))
            .env("RUSHES_INTERNAL_KEYS", INTERNAL_KEYS)
            .env("RUSHES_SECRETS_KEYS", "laboratory-laboratory-laboratory-2")
            // The same on both replicas: it is part of what is cached.
            .env("RUSHES_PUBLIC_URL", "http://gateway.test")
            .env("RUSHES_LOCAL_PACE", "0")
            .env("RUSHES_LOCAL_THREADS", "1")
            // Often enough that a short run has some of both.
            .env("RUSHES_WATCH_HEARTBEAT", "1s")
            .env("RUSHES_WATCH_MAX_AGE", "40s")
            .env("RUSHES_REFLECTION", "true")
            .env("RUSHES_TRUST_TRACEPARENT", "true")
            // One of two gateways keeps answers, so that both ways are tried in each run.
            .env("RUSHES_CACHE_ANSWERS", if node.replica == 1 { "true" } else { "false" })
            // A few accounts ask for as much as many would.
            .env("RUSHES_LIMIT_PEOPLE", "100000/100000")
            .env("RUSHES_LIMIT_POLLS", "100000/100000")
            .env("RUSHES_LIMIT_CALLS", "10000")
            .env("RUSHES_LOG", "info")
            .env("RUSHES_LOG_FORMAT", "json")
            .envs(self.more.iter().cloned())
            .envs(more)
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT");
        if let Some(url) = Database::url_for(&self.database.url(), node.name)? {
            command.env("RUSHES_DATABASE_URL", node.postgres.url(&url)?);
        }
        let log = self.folder.join(format!("{}-{}.log", node.name, node.replica));
        let process = Process::spawn(node.name, command, &log)?;
        *node.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
        Ok(())
    }

    /// Kills a process (SIGKILL).
    pub(crate) fn kill(&self, at: usize) {
        let node = &self.nodes[at];
        node.life.fetch_add(1, Ordering::SeqCst);
        if let Some(process) = node.process.lock().unwrap_or_else(PoisonError::into_inner).take() {
            process.kill();
        }
    }

    /// Makes an account with credits; gives its name and a key of it.
    pub(crate) async fn account(&self, display_name: String, amount_micros: i64) -> Result<(String, String)> {
        let accounts = || AccountServiceClient::new(self.doors(0, "dashboard"));
        let account = Account { display_name, ..Account::default() };
        let request = CreateAccountRequest { account: Some(account) };
        let call = async || accounts().create_account(timed(request.clone())).await;
        let account = until_answered("an account", call).await?.into_inner().name;
        let request = CreateApiKeyRequest { parent: account.clone(), ..CreateApiKeyRequest::default() };
        let call = async || accounts().create_api_key(timed(request.clone())).await;
        let key = until_answered("a key", call).await?.into_inner().secret;
        let request_id = Uuid::now_v7().to_string();
        let request = GrantCreditsRequest { account: account.clone(), amount_micros, request_id };
        let credits = || CreditServiceClient::new(self.doors(0, "generation-status"));
        let call = async || credits().grant_credits(timed(request.clone())).await;
        until_answered("a grant", call).await?;
        Ok((account, key))
    }

    /// A lazy channel to a service.
    pub(crate) fn channel(&self, replica: usize, name: &str) -> Result<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.node(replica, name).address))?;
        Ok(endpoint.connect_timeout(Duration::from_secs(1)).connect_lazy())
    }

    /// A service's two doors, past the gateway.
    pub(crate) fn doors(&self, replica: usize, name: &'static str) -> Doors {
        let node = self.node(replica, name);
        Doors::of(name, node.address, node.internal)
    }

    /// Ends every fault.
    pub(crate) async fn heal(&self) -> Result<()> {
        // Starting what runs is no error of ours.
        let _ = (self.redis.start().await, self.nats.start().await);
        for (at, node) in self.nodes.iter().enumerate() {
            for backend in [Backend::Postgres, Backend::Redis, Backend::Nats] {
                node.link(backend).heal();
            }
            // What a black hole swallowed never comes: connections begin anew.
            node.postgres.reset();
            node.with(Process::resume);
            if node.with(|process| process.ended().is_none()) != Some(true) {
                self.launch(at)?;
            }
        }
        Ok(())
    }

    /// What is wrong with the ledger, in words.
    pub(crate) async fn books(&self) -> Result<Vec<String>> {
        let pool = sqlx::PgPool::connect(&self.database.url()).await?;
        let unbalanced: i64 = sqlx::query_scalar(
            "select count(*) from (
                 select from ledger group by account_id, generation_id, entry having sum(amount_micros) <> 0
             ) as entry",
        )
        .fetch_one(&pool)
        .await?;
        let held: i64 = sqlx::query_scalar("select coalesce(sum(held_micros), 0)::bigint from credit_accounts")
            .fetch_one(&pool)
            .await?;
        pool.close().await;
        let mut wrong = Vec::new();
        if unbalanced != 0 {
            wrong.push(format!("{unbalanced} entries of the ledger do not sum to zero"));
        }
        if held != 0 {
            wrong.push(format!("{held} micro-credits are held although every generation has ended"));
        }
        Ok(wrong)
    }

    /// All generations.
    pub(super) async fn generations(&self) -> Result<Vec<GenerationRow>> {
        let mut connection = sqlx::PgConnection::connect(&self.database.url()).await?;
        let rows = sqlx::query_as(
            "select 'accounts/' || account_id as account, 'generations/' || id as name, version,
                    end_time is not null as ended
             from generations",
        )
        .fetch_all(&mut connection)
        .await?;
        connection.close().await?;
        Ok(rows)
    }

    /// How many backends of PostgreSQL are at work.
    pub(crate) async fn at_work(&self, connection: &mut sqlx::PgConnection) -> Result<i64> {
        Ok(sqlx::query_scalar(
            "select count(*) from pg_stat_activity
             where datname = current_database() and state = 'active' and pid <> pg_backend_pid()",
        )
        .fetch_one(connection)
        .await?)
    }

    pub(crate) fn database_url(&self) -> String {
        self.database.url()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &self.nodes {
            node.with(Process::resume);
            drop(node.process.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
        if !self.kept {
            // It lies in the temporary directory.
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}
