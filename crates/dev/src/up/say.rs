//! Progress on standard error: one line for each step, with the time since the start.
//!
//! Invariant: standard output is left to the result, so that a program can read it.

use std::time::{Duration, Instant};

use cli::out;

/// Says what is being done.
pub(crate) struct Say {
    started: Instant,
}

impl Say {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now() }
    }

    /// Says what is being done from now on.
    pub(crate) fn step(&self, what: impl std::fmt::Display) {
        out::warn(format_args!("{:>6.1} s  {what}", self.started.elapsed().as_secs_f64()));
    }

    /// The time since the start, for people.
    pub(crate) fn elapsed(&self) -> String {
        let elapsed = self.started.elapsed();
        if elapsed < Duration::from_secs(120) {
            format!("{:.1} s", elapsed.as_secs_f64())
        } else {
            format!("{} min {} s", elapsed.as_secs() / 60, elapsed.as_secs() % 60)
        }
    }
}
