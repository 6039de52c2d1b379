//! What every watch does alike, whatever it watches: who watches what and what waits for each (`hub`, `inbox`), the heartbeat and
//! the end of its stream (`heartbeat`), and its metrics.
//!
//! Invariant: a watch rests on reads, not on messages. Whoever may have missed a change is told to read again.

mod heartbeat;
mod hub;
mod inbox;
mod metrics;
mod settings;

pub use heartbeat::{Due, Heartbeat};
pub use hub::{Filter, Hub, Subscription};
pub use inbox::{Inbox, Known, Update, Watchable};
pub use metrics::{Metrics, OpenWatch, ResumeOutcome};
pub use settings::Settings;

// The services' names for these, until each has moved to the ones above.
pub use heartbeat::{Due as Beat, Heartbeat as Pulse};
pub use metrics::{Metrics as Meters, OpenWatch as Open, ResumeOutcome as Resumed};
