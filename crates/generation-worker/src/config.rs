//! The worker's settings, read once at the start. Each names its variable when it is wrong.

use std::time::Duration;

use chassis::settings::{Error, Source};
use chassis::{blobs, server, telemetry};
use http::Uri;

/// All that the process needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Logs and traces.
    pub telemetry: telemetry::Settings,
    /// The port for webhooks that the gateway passes on, and the admin port.
    pub server: server::Settings,
    /// What the worker itself runs with.
    pub worker: Settings,
    /// What the built-in provider runs with.
    pub local: Local,
}

/// What the worker runs with; tests build it by hand.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where work comes from.
    pub generation_status: Uri,
    /// Who makes posters.
    pub thumbnail_worker: Uri,
    /// Object storage.
    pub blobs: blobs::Settings,
    /// Pieces of work that are carried out at one time.
    pub slots: u32,
    /// Longest video that is brought home, in bytes.
    pub video_bytes: u64,
    /// How long a provider may take for one order.
    pub order_limit: Duration,
    /// How often leases are prolonged.
    pub heartbeat: Duration,
}

/// What the built-in provider runs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// The least time that a sketch takes, so that its progress can be watched.
    pub pace: Duration,
    /// Sketches that are drawn at one time.
    pub threads: usize,
}

impl Config {
    /// Reads every setting.
    ///
    /// # Errors
    /// One sentence about the first that is missing or wrong.
    pub fn read(source: &Source) -> Result<Self, Error> {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let seconds = "a number of seconds, from 0 to 600";
        let pace: f64 = source.or("RUSHES_LOCAL_PACE", 4.0, seconds)?;
        if !(0.0..=600.0).contains(&pace) {
            return Err(Error::wrong("RUSHES_LOCAL_PACE", seconds));
        }
        Ok(Self {
            telemetry: telemetry::Settings::read(source)?,
            server: server::Settings::read(source)?,
            worker: Settings {
                generation_status: source.required("RUSHES_GENERATION_STATUS_URL", "a URL, http://host:8080")?,
                thumbnail_worker: source.required("RUSHES_THUMBNAIL_WORKER_URL", "a URL, http://host:8080")?,
                blobs: blobs::Settings::read(source)?,
                slots: source.or("RUSHES_WORKER_SLOTS", 4, "how many generations are worked on at one time")?,
                video_bytes: source.or("RUSHES_VIDEO_MAX_BYTES", 256 << 20, "a number of bytes")?,
                order_limit: source.duration("RUSHES_ORDER_LIMIT", Duration::from_secs(1_800), "a time")?,
                heartbeat: source.duration("RUSHES_HEARTBEAT", Duration::from_secs(10), "a time")?,
            },
            local: Local {
                pace: Duration::from_secs_f64(pace),
                threads: source.or("RUSHES_LOCAL_THREADS", cores, "a number of threads")?,
            },
        })
    }
}
