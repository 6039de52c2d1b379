//! Stop: the time at which work is to end by itself, with a sentence, before it is killed.
//!
//! Invariant: it never moves; work that does not ask runs on until its process is killed.

use std::time::{Duration, Instant};

/// A time that work asks for while it runs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stop {
    at: Option<Instant>,
}

impl Stop {
    /// Stops work after this long.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        Self { at: Instant::now().checked_add(time) }
    }

    /// Whether the work is to stop.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.at.is_some_and(|at| Instant::now() >= at)
    }
}
