//! The double's settings: where it listens, what it signs with, and how often what goes wrong.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Everything that a double needs to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The bill, to which lines are added.
    pub bill: PathBuf,
    /// Everything that is left to chance is drawn from it.
    pub seed: u64,
    /// What requests have to show: `Bearer` and this at Replicate, `Key` and this at fal.
    pub token: String,
    /// What Replicate's webhooks are signed with, `whsec_…`.
    pub secret: String,
    /// How long an order waits before it is begun, in milliseconds: minimum and maximum.
    pub waits: (u64, u64),
    /// How long an order is worked on, in milliseconds: minimum and maximum.
    pub renders: (u64, u64),
    /// Whether the same `Idempotency-Key` leads to the same order. Neither of the real ones documents that.
    pub keys: bool,
    /// How often what goes wrong.
    pub faults: Faults,
}

/// Probabilities, 0 to 1, of what goes wrong.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// The connection is cut, and nothing was ordered.
    pub cut_before: f64,
    /// The order is taken and the connection cut before the answer.
    pub cut_after: f64,
    /// The order is taken and the answer is a 502.
    pub error_after: f64,
    /// The order is taken and the answer comes late, within two seconds.
    pub late: f64,
    /// The order is refused with 429 and Retry-After.
    pub throttled: f64,
    /// A poll, a cancel or a download is cut or answered with an error.
    pub unavailable: f64,
    /// The order fails.
    pub failed: f64,
    /// The order never ends by itself.
    pub endless: f64,
    /// The order is not known any more once it is over.
    pub forgotten: f64,
    /// A cancel is taken, and the video made all the same.
    pub stubborn: f64,
    /// While it works it says a word that no documentation has.
    pub unknown_word: f64,
    /// No webhook comes.
    pub hook_lost: f64,
    /// The webhook comes twice.
    pub hook_twice: f64,
    /// The webhook comes late, within three seconds.
    pub hook_late: f64,
    /// A webhook with a wrong signature comes first.
    pub hook_forged: f64,
    /// Of Replicate's two webhooks the second comes first.
    pub hook_reordered: f64,
}

impl Settings {
    /// A double that does everything right and quickly, on a free port.
    #[must_use]
    pub fn new(bill: impl Into<PathBuf>) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            bill: bill.into(),
            seed: 1,
            token: "double-token".to_owned(),
            secret: "whsec_ZG91YmxlLXNlY3JldC1vZi10aGUtdGVzdHM=".to_owned(),
            waits: (0, 0),
            renders: (20, 60),
            keys: false,
            faults: Faults::default(),
        }
    }
}
