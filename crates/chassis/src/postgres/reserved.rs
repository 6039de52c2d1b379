//! How many connections this process may open in all, to be held beside what the server accepts.

use crate::metrics;

/// Connections that may be opened, counted into the process's sum for as long as this lives.
#[derive(Debug)]
pub(super) struct Reserved(u32);

impl Reserved {
    pub(super) fn of(max: u32) -> Self {
        metrics::CONNECTIONS_MAX.get().increment(max);
        Self(max)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        metrics::CONNECTIONS_MAX.get().decrement(self.0);
    }
}
