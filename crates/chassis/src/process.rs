//! How every service's process runs, from its settings to its exit code.
//!
//! Invariants: a start or a run that fails says one sentence on standard error and exits with 1; spans still in memory are
//! sent on every way out, a second signal included; a signal that comes during the start is obeyed.

use std::{process::ExitCode, time::Duration};

use crate::{
    crash,
    drain::Drain,
    settings::Source,
    telemetry::{self, Telemetry},
};

/// The services' allocator.
pub use mimalloc::MiMalloc as Allocator;

/// The exit code of a process that was told twice to end, as shells have it for an interrupt.
const CUT_SHORT: u8 = 130;

/// How long a process that was told twice to end still tries to send its spans.
const LAST_SPANS: Duration = Duration::from_secs(1);

/// What a service's `main` is given: settings and drain; and where it starts its telemetry.
#[derive(Debug)]
pub struct Process {
    service: &'static str,
    source: Source,
    drain: Drain,
    telemetry: Option<Telemetry>,
}

impl Process {
    /// The settings of this process.
    #[must_use]
    pub fn settings(&self) -> &Source {
        &self.source
    }

    /// Starts logs, traces and metrics under the service's name; they end with the process.
    pub fn start_telemetry(&mut self, settings: &telemetry::Settings) {
        self.telemetry = Some(Telemetry::start(self.service, settings));
    }

    /// The drain, which begins with the first signal.
    #[must_use]
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }
}

/// A name that no other start of a service has: `{service}/{host}/{random}/{pid}`.
#[must_use]
pub fn instance_name(service: &str) -> String {
    // Address and process id tell processes of one host apart, but are the same in all containers; the host alone is the same
    // when a container starts again.
    let (host, random) = (rustix::system::uname(), fastrand::u32(..));
    format!("{service}/{}/{random:08x}/{}", host.nodename().to_string_lossy(), std::process::id())
}

/// Arms the crash point that the settings name, if one of `crash_points`, and runs `main`, the whole life of `service`.
///
/// ```no_run
/// # struct Config { telemetry: chassis::telemetry::Settings, server: chassis::server::Settings }
/// # impl Config {
/// #     fn read(source: &chassis::settings::Source) -> Result<Self, chassis::settings::Error> {
/// #         Ok(Self {
/// #             telemetry: chassis::telemetry::Settings::read(source)?,
/// #             server: chassis::server::Settings::read(source)?,
/// #         })
/// #     }
/// # }
/// fn main() -> std::process::ExitCode {
///     chassis::process::run("shop", &[], async |process| {
///         let config = Config::read(process.settings())?;
///         process.start_telemetry(&config.telemetry);
///         let bound = chassis::server::Server::new("shop", &config.server).bind().await?;
///         Ok(bound.serve(tonic::service::Routes::default(), process.drain()).await?)
///     })
/// }
/// ```
pub fn run<F>(service: &'static str, crash_points: &[&'static str], main: F) -> ExitCode
where
    F: AsyncFnOnce(&mut Process) -> anyhow::Result<()>,
{
    let code = start(service, crash_points, main);
    code.unwrap_or_else(|error| {
        eprintln!("{service}: {error:#}");
        ExitCode::FAILURE
    })
}

fn start<F>(service: &'static str, crash_points: &[&'static str], main: F) -> anyhow::Result<ExitCode>
where
    F: AsyncFnOnce(&mut Process) -> anyhow::Result<()>,
{
    let source = Source::process();
    crash::arm(&source, crash_points)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(async {
        let drain = Drain::on_signals();
        let mut process = Process { service, source, drain: drain.clone(), telemetry: None };
        // Dropped on the other ways out, by an error or a panic, telemetry sends what it has in memory.
        tokio::select! {
            biased;
            () = drain.cut_short() => {}
            done = main(&mut process) => return done.map(|()| ExitCode::SUCCESS),
        }
        if let Some(telemetry) = process.telemetry.take() {
            telemetry.shutdown_within(LAST_SPANS);
        }
        Ok(ExitCode::from(CUT_SHORT))
    });
    // Whatever still runs on another thread is safe to lose; waiting for it could last for as long as it likes.
    runtime.shutdown_background();
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_has_a_name_of_its_own_that_begins_with_service_and_host() {
        let names: std::collections::BTreeSet<_> = (0..100).map(|_| instance_name("shop")).collect();
        assert_eq!(names.len(), 100);
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        assert!(!host.is_empty() && names.iter().all(|name| name.starts_with(&format!("shop/{host}/"))), "{names:?}");
    }
}
