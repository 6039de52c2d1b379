//! The dashboard's process: settings, telemetry, ports, serve, drain.

use std::process::ExitCode;

use chassis::drain::Drain;
use chassis::settings::Source;
use chassis::telemetry::Telemetry;
use dashboard::{Config, Service};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dashboard: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let config = Config::read(&Source::process())?;
    // Dropped on every way out of here, which sends the spans that are still in memory.
    let _telemetry = Telemetry::start("dashboard", &config.telemetry);
    let drain = Drain::on_signals();
    let bound = Service::open(&config).await?.bind().await?;
    tracing::info!(addr = %bound.addr(), admin = %bound.admin_addr(), "bound");
    bound.serve(drain).await?;
    Ok(())
}
