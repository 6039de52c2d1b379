//! The settings that all watches share.

use std::time::Duration;

use chassis::settings::{Error, Source};

/// How watches behave.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// A watcher that was sent nothing for this long is sent a heartbeat.
    pub heartbeat: Duration,
    /// A watch ends with `moved` at about this age, a fifth more or less, so that watchers spread over processes.
    pub age: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { heartbeat: Duration::from_secs(15), age: Duration::from_secs(600) }
    }
}

impl Settings {
    /// Reads `RUSHES_WATCH_HEARTBEAT` and `RUSHES_WATCH_MAX_AGE`.
    ///
    /// # Errors
    /// One of them cannot be read, or the heartbeat is zero.
    pub fn read(source: &Source) -> Result<Self, Error> {
        let default = Self::default();
        let heartbeat = source.duration("RUSHES_WATCH_HEARTBEAT", default.heartbeat, "a time")?;
        // An interval of zero would send heartbeats without a pause.
        if heartbeat.is_zero() {
            return Err(Error::wrong("RUSHES_WATCH_HEARTBEAT", "more than 0"));
        }
        Ok(Self { heartbeat, age: source.duration("RUSHES_WATCH_MAX_AGE", default.age, "a time")? })
    }
}
