//! The whole product for one test: every service as its own process, on servers and a database of the test's own, driven
//! through the gateway as a client drives it.
//!
//! Invariant: when a cluster ends, its ledger sums to zero and no terminal generation holds credits; a test that leaves it
//! otherwise fails.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use proto::accounts::v1::account_service_client::AccountServiceClient;
use proto::accounts::v1::{Account, CreateAccountRequest, CreateApiKeyRequest};
use proto::credits::v1::GrantCreditsRequest;
use proto::credits::v1::credit_service_client::CreditServiceClient;
use testkit::{Database, Doors, INTERNAL_KEYS, Nats, Process, Proxy, Redis};
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

use crate::client::Client;

/// The services in the order in which they are started.
const SERVICES: [&str; 5] = ["dashboard", "generation-status", "thumbnail-worker", "generation-worker", "gateway"];

/// What a test changes in its cluster.
pub(crate) struct Options {
    /// How long the built-in model takes, in seconds.
    pub(crate) pace: &'static str,
    /// Where spans go.
    pub(crate) otlp: Option<String>,
    /// How long a worker's lease lasts without a heartbeat.
    pub(crate) lease: &'static str,
    /// How often leases are prolonged.
    pub(crate) heartbeat: &'static str,
    /// Where generation-status is to abort, if anywhere; see its `crash_points`.
    pub(crate) crash: Option<&'static str>,
    /// How long PostgreSQL may not answer before it counts as unresponsive; longer than usual, since tests crowd the machine.
    pub(crate) unresponsive_after: &'static str,
    /// Further settings of every service.
    pub(crate) more: Vec<(&'static str, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            pace: "0",
            otlp: None,
            lease: "30s",
            heartbeat: "10s",
            crash: None,
            unresponsive_after: "1s",
            more: Vec::new(),
        }
    }
}

/// A running service.
struct Service {
    name: &'static str,
    address: SocketAddr,
    internal: SocketAddr,
    admin: SocketAddr,
    process: Option<Process>,
}

/// The running services of a test, and their servers.
pub(crate) struct Cluster {
    services: Vec<Service>,
    pub(crate) redis: Redis,
    pub(crate) nats: Nats,
    pub(crate) database: Database,
    /// Between the services and PostgreSQL.
    pub(crate) postgres: Proxy,
    folder: PathBuf,
    options: Options,
}

impl Cluster {
    pub(crate) async fn start(options: Options) -> Result<Self> {
        let database = Database::fresh().await?;
        let postgres = Proxy::before_url(&database.url()).await?;
        let redis = Redis::launch().await?;
        let nats = Nats::launch().await?;
        let folder = std::env::temp_dir().join(format!("rushes-cluster-{}", Uuid::now_v7().simple()));
        std::fs::create_dir_all(folder.join("blobs"))?;
        let address = || SocketAddr::from(([127, 0, 0, 1], testkit::free_port()));
        let service = |name| Service { name, address: address(), internal: address(), admin: address(), process: None };
        let services = SERVICES.map(service).into();
        let mut cluster = Self { services, redis, nats, database, postgres, folder, options };
        for name in SERVICES {
            cluster.run(name)?;
        }
        for name in SERVICES {
            cluster.ready(name).await?;
        }
        Ok(cluster)
    }

    /// Starts a service at its address.
    pub(crate) fn run(&mut self, name: &str) -> Result<()> {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_rushes-dev")).with_file_name(name);
        ensure!(program.is_file(), "{} is not built: run `cargo build --workspace` first", program.display());
        let url = |service: &str| format!("http://{}", self.address(service));
        let inside = |service: &str| format!("http://{}", self.internal(service));
        let mut command = Command::new(program);
        command
            .env("RUSHES_LISTEN", self.address(name).to_string())
            .env("RUSHES_INTERNAL_LISTEN", self.internal(name).to_string())
            .env("RUSHES_ADMIN_LISTEN", self.admin(name).to_string())
            .env("RUSHES_REDIS_URL", self.redis.url())
            .env("RUSHES_NATS_URL", self.nats.url())
            .env("RUSHES_BLOBS_URL", self.blobs().url)
            .env("RUSHES_DASHBOARD_URL", url("dashboard"))
            .env("RUSHES_GENERATION_STATUS_URL", url("generation-status"))
            .env("RUSHES_THUMBNAIL_WORKER_URL", url("thumbnail-worker"))
            .env("RUSHES_DASHBOARD_INTERNAL_URL", inside("dashboard"))
            .env("RUSHES_GENERATION_STATUS_INTERNAL_URL", inside("generation-status"))
            .env("RUSHES_THUMBNAIL_WORKER_INTERNAL_URL", inside("thumbnail-worker"))
            .env("RUSHES_GENERATION_WORKER_INTERNAL_URL", inside("generation-worker"))
            .env("RUSHES_PUBLIC_URL", url("gateway"))
            .env("RUSHES_HOOKS_URL", format!("{}/hooks", url("gateway")))
            .env("RUSHES_INTERNAL_KEYS", INTERNAL_KEYS)
            .env("RUSHES_LEASE", self.options.lease)
            .env("RUSHES_HEARTBEAT", self.options.heartbeat)
            .env("RUSHES_LOCAL_PACE", self.options.pace)
            .env("RUSHES_RECONCILE_INTERVAL", "1s")
            .env("RUSHES_DATABASE_UNRESPONSIVE_AFTER", self.options.unresponsive_after)
            .env("RUSHES_REFLECTION", "true")
            .env("RUSHES_TRUST_TRACEPARENT", "true")
            .env("RUSHES_LOG", "info")
            .env("RUSHES_LOG_FORMAT", "json")
            .envs(self.options.more.iter().cloned())
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT");
        if let Some(url) = Database::url_for(&self.database.url(), name)? {
            command.env("RUSHES_DATABASE_URL", self.postgres.url(&url)?);
        }
        if let Some(crash) = self.options.crash.filter(|_| name == "generation-status") {
            command.env("RUSHES_CRASH_AT", crash);
        }
        if let Some(otlp) = &self.options.otlp {
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", otlp);
        }
        let log = self.folder.join(format!("{name}.log"));
        let process = Process::spawn(name, command, &log)?;
        self.service_mut(name).process = Some(process);
        Ok(())
    }

    /// Waits until a service says that it is ready.
    pub(crate) async fn ready(&self, name: &str) -> Result<()> {
        let admin = self.admin(name);
        let up = testkit::eventually("readiness", Duration::from_secs(30), async || {
            let reply = crate::http::get(admin, "/readyz", &[]).await.ok()?;
            (reply.status == 200).then_some(())
        });
        up.await.with_context(|| {
            let tail = self.service(name).process.as_ref().map(|process| process.tail(30));
            format!("{name} is not ready; the end of its log:\n{}", tail.unwrap_or_default())
        })
    }

    /// Stops a service where it is (SIGSTOP) and returns it, to be woken with [`Process::resume`]; another may be run then.
    pub(crate) fn stop(&mut self, name: &str) -> Process {
        let process = self.service_mut(name).process.take().expect("it runs");
        process.pause();
        process
    }

    /// Pauses a service (SIGSTOP), until [`Cluster::resume`].
    pub(crate) fn pause(&self, name: &str) {
        self.service(name).process.as_ref().expect("it runs").pause();
    }

    pub(crate) fn resume(&self, name: &str) {
        self.service(name).process.as_ref().expect("it runs").resume();
    }

    /// From now on nothing is made to abort.
    pub(crate) fn forget_crash(&mut self) {
        self.options.crash = None;
    }

    /// Whether a service has ended by itself.
    pub(crate) fn ended(&self, name: &str) -> bool {
        self.service(name).process.as_ref().is_none_or(|process| process.ended().is_some())
    }

    /// What a service counts, by a series' whole name with its labels; nothing when it does not answer.
    pub(crate) async fn metric(&self, name: &str, series: &str) -> Option<f64> {
        let ask = crate::http::get(self.admin(name), "/metrics", &[]);
        let reply = tokio::time::timeout(Duration::from_secs(2), ask).await.ok()?.ok()?;
        let text = String::from_utf8(reply.body).ok()?;
        let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// The next process of a service is at addresses of its own.
    pub(crate) fn relocate(&mut self, name: &str) {
        let address = || SocketAddr::from(([127, 0, 0, 1], testkit::free_port()));
        let service = self.service_mut(name);
        (service.address, service.internal, service.admin) = (address(), address(), address());
    }

    /// Kills a service (SIGKILL).
    pub(crate) fn kill(&mut self, name: &str) {
        if let Some(process) = self.service_mut(name).process.take() {
            process.kill();
        }
    }

    /// Where the services keep their objects.
    pub(crate) fn blobs(&self) -> chassis::blobs::Settings {
        chassis::blobs::Settings { url: format!("file://{}", self.folder.join("blobs").display()), options: Vec::new() }
    }

    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        self.service(name).address
    }

    pub(crate) fn internal(&self, name: &str) -> SocketAddr {
        self.service(name).internal
    }

    pub(crate) fn admin(&self, name: &str) -> SocketAddr {
        self.service(name).admin
    }

    /// A new account with this many credits, and a client with its key.
    pub(crate) async fn client(&self, credits: i64) -> Result<Client> {
        let mut accounts = AccountServiceClient::new(self.doors("dashboard"));
        let account = Account { display_name: "Ada".into(), email: "ada@example.com".into(), ..Account::default() };
        let account = accounts.create_account(CreateAccountRequest { account: Some(account) }).await?.into_inner();
        let key = CreateApiKeyRequest { parent: account.name.clone(), ..CreateApiKeyRequest::default() };
        let key = accounts.create_api_key(key).await?.into_inner();
        if credits > 0 {
            let grant = GrantCreditsRequest {
                account: account.name.clone(),
                amount_micros: credits * 1_000_000,
                request_id: Uuid::now_v7().to_string(),
            };
            CreditServiceClient::new(self.doors("generation-status")).grant_credits(grant).await?;
        }
        Ok(Client::new(self.channel("gateway"), self.address("gateway"), &key.secret))
    }

    pub(crate) fn channel(&self, name: &str) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address(name))).unwrap();
        endpoint.connect_lazy()
    }

    /// A service's two doors, past the gateway.
    pub(crate) fn doors(&self, name: &'static str) -> Doors {
        Doors::of(name, self.address(name), self.internal(name))
    }

    /// Ends the services in an orderly way and checks what must hold of any history.
    pub(crate) async fn end(mut self) -> Result<()> {
        for service in self.services.iter_mut().rev() {
            drop(service.process.take());
        }
        let pool = sqlx::PgPool::connect(&self.database.url()).await?;
        let unbalanced: i64 = sqlx::query_scalar(
            "select count(*) from (select 1 from ledger group by account_id, generation_id, entry having sum(amount_micros) <> 0) as entry",
        )
        .fetch_one(&pool)
        .await?;
        ensure!(unbalanced == 0, "{unbalanced} entries of the ledger do not sum to zero");
        let unsettled: i64 = sqlx::query_scalar(
            "select count(*) from generations g
              where g.state >= 6
                and (select count(*) from ledger l where l.generation_id = g.id and l.book = 'held') <> 2
                and g.held_micros > 0",
        )
        .fetch_one(&pool)
        .await?;
        ensure!(unsettled == 0, "{unsettled} ended generations are not settled exactly once");
        pool.close().await;
        Ok(())
    }

    fn service(&self, name: &str) -> &Service {
        self.services.iter().find(|service| service.name == name).context("a service of the cluster").unwrap()
    }

    fn service_mut(&mut self, name: &str) -> &mut Service {
        self.services.iter_mut().find(|service| service.name == name).context("a service of the cluster").unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for service in self.services.iter_mut().rev() {
            let Some(process) = service.process.take() else { continue };
            if std::thread::panicking() {
                eprintln!("== the end of {}'s log\n{}", service.name, process.tail(25));
            }
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
