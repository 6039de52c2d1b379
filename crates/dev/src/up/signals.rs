//! The signals that end us.

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

use cli::failure::Exit;

/// Does `work` unless a signal comes first. What is dropped half-way then ends its processes, which clean up behind
/// themselves.
pub(crate) async fn unless_ended(work: impl Future<Output = Result<Exit>>) -> Result<Exit> {
    let mut signals = Signals::listen()?;
    tokio::select! {
        exit = work => exit,
        () = signals.next() => Ok(Exit::Failed),
    }
}

/// SIGINT, SIGTERM and SIGHUP, caught from the moment this exists.
pub(crate) struct Signals {
    int: Signal,
    term: Signal,
    hangup: Signal,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self> {
        let catch = |kind| signal(kind).context("catching signals");
        Ok(Self {
            int: catch(SignalKind::interrupt())?,
            term: catch(SignalKind::terminate())?,
            hangup: catch(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.int.recv() => {}
            _ = self.term.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }
}
