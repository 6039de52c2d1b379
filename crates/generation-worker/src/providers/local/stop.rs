//! Whether drawing is to go on: asked by whatever takes longer than a moment.

use std::time::{Duration, Instant};

/// How long the pictures of one order may take to be decoded.
const DECODING: Duration = Duration::from_secs(20);

/// Says when work is to end before its end.
#[derive(Clone, Copy)]
pub(super) struct Stop<'a> {
    is_cancelled: &'a dyn Fn() -> bool,
    deadline: Instant,
}

impl<'a> Stop<'a> {
    pub(super) fn new(is_cancelled: &'a dyn Fn() -> bool) -> Self {
        Self { is_cancelled, deadline: Instant::now() + DECODING }
    }

    pub(super) fn is_cancelled(&self) -> bool {
        (self.is_cancelled)()
    }

    /// Whether it was cancelled, or has taken too long.
    pub(super) fn is_set(&self) -> bool {
        self.is_cancelled() || Instant::now() > self.deadline
    }
}
