//! The process: telemetry, settings, build, bind the admin port, work until a signal, drain, flush.

use std::sync::Arc;

use chassis::admin::Admin;
use chassis::drain::Drain;
use chassis::settings::Source;
use chassis::telemetry::Telemetry;
use generation_worker::config::Config;
use generation_worker::providers::Registry;
use generation_worker::providers::local::{self, Local};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let source = Source::process();
    let config = match chassis::crash::arm(&source).and_then(|()| Config::read(&source)) {
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
    let providers = Registry::default().with(local::MODEL, Arc::new(local));
    let admin = Admin::bind(config.admin).await?;
    let name = format!("generation-worker/{}/{}", admin.addr(), std::process::id());
    tracing::info!(admin = %admin.addr(), models = ?providers.models(), "working");
    let worker = generation_worker::build(&config.worker, providers, name)?;
    let drain = Drain::on_signals();
    // The admin port answers to the end of the grace period, unless the work is over before.
    tokio::select! {
        () = worker.run(drain.clone()) => {}
        served = admin.serve(drain) => served?,
    }
    tracing::info!("stopped");
    Ok(())
}
