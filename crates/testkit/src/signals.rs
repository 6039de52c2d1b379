//! The signals that end us.

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Does `work`, or answers `None` when a signal comes first. What is dropped half-way then ends its processes, which clean up
/// behind themselves.
pub async fn unless_ended<T>(work: impl Future<Output = Result<T>>) -> Result<Option<T>> {
    let mut signals = Signals::listen()?;
    tokio::select! {
        outcome = work => outcome.map(Some),
        () = signals.next() => Ok(None),
    }
}

/// SIGINT, SIGTERM and SIGHUP, caught from the moment this exists.
pub struct Signals {
    int: Signal,
    term: Signal,
    hangup: Signal,
}

impl Signals {
    /// Catches them from now on.
    pub fn listen() -> Result<Self> {
        let catch = |kind| signal(kind).context("catching signals");
        Ok(Self {
            int: catch(SignalKind::interrupt())?,
            term: catch(SignalKind::terminate())?,
            hangup: catch(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
