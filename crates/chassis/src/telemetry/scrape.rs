//! The process's Prometheus metrics: one recorder, fixed buckets by the ending of a metric's name, and gauges that are
//! read at the moment of a scrape.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    time::Duration,
};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

const SECONDS: &[f64] = &[
    0.000_25, 0.000_5, 0.001, 0.002, 0.003_5, 0.005, 0.01, 0.02, 0.035, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0,
    60.0, 300.0,
];
const BYTES: &[f64] =
    &[256.0, 1_024.0, 4_096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0, 67_108_864.0];
const ROWS: &[f64] = &[0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 5_000.0];
const COUNTS: &[f64] = &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 13.0, 21.0, 34.0, 55.0];

type Reader = Box<dyn Fn() -> bool + Send>;

static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
static READERS: Mutex<Vec<Reader>> = Mutex::new(Vec::new());

/// Installs the recorder, once in a process.
pub(super) fn install() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)
            .and_then(|b| b.set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), BYTES))
            .and_then(|b| b.set_buckets_for_metric(Matcher::Suffix("_rows".to_owned()), ROWS))
            .and_then(|b| b.set_buckets(COUNTS));
        match builder.and_then(PrometheusBuilder::install_recorder) {
            Ok(handle) => {
                let _ = HANDLE.set(handle);
                super::metric::collected();
                upkeep();
            }
            // A test process may have its own recorder; there is then nothing to render here.
            Err(error) => eprintln!("metrics are not collected: {error}"),
        }
    });
}

/// Samples of histograms wait in memory until they are folded, which must not depend on anyone scraping.
fn upkeep() {
    let run = || loop {
        std::thread::sleep(Duration::from_secs(5));
        if let Some(handle) = HANDLE.get() {
            handle.run_upkeep();
        }
    };
    let spawned = std::thread::Builder::new().name("metrics-upkeep".to_owned()).spawn(run);
    if let Err(error) = spawned {
        eprintln!("metrics are folded only when scraped: {error}");
    }
}

/// Runs `read` before each scrape, to set gauges from what they describe; it is forgotten once it returns `false`.
pub fn on_scrape(read: impl Fn() -> bool + Send + 'static) {
    READERS.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(read));
}

/// The metrics of this process in Prometheus' text format; empty before [`super::Telemetry::start`].
#[must_use]
pub fn page() -> String {
    READERS.lock().unwrap_or_else(PoisonError::into_inner).retain(|read| read());
    HANDLE.get().map(PrometheusHandle::render).unwrap_or_default()
}
