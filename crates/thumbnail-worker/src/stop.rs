//! Stop: tells work on another thread that nobody waits for it any more, or that it has taken as long as it may.
//!
//! Invariant: it is only ever set, never taken back; work that does not ask runs on, and so is bounded by other means.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag that work asks while it runs; clones are the same flag.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    set: Arc<AtomicBool>,
}

impl Stop {
    /// Tells the work to stop.
    pub fn set(&self) {
        self.set.store(true, Ordering::Relaxed);
    }

    /// Whether the work is to stop.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::Relaxed)
    }
}
