//! The double's settings: where it listens, what it signs with, and how it behaves.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::faults::Faults;
use crate::outages::Outage;

/// Everything that a double needs to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The bill, to which lines are added.
    pub bill: PathBuf,
    /// Everything that is left to chance is drawn from it.
    pub seed: u64,
    /// What requests have to show: `Bearer` and this at Replicate, `Key` and this at fal.
    pub token: String,
    /// Further tokens, each with a health of its own in `outages`.
    pub more_tokens: Vec<MoreToken>,
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
    /// The models that there are, by the names of the protocols' paths; none: every one is.
    pub models: Vec<String>,
    /// The JSON Schemas of models' inputs, by the names of the protocols' paths. A field that the schema does not have is dropped,
    /// and on the bill; a value that it does not allow is refused.
    pub schemas: BTreeMap<String, Value>,
    /// The fields of the input of a model without a schema; where a model is strict, another is refused.
    pub fields: Vec<String>,
    /// Whether every model is strict, not only as many as `faults` says.
    pub strict: bool,
    /// Windows of time, from the start, in which it is away.
    pub outages: Vec<Outage>,
    /// The pause between two bytes of a file that comes slowly, in milliseconds.
    pub drip_ms: u64,
    /// How long a file is that is too long, in bytes.
    pub huge_bytes: u64,
}

/// A further token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoreToken {
    /// What requests may show in place of the first.
    pub token: String,
    /// Whose orders it knows: those of all tokens of this account. The first token's is empty.
    #[serde(default)]
    pub account: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self::new("bill.jsonl")
    }
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
            more_tokens: Vec::new(),
            secret: "whsec_ZG91YmxlLXNlY3JldC1vZi10aGUtdGVzdHM=".to_owned(),
            waits: (0, 0),
            renders: (20, 60),
            keys: false,
            faults: Faults::default(),
            models: Vec::new(),
            schemas: BTreeMap::new(),
            fields: vec!["prompt".to_owned()],
            strict: false,
            outages: Vec::new(),
            drip_ms: 1_000,
            huge_bytes: 300 << 20,
        }
    }
}
