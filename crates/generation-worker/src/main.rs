//! The process: telemetry, settings, build, bind the admin port, work until a signal, drain, flush.

use std::sync::Arc;

use chassis::drain::Drain;
use chassis::server::Server;
use chassis::settings::Source;
use chassis::telemetry::Telemetry;
use generation_worker::config::Config;
use generation_worker::crash_points;
use generation_worker::providers::Registry;
use generation_worker::providers::local::{self, Local};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let source = Source::process();
    let config = match chassis::crash::arm(&source, crash_points::ALL).and_then(|()| Config::read(&source)) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("generation-worker: {error}");
            return std::process::ExitCode::FAILURE;
        }
    };
    let telemetry = Telemetry::start("generation-worker", &config.telemetry);
    let result = run(&config).await;
    if let Err(error) = &result {
        tracing::error!("{error:#}");
    }
    telemetry.shutdown();
    if result.is_ok() { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}

async fn run(config: &Config) -> anyhow::Result<()> {
    let local = Local::new(config.local.pace, config.local.threads);
    let providers = Registry::default().with(local::MODEL, Arc::new(local)).with_remote(config)?;
    let bound = Server::new("generation-worker", &config.server).describe(proto::DESCRIPTOR_SET).bind().await?;
    let name = format!("generation-worker/{}/{}", bound.admin_addr(), std::process::id());
    tracing::info!(models = ?providers.models(), "working");
    let hooks = generation_worker::hooks(&config.worker, providers.clone());
    let worker = generation_worker::build(&config.worker, providers, name)?;
    generation_worker::serve(worker, bound, hooks, Drain::on_signals()).await?;
    tracing::info!("stopped");
    Ok(())
}
