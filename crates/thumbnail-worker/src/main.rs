//! The process: telemetry, settings, build, bind, serve until a signal, drain, flush.

use chassis::drain::Drain;
use chassis::settings::Source;
use chassis::telemetry::Telemetry;
use thumbnail_worker::Service;
use thumbnail_worker::config::Config;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let config = match Config::read(&Source::process()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("thumbnail-worker: {error}");
            return std::process::ExitCode::FAILURE;
        }
    };
    let telemetry = Telemetry::start("thumbnail-worker", &config.telemetry);
    let result = run(&config).await;
    if let Err(error) = &result {
        tracing::error!("{error:#}");
    }
    telemetry.shutdown();
    if result.is_ok() { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}

async fn run(config: &Config) -> anyhow::Result<()> {
    let service = Service::build(&config.service).await?;
    let bound = Service::server(&config.server).bind().await?;
    service.serve(bound, Drain::on_signals()).await?;
    Ok(())
}
