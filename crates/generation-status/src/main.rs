//! generation-status, the process: settings, telemetry, ports, and the way out.

use std::process::ExitCode;

use anyhow::Context as _;
use chassis::drain::Drain;
use chassis::settings::Source;
use chassis::telemetry::Telemetry;
use generation_status::Service;
use generation_status::config::Config;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let config = match Config::read(&Source::process()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("generation-status: {error}");
            return ExitCode::from(2);
        }
    };
    let telemetry = Telemetry::start("generation-status", &config.telemetry);
    let result = run(&config).await;
    if let Err(error) = &result {
        tracing::error!(error = format!("{error:#}"), "generation-status ends");
    }
    telemetry.shutdown();
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(config: &Config) -> anyhow::Result<()> {
    let bound = Service::server(&config.server).bind().await?;
    tracing::info!(addr = %bound.addr(), admin = %bound.admin_addr(), "bound");
    let drain = Drain::on_signals();
    let service = Service::start(&config.service, &drain).await.context("starting")?;
    service.serve(bound).await.context("serving")
}
