//! Back-off: how long a broken stream is opened again, and how long to wait between two tries.
//!
//! Invariant: clients that lost the same server do not come back at the same moment.

use std::time::Duration;

use tokio::time::Instant;
use tonic::{Code, Status};

/// Where nothing was heard yet, there may be nothing to wait for.
const UNHEARD: Duration = Duration::from_secs(6);
/// A server that was heard is waited for: it may be replaced, or starting.
const HEARD: Duration = Duration::from_secs(60);
/// The longest pause between two tries, and twice the longest first one.
const LONGEST: Duration = Duration::from_secs(3);
const SHORTEST: Duration = Duration::from_millis(200);

/// The back-off of one command with its server.
pub(crate) struct Backoff {
    lasts: Duration,
    since: Instant,
    tries: u32,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { lasts: UNHEARD, since: Instant::now(), tries: 0 }
    }

    /// The server spoke: all is well again.
    pub(crate) fn heard(&mut self) {
        *self = Self { lasts: HEARD, ..Self::new() };
    }

    /// Waits for the next try; false when that is of no use, since the answer would be the same or it took too long.
    pub(crate) async fn again(&mut self, status: &Status) -> bool {
        let passing = matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled);
        if !passing || self.since.elapsed() >= self.lasts {
            return false;
        }
        self.pause().await;
        true
    }

    /// Waits for the next try.
    pub(crate) async fn pause(&mut self) {
        let max = LONGEST.min(SHORTEST * 2_u32.pow(self.tries.min(8)));
        self.tries += 1;
        tokio::time::sleep(max.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
    }
}
