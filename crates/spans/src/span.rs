//! One finished span, as a collector keeps it and a client of the collector reads it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Which side of a call a span stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Work inside a process.
    #[default]
    Internal,
    /// A request being served.
    Server,
    /// A request being made.
    Client,
    /// A message being sent.
    Producer,
    /// A message being received.
    Consumer,
}

/// One finished span.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Its trace, 32 hexadecimal digits.
    pub trace: String,
    /// Its own id, 16 hexadecimal digits.
    pub id: String,
    /// The span that it is under, 16 hexadecimal digits; `None` for the root of a trace.
    pub parent: Option<String>,
    /// The spans that it is linked to, as pairs of trace and span.
    pub links: Vec<(String, String)>,
    /// The process that made it: `service.name`.
    pub service: String,
    /// Its name.
    pub name: String,
    /// Which side of a call it is.
    pub kind: Kind,
    /// When it began, in nanoseconds since 1970.
    pub start: u64,
    /// When it ended, in nanoseconds since 1970.
    pub end: u64,
    /// Its attributes, values as text.
    pub attributes: BTreeMap<String, String>,
    /// What went wrong; `None` when it did not fail.
    pub error: Option<String>,
    /// The names of its events, in order.
    pub events: Vec<String>,
}

impl Span {
    /// How long it took.
    #[must_use]
    pub fn duration(&self) -> Duration {
        Duration::from_nanos(self.end.saturating_sub(self.start))
    }

    /// The attribute `key`, as text.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes.get(key).map(String::as_str)
    }
}
