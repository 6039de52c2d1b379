//! `rushes up`: everything on this machine, from nothing to a watched generation, until Ctrl-C.
//!
//! Invariant: whatever `up` starts ends with it, in the reverse order, on every way out; also when it is killed.

pub(crate) mod buffer;
pub(crate) mod build;
mod demo;
pub(crate) mod install;
mod jaeger;
mod published;
pub(crate) mod say;
mod servers;
pub(crate) mod services;

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use anyhow::{Context, Result};
use testkit::Signals;

use crate::up::buffer::Buffer;
use crate::up::jaeger::Jaeger;
use crate::up::published::Published;
use crate::up::say::Say;
use crate::up::servers::Servers;
use crate::up::services::Services;
use crate::workspace;
use cli::failure::{Exit, Failure};
use cli::out;
use cli::stack::Stack;

/// How to bring the stack up.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Forget the data of earlier runs first.
    #[arg(long)]
    fresh: bool,
    /// The gateway's port; without it 8080, or a free one when that is taken.
    #[arg(long)]
    port: Option<u16>,
    /// Do not load the demo account or run its generations.
    #[arg(long)]
    no_demo: bool,
    /// Never install a server that is missing.
    #[arg(long)]
    no_install: bool,
    /// Run the services as the image has them, optimized; the first such build takes more than ten minutes on two cores.
    #[arg(long)]
    release: bool,
    #[command(flatten)]
    urls: servers::Urls,
    /// Where videos and pictures are stored: file:///directory or s3://bucket/prefix.
    #[arg(long, env = "RUSHES_BLOBS_URL", value_name = "URL")]
    blobs_url: Option<String>,
    /// Where spans are sent, instead of a Jaeger found on the PATH or the buffer of recent traces.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    otlp_endpoint: Option<String>,
}

/// Runs until a signal comes or something that must run does not.
pub(crate) async fn run(options: Options) -> Result<Exit> {
    let mut signals = Signals::listen()?;
    let mut work = Box::pin(stay(options));
    let outcome = tokio::select! {
        outcome = &mut work => outcome,
        () = signals.next() => {
            out::tell("\nending everything (again to end it at once)");
            Ok(Exit::Done)
        }
    };
    // A second signal does not wait for services that drain: what is left ends without us.
    tokio::spawn(async move {
        signals.next().await;
        std::process::exit(130);
    });
    drop(work);
    if outcome.is_ok() {
        out::tell("ended");
    }
    outcome
}

/// What runs, in the order in which it began; fields are dropped from the first to the last.
struct Running {
    _published: Published,
    services: Services,
    _jaeger: Option<Jaeger>,
    _buffer: Option<Buffer>,
    servers: Servers,
}

async fn stay(options: Options) -> Result<Exit> {
    let say = Say::new();
    let root = workspace::root()?;
    let home = workspace::home(&root)?;
    let _lock = lock(&home)?;
    let gateway = gateway_port(options.port)?;

    if options.fresh {
        say.step("forgetting the data of earlier runs");
        servers::forget(&home, &options.urls).await?;
        demo::forget(&home)?;
    }
    install::ensure(&options.urls.missing(), !options.no_install, &say).await?;
    let profile = if options.release { build::Profile::release()? } else { build::Profile::own()? };
    say.step("building the services (cargo build; about five minutes the first time)");
    build::services(&root, &profile).await?;

    say.step("starting PostgreSQL, Redis and NATS");
    let servers = Servers::bring_up(&options.urls, &home, &say).await?;
    say.step("migrating the database");
    schema::migrate(&servers.database).await.map_err(|error| {
        Failure::new(format!("the database cannot be migrated: {error}"))
            .todo("if its data may go, begin anew with `cargo rushes up --fresh`")
    })?;
    let databases = servers.databases(&home).await?;

    let (jaeger, buffer, otlp) = tracing(options.otlp_endpoint.clone(), &home).await?;
    say.step(format!("starting the services: {}", build::SERVICES.join(", ")));
    let blobs = options.blobs_url.clone().unwrap_or_else(|| format!("file://{}", home.join("blobs").display()));
    let plan =
        services::Plan { programs: &profile.folder, gateway, servers: &servers, databases, blobs, otlp: otlp.clone() };
    let services = Services::start(&home, plan)?;
    services.ready().await?;

    let account = tokio::select! {
        account = demo::account(&home, &services) => account?,
        death = services.death() => return Err(death.into()),
    };
    let stack = Stack {
        address: services.gateway(),
        api_key: account.api_key.clone(),
        pid: std::process::id(),
        services: services.addresses(),
        internal: services.internal_addresses(),
        admin: services.admin_addresses(),
        internal_keys: services.internal_keys.clone(),
        otlp,
        traces: buffer.as_ref().map(|buffer| buffer.traces.clone()),
        jaeger: jaeger.as_ref().map(|jaeger| jaeger.pages.clone()),
    };
    // From here on the client commands find the stack, and can watch the demo's generations too.
    let published = Published::write(&stack, &root)?;
    let running = Running { _published: published, services, _jaeger: jaeger, _buffer: buffer, servers };
    if !options.no_demo {
        tokio::select! {
            done = demo::generations(&account, &stack.address, &say) => done?,
            death = running.death() => return Err(death.into()),
        }
    }
    // Spans are kept as long as `up` runs.
    let had_generations = !account.generations.is_empty();
    let mut account = account.again()?;
    if had_generations {
        account.generations.clear();
    }
    out::tell(summary(&stack, &running.services, &account, &home, &say));
    Err(running.death().await.into())
}

impl Running {
    /// Waits until something that must run has ended, and says what and why.
    async fn death(&self) -> Failure {
        tokio::select! {
            failure = self.services.death() => failure,
            failure = self.servers.death() => failure,
        }
    }
}

/// Where spans go: to the endpoint given, to a Jaeger that we start, or to a buffer of our own.
async fn tracing(endpoint: Option<String>, home: &Path) -> Result<(Option<Jaeger>, Option<Buffer>, Option<String>)> {
    if let Some(endpoint) = endpoint.filter(|endpoint| !endpoint.is_empty()) {
        return Ok((None, None, Some(endpoint)));
    }
    if let Some(jaeger) = Jaeger::start(home).await? {
        let endpoint = jaeger.otlp.clone();
        return Ok((Some(jaeger), None, Some(endpoint)));
    }
    let buffer = Buffer::start().await?;
    let endpoint = buffer.endpoint();
    Ok((None, Some(buffer), Some(endpoint)))
}

fn summary(stack: &Stack, services: &Services, account: &demo::Account, home: &Path, say: &Say) -> String {
    let traces = match (&stack.jaeger, &stack.traces, &stack.otlp) {
        (Some(jaeger), ..) => format!("{jaeger} (Jaeger)"),
        (None, Some(_), _) => "cargo rushes trace ID, of a generation or a trace".to_owned(),
        (None, None, endpoint) => {
            format!("sent to {} (OTLP over gRPC); they are looked up there", endpoint.as_deref().unwrap_or("nobody"))
        }
    };
    let scene = account.scenes.first().map_or("projects/…/scenes/…", String::as_str);
    let trace = account.generations.first().map_or_else(String::new, |name| format!("\n  cargo rushes trace {name}"));
    format!(
        "\nRushes is up, after {}.\n
  API      {}  (gRPC, gRPC-Web and reflection; assets over HTTP)
  key      {}
  traces   {traces}
  metrics  {}
  logs     {}  (one file for each service)
           more of them: RUSHES_LOG=debug cargo rushes up, or a filter such as RUSHES_LOG=info,generation_worker=trace\n
Try, in another terminal in this directory:
  cargo rushes dashboard
  cargo rushes generate --scene {scene} --prompt \"a paper boat in the rain\"{trace}\n
Ctrl-C ends everything; the data stays for the next time.",
        say.elapsed(),
        stack.address,
        stack.api_key,
        services.metrics(),
        home.join("logs").display(),
    )
}

/// Holds the one stack of this checkout.
fn lock(home: &Path) -> Result<std::fs::File> {
    let path = home.join("lock");
    let file = std::fs::File::create(&path).with_context(|| format!("opening {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(Failure::new("`rushes up` already runs in this checkout")
            .todo("use it as it is, or end it with Ctrl-C in its terminal")
            .into()),
        Err(std::fs::TryLockError::Error(error)) => Err(error).with_context(|| format!("locking {}", path.display())),
    }
}

/// Takes the gateway's port, to be let go when the gateway starts: what is asked for must be free, and the usual one gives
/// way to another.
fn gateway_port(asked: Option<u16>) -> Result<TcpListener> {
    let take = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    match asked {
        None => take(8080).or_else(|_| take(testkit::free_port())).context("binding a port for the gateway"),
        Some(port) => take(port).map_err(|error| {
            Failure::new(format!("port {port} cannot be had for the gateway: {error}"))
                .todo("give another with --port, or none to have a free one chosen")
                .into()
        }),
    }
}
