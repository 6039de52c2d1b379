//! Our services as processes: the settings of each, when it is ready, and what it said when it died.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use chassis::keyring::SETTING;
use testkit::Process;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::up::build::SERVICES;
use crate::up::servers::Servers;
use cli::failure::Failure;

/// How long a service may take until it is ready.
const READY: Duration = Duration::from_secs(60);
/// How long the services may take to drain.
const DRAIN: Duration = Duration::from_secs(8);

/// The settings that are the same for all services.
pub(crate) struct Plan<'a> {
    /// Where the programs lie.
    pub(crate) programs: &'a Path,
    /// Holds the gateway's port until the gateway takes it.
    pub(crate) gateway: TcpListener,
    pub(crate) servers: &'a Servers,
    /// The database as each service that uses it reaches it.
    pub(crate) databases: BTreeMap<&'static str, String>,
    pub(crate) blobs: String,
    pub(crate) otlp: Option<String>,
}

/// The running services; they end with this value.
pub(crate) struct Services {
    running: Vec<Service>,
    /// What they share.
    pub(crate) internal_keys: String,
}

struct Service {
    name: &'static str,
    port: u16,
    internal: u16,
    admin: u16,
    process: Process,
}

impl Services {
    /// Starts all of them, each with a new log in `home/logs`.
    pub(crate) fn start(home: &Path, plan: Plan<'_>) -> Result<Self> {
        let logs = home.join("logs");
        std::fs::create_dir_all(&logs).with_context(|| format!("making {}", logs.display()))?;
        let programs = plan.programs.to_owned();
        let gateway = plan.gateway.local_addr()?.port();
        let ports: BTreeMap<&str, u16> = SERVICES
            .iter()
            .map(|name| (*name, if *name == "gateway" { gateway } else { testkit::free_port() }))
            .collect();
        let inside: BTreeMap<&str, u16> = SERVICES.iter().map(|name| (*name, testkit::free_port())).collect();
        let mut common = environment(&plan, &ports, &inside);
        // Kept: what they sign, such as addresses of providers' webhooks, outlives a run.
        let internal_keys = testkit::kept_secret(&home.join("internal-keys"))?;
        common.insert(SETTING, internal_keys.clone());
        let databases = plan.databases;
        drop(plan.gateway);
        let mut services = Self { running: Vec::new(), internal_keys };
        for name in SERVICES {
            let (port, internal, admin) = (ports[name], inside[name], testkit::free_port());
            let log = logs.join(format!("{name}.log"));
            std::fs::File::create(&log).with_context(|| format!("making {}", log.display()))?;
            let mut command = Command::new(programs.join(name));
            command
                .envs(&common)
                .env("RUSHES_LISTEN", format!("127.0.0.1:{port}"))
                .env("RUSHES_INTERNAL_LISTEN", format!("127.0.0.1:{internal}"))
                .env("RUSHES_ADMIN_LISTEN", format!("127.0.0.1:{admin}"))
                .current_dir(home);
            if let Some(url) = databases.get(name) {
                command.env("RUSHES_DATABASE_URL", url);
            } else {
                command.env_remove("RUSHES_DATABASE_URL");
            }
            let process = Process::spawn(name, command, &log)?;
            services.running.push(Service { name, port, internal, admin, process });
        }
        Ok(services)
    }

    /// Waits until each says that it is ready.
    pub(crate) async fn ready(&self) -> Result<()> {
        let deadline = Instant::now() + READY;
        for service in &self.running {
            while !is_ready(service.admin).await {
                if let Some(failure) = self.dead() {
                    return Err(failure.into());
                }
                if Instant::now() >= deadline {
                    let failure = Failure::new(format!("{} is not ready after {READY:?}", service.name));
                    return Err(failure.todo(format!("read {}", service.process.log().display())).into());
                }
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        }
        Ok(())
    }

    /// Waits until one has ended, and says which and what it wrote last.
    pub(crate) async fn death(&self) -> Failure {
        loop {
            if let Some(failure) = self.dead() {
                return failure;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The gateway's address.
    pub(crate) fn gateway(&self) -> String {
        self.address("gateway").unwrap_or_default()
    }

    /// The address of one service's public methods.
    pub(crate) fn address(&self, name: &str) -> Option<String> {
        let service = self.running.iter().find(|service| service.name == name)?;
        Some(format!("http://127.0.0.1:{}", service.port))
    }

    /// The addresses of all services' internal methods, by name.
    pub(crate) fn internal_addresses(&self) -> BTreeMap<String, String> {
        let address = |service: &Service| (service.name.to_owned(), format!("http://127.0.0.1:{}", service.internal));
        self.running.iter().filter(|service| service.name != "gateway").map(address).collect()
    }

    /// The addresses of all services' public methods, by name.
    pub(crate) fn addresses(&self) -> BTreeMap<String, String> {
        self.running.iter().filter_map(|service| Some((service.name.to_owned(), self.address(service.name)?))).collect()
    }

    /// The addresses of all services' admin ports, by name.
    pub(crate) fn admin_addresses(&self) -> BTreeMap<String, String> {
        let address = |service: &Service| (service.name.to_owned(), format!("http://127.0.0.1:{}", service.admin));
        self.running.iter().map(address).collect()
    }

    /// Where each service's metrics are.
    pub(crate) fn metrics(&self) -> String {
        let lines: Vec<_> = self
            .running
            .iter()
            .map(|service| format!("http://127.0.0.1:{}/metrics  ({})", service.admin, service.name))
            .collect();
        lines.join("\n           ")
    }

    fn dead(&self) -> Option<Failure> {
        self.running.iter().find_map(|service| {
            let status = service.process.ended()?;
            let tail = service.process.tail(12);
            let said =
                if tail.is_empty() { "it wrote nothing".to_owned() } else { format!("the end of its log:\n{tail}") };
            let failure = Failure::new(format!("{} ended by itself ({status}); {said}", service.name));
            Some(failure.todo(format!("read {}", service.process.log().display())))
        })
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        // All at once first, so that they drain side by side.
        for service in &self.running {
            service.process.ask_to_end();
        }
        let deadline = Instant::now() + DRAIN;
        for service in &self.running {
            service.process.end_by(deadline);
        }
    }
}

/// What is the same for all services.
fn environment(
    plan: &Plan<'_>,
    ports: &BTreeMap<&str, u16>,
    inside: &BTreeMap<&str, u16>,
) -> BTreeMap<&'static str, String> {
    let at = |name: &str| format!("http://127.0.0.1:{}", ports.get(name).copied().unwrap_or_default());
    let inside = |name: &str| format!("http://127.0.0.1:{}", inside.get(name).copied().unwrap_or_default());
    let mut environment = BTreeMap::from([
        ("RUSHES_REDIS_URL", plan.servers.redis.clone()),
        ("RUSHES_NATS_URL", plan.servers.nats.clone()),
        ("RUSHES_BLOBS_URL", plan.blobs.clone()),
        ("RUSHES_DASHBOARD_URL", at("dashboard")),
        ("RUSHES_GENERATION_STATUS_URL", at("generation-status")),
        ("RUSHES_THUMBNAIL_WORKER_URL", at("thumbnail-worker")),
        ("RUSHES_DASHBOARD_INTERNAL_URL", inside("dashboard")),
        ("RUSHES_GENERATION_STATUS_INTERNAL_URL", inside("generation-status")),
        ("RUSHES_THUMBNAIL_WORKER_INTERNAL_URL", inside("thumbnail-worker")),
        ("RUSHES_GENERATION_WORKER_INTERNAL_URL", inside("generation-worker")),
        ("RUSHES_PUBLIC_URL", at("gateway")),
        // Who calls is whoever started it: tools may ask what there is, and a command's trace runs through all of it.
        ("RUSHES_REFLECTION", "true".to_owned()),
        ("RUSHES_TRUST_TRACEPARENT", "true".to_owned()),
        // Who tries webhooks out listens on this machine.
        ("RUSHES_WEBHOOK_REACH", "anywhere".to_owned()),
        // It lies beside the database that it would protect, and stays the same for the next start on the same data.
        ("RUSHES_SECRETS_KEYS", "local-only-local-only-local-only-local-only".to_owned()),
        // Spans are to be seen while their request is still remembered; the usual batch waits five seconds.
        ("OTEL_BSP_SCHEDULE_DELAY", "500".to_owned()),
        // The machine may be building something: PostgreSQL is then slow to answer, and not down.
        ("RUSHES_DATABASE_UNRESPONSIVE_AFTER", "1s".to_owned()),
    ]);
    if let Some(otlp) = &plan.otlp {
        environment.insert("OTEL_EXPORTER_OTLP_ENDPOINT", otlp.clone());
    }
    environment
}

/// Asks the admin port whether the service takes requests.
async fn is_ready(admin: u16) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", admin)).await.ok()?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.ok()?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.ok()?;
        Some(head == *b"HTTP/1.1 200")
    };
    tokio::time::timeout(Duration::from_secs(1), ask).await.ok().flatten().unwrap_or(false)
}
