//! The thumbnail-worker's process, and the processes of its own that it has files decoded in.
//!
//! The system's allocator serves both: it takes no memory in advance and gives large pieces back at once, so that a decoder's limit of
//! memory bounds what the file at hand needs, and nothing else.

use std::process::ExitCode;

use thumbnail_worker::{Config, Service};

fn main() -> ExitCode {
    if let Some(code) = thumbnail_worker::run_as_child() {
        return code;
    }
    chassis::process::run("thumbnail-worker", &[], async |process| {
        let config = Config::read(process.settings())?;
        process.start_telemetry(&config.telemetry);
        config.check().await?;
        let bound = Service::open(&config).await?.bind().await?;
        Ok(bound.serve(process.drain()).await?)
    })
}
