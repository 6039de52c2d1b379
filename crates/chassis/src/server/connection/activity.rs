//! What happens on one connection: how much was received, and when the last request ended.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep, sleep_until};

/// HTTP/2's preface and the beginning of the SETTINGS that must follow: with fewer bytes a connection has not said what it wants. A whole
/// HTTP/1 request may be shorter, and counts as a request.
const HANDSHAKE: usize = 24 + 9;

/// Counts of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    received: AtomicUsize,
    requested: AtomicBool,
    open: AtomicUsize,
    last: Mutex<Instant>,
}

/// A request that has not ended, its answer included.
#[derive(Debug)]
pub(super) struct Open(Arc<Activity>);

/// Why a connection is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Idle {
    /// It has not said in time what it wants.
    Handshake,
    /// It has had no request for too long.
    Requests,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            received: AtomicUsize::new(0),
            requested: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            last: Mutex::new(Instant::now()),
        }
    }

    /// So many more bytes have come.
    pub(super) fn receive(&self, bytes: usize) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A request has come.
    pub(super) fn request(&self) {
        self.requested.store(true, Ordering::Relaxed);
    }

    /// Counts a request for as long as what is returned exists.
    pub(super) fn open(self: &Arc<Self>) -> Open {
        self.open.fetch_add(1, Ordering::Relaxed);
        Open(self.clone())
    }

    /// Waits until the connection is of no use: until `handshake` has passed and it has not said what it wants, or until there was no
    /// request for `idle`.
    pub(super) async fn idle(&self, handshake: Duration, idle: Duration) -> Idle {
        sleep(handshake).await;
        if !self.requested.load(Ordering::Relaxed) && self.received.load(Ordering::Relaxed) < HANDSHAKE {
            return Idle::Handshake;
        }
        loop {
            let busy = self.open.load(Ordering::Relaxed) > 0;
            let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let until = if busy { Instant::now() + idle } else { last + idle };
            if until <= Instant::now() {
                return Idle::Requests;
            }
            sleep_until(until).await;
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // First the time: who sees no request must see when the last one ended.
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
