//! The process: telemetry, settings, build, bind the ports, work until a signal, drain, flush.

use chassis::drain::Drain;
use chassis::settings::Source;
use chassis::telemetry::Telemetry;
use generation_worker::{Config, Service};

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
    let bound = Service::open(config)?.bind().await?;
    bound.serve(Drain::on_signals()).await?;
    Ok(())
}
