//! The services that are measured, each as its own process, told what `rushes up` tells them.
//!
//! Invariant: logs are written as in production (JSON, level info) and no spans are exported; nothing else is switched off
//! to look faster.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chassis::identity::{self, By, Identities, Identity};
use chassis::keyring::InternalKeys;
use http::Uri;
use testkit::{Database, Doors, Process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

use super::database::BenchDatabase;
use super::hosts::Hosts;

/// How long a service may take until it is ready.
const READY: Duration = Duration::from_secs(30);
/// What most rows need, in the order of starting. A generation-worker would take the work away that a row hands out.
pub(super) const USUAL: [&str; 4] = ["dashboard", "generation-status", "thumbnail-worker", "gateway"];

/// Running services; they end with this value.
pub(super) struct Services {
    // The gateway drains first.
    running: Vec<Service>,
    /// The database, as its owner.
    database: String,
    /// What every service is told.
    common: Vec<(&'static str, String)>,
    /// Where each service listens, started or not.
    ports: BTreeMap<&'static str, Ports>,
    folder: PathBuf,
}

/// The two doors of a service.
#[derive(Clone, Copy)]
struct Ports {
    public: SocketAddr,
    internal: SocketAddr,
}

impl Ports {
    fn free() -> Self {
        Self { public: local(), internal: local() }
    }
}

/// One service.
pub(super) struct Service {
    name: &'static str,
    ports: Ports,
    admin: SocketAddr,
    process: Process,
}

impl Services {
    /// Starts those of the usual ones that are `wanted` on `database`, and waits until all are ready.
    pub(super) async fn start(database: &BenchDatabase, wanted: impl Fn(&str) -> bool) -> Result<Self> {
        let ports = USUAL.map(|name| (name, Ports::free())).into();
        let mut services = Self {
            running: Vec::new(),
            database: database.url().to_owned(),
            common: common(database, &ports)?,
            ports,
            folder: database.folder().to_owned(),
        };
        for name in USUAL.into_iter().filter(|name| wanted(name)) {
            let service = services.launch(None, name, &[])?;
            services.running.push(service);
        }
        for service in &services.running {
            service.ready().await?;
        }
        Ok(services)
    }

    /// Starts one more process of `name`, with these settings over the common ones, and waits until it is ready.
    pub(super) async fn another(&self, name: &'static str, settings: &[(&str, &str)]) -> Result<Service> {
        let service = self.launch(None, name, settings)?;
        service.ready().await?;
        Ok(service)
    }

    /// The same, of a process that knows these hosts.
    pub(super) async fn another_that_knows(
        &self,
        hosts: &Hosts,
        name: &'static str,
        settings: &[(&str, &str)],
    ) -> Result<Service> {
        let service = self.launch(Some(hosts), name, settings)?;
        service.ready().await?;
        Ok(service)
    }

    /// One more process of a service that runs, at the same ports of `127.0.0.{last}`.
    pub(super) async fn replica(&self, name: &'static str, last: u8) -> Result<Service> {
        let Ports { public, internal } = self.service(name)?.ports;
        let beside = |address: SocketAddr| format!("127.0.0.{last}:{}", address.port());
        let settings = [("RUSHES_LISTEN", beside(public)), ("RUSHES_INTERNAL_LISTEN", beside(internal))];
        self.another(name, &settings.each_ref().map(|(name, value)| (*name, value.as_str()))).await
    }

    /// The running service called `name`.
    pub(super) fn service(&self, name: &str) -> Result<&Service> {
        self.running.iter().find(|service| service.name == name).with_context(|| format!("{name} is not running"))
    }

    /// All that run.
    pub(super) fn all(&self) -> impl Iterator<Item = &Service> {
        self.running.iter()
    }

    /// Ends them side by side, in an orderly way.
    pub(super) async fn end(mut self) {
        let running = std::mem::take(&mut self.running);
        for service in &running {
            service.process.ask_to_end();
        }
        // Waiting blocks. A panic in there has nothing to tell that matters now.
        let _ = tokio::task::spawn_blocking(move || drop(running)).await;
    }

    fn launch(&self, hosts: Option<&Hosts>, name: &'static str, settings: &[(&str, &str)]) -> Result<Service> {
        let program = std::env::current_exe().context("finding this program")?.with_file_name(name);
        ensure!(program.is_file(), "{} is not built", program.display());
        // A second process of a service gets a port of its own.
        let taken = self.running.iter().any(|service| service.name == name);
        let ports = self.ports.get(name).copied().filter(|_| !taken).unwrap_or_else(Ports::free);
        let admin = local();
        let mut command = match hosts {
            Some(hosts) => hosts.command(&program)?,
            None => Command::new(program),
        };
        if let Some(url) = Database::url_for(&self.database, name)? {
            command.env("RUSHES_DATABASE_URL", url);
        }
        command
            .envs(self.common.iter().map(|(name, value)| (name, value)))
            .env("RUSHES_LISTEN", ports.public.to_string())
            .env("RUSHES_INTERNAL_LISTEN", ports.internal.to_string())
            .env("RUSHES_ADMIN_LISTEN", admin.to_string())
            .envs(settings.iter().copied())
            .env_remove("OTEL_EXPORTER_OTLP_ENDPOINT")
            .current_dir(&self.folder);
        let log = self.folder.join(format!("{name}-{}.log", admin.port()));
        Ok(Service { name, ports, admin, process: Process::spawn(name, command, &log)? })
    }
}

impl Service {
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.ports.public
    }

    /// Where it listens for what is not the public's.
    pub(super) fn internal_address(&self) -> SocketAddr {
        self.ports.internal
    }

    /// Its two doors; for what is not measured to the microsecond.
    pub(super) fn doors(&self) -> Result<Doors> {
        let uri = |address: SocketAddr| format!("http://{address}").parse::<Uri>();
        Ok(Doors::at(self.name, &uri(self.ports.public)?, &uri(self.ports.internal)?, &keys()))
    }

    /// A connection to its public port; bare, since the chassis's client is part of what is measured elsewhere.
    pub(super) async fn channel(&self) -> Result<Channel> {
        let uri: Uri = format!("http://{}", self.ports.public).parse()?;
        Endpoint::from(uri).connect().await.with_context(|| format!("connecting to {}", self.name))
    }

    /// What it counts, as Prometheus reads it.
    pub(super) async fn metrics(&self) -> Result<String> {
        let mut stream = TcpStream::connect(self.admin).await?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.with_context(|| format!("reading the metrics of {}", self.name))?;
        Ok(text)
    }

    async fn ready(&self) -> Result<()> {
        let question = async || if is_ready(self.admin).await { Some(()) } else { None };
        testkit::eventually(&format!("{} is ready", self.name), READY, question)
            .await
            .with_context(|| format!("the end of the log of {}:\n{}", self.name, self.process.tail(20)))
    }
}

/// `message` as the gateway would pass it on to `service` for `account`.
pub(super) fn on_behalf<T>(service: &str, account: Uuid, message: T) -> tonic::Request<T> {
    static IDENTITIES: LazyLock<Identities> = LazyLock::new(|| Identities::new(&keys()));
    let by = By::Key { id: testkit::KEY, scopes: "read+write+generate" };
    let token = IDENTITIES.sign(&Identity { account: Some(account), by }, service);
    let mut request = tonic::Request::new(message);
    request.metadata_mut().as_mut().insert(identity::HEADER, token);
    request
}

/// What the services of a benchmark share; there is nothing to protect.
pub(crate) const INTERNAL_KEYS: &str = "benchmark-benchmark-benchmark-benchmark";

fn keys() -> InternalKeys {
    InternalKeys::parse(INTERNAL_KEYS).expect("keys")
}

fn common(database: &BenchDatabase, ports: &BTreeMap<&'static str, Ports>) -> Result<Vec<(&'static str, String)>> {
    let blobs = database.folder().join("blobs");
    std::fs::create_dir_all(&blobs).with_context(|| format!("making {}", blobs.display()))?;
    let of = |name: &str| ports.get(name).with_context(|| name.to_owned());
    let at = |name: &str| of(name).map(|ports| format!("http://{}", ports.public));
    let inside = |name: &str| of(name).map(|ports| format!("http://{}", ports.internal));
    Ok(vec![
        ("RUSHES_REDIS_URL", database.redis.url()),
        ("RUSHES_NATS_URL", database.nats.url()),
        ("RUSHES_INTERNAL_KEYS", INTERNAL_KEYS.to_owned()),
        ("RUSHES_BLOBS_URL", blob_url(&blobs)),
        ("RUSHES_DASHBOARD_URL", at("dashboard")?),
        ("RUSHES_DASHBOARD_INTERNAL_URL", inside("dashboard")?),
        ("RUSHES_GENERATION_STATUS_URL", at("generation-status")?),
        ("RUSHES_GENERATION_STATUS_INTERNAL_URL", inside("generation-status")?),
        ("RUSHES_THUMBNAIL_WORKER_URL", at("thumbnail-worker")?),
        ("RUSHES_THUMBNAIL_WORKER_INTERNAL_URL", inside("thumbnail-worker")?),
        ("RUSHES_PUBLIC_URL", at("gateway")?),
        // What a gateway can do is measured, and not what it lets one account have.
        ("RUSHES_LIMIT_PEOPLE", "1000000/1000000".to_owned()),
        ("RUSHES_LIMIT_POLLS", "1000000/1000000".to_owned()),
        ("RUSHES_LIMIT_CALLS", "100000".to_owned()),
        ("RUSHES_LOG", "info".to_owned()),
        ("RUSHES_LOG_FORMAT", "json".to_owned()),
    ])
}

fn blob_url(folder: &Path) -> String {
    format!("file://{}", folder.display())
}

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], testkit::free_port()))
}

/// Asks the admin port whether the service takes requests.
async fn is_ready(admin: SocketAddr) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(admin).await.ok()?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.ok()?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.ok()?;
        Some(head == *b"HTTP/1.1 200")
    };
    tokio::time::timeout(Duration::from_secs(1), ask).await.ok().flatten().unwrap_or(false)
}
