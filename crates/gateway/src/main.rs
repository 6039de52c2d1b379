//! The gateway's process.

use std::process::ExitCode;

use gateway::{Config, Service};

#[global_allocator]
static ALLOCATOR: chassis::process::Allocator = chassis::process::Allocator;

fn main() -> ExitCode {
    chassis::process::run("gateway", &[], async |process| {
        let config = Config::read(process.settings())?;
        process.start_telemetry(&config.telemetry);
        config.check().await?;
        let bound = Service::open(&config).await?.bind().await?;
        Ok(bound.serve(process.drain()).await?)
    })
}
