//! How long a stream that broke is taken up again, and how long to wait between two tries.
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

/// The patience of one command with its server.
pub(crate) struct Patience {
    lasts: Duration,
    since: Instant,
    turn: u32,
}

impl Patience {
    pub(crate) fn new() -> Self {
        Self { lasts: UNHEARD, since: Instant::now(), turn: 0 }
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
        let most = LONGEST.min(SHORTEST * 2_u32.pow(self.turn.min(8)));
        self.turn += 1;
        tokio::time::sleep(most.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
    }
}
