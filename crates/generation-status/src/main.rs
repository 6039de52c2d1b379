//! generation-status, the process: settings, telemetry, ports, and the way out.

use std::process::ExitCode;

use chassis::drain::Drain;
use chassis::settings::Source;
use chassis::telemetry::Telemetry;
use generation_status::{Config, Service};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("generation-status: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> anyhow::Result<()> {
    let source = Source::process();
    chassis::crash::arm(&source, generation_status::crash_points::ALL)?;
    let config = Config::read(&source)?;
    // Dropped on every way out of here, which sends the spans that are still in memory.
    let _telemetry = Telemetry::start("generation-status", &config.telemetry);
    let drain = Drain::on_signals();
    let bound = Service::open(&config).await?.bind().await?;
    tracing::info!(addr = %bound.addr(), admin = %bound.admin_addr(), "bound");
    Ok(bound.serve(drain).await?)
}
