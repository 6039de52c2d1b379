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
