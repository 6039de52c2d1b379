//! Places for what runs at a time: calls of a server, streams of a connection.
//!
//! Invariant: no more slots of one admission exist at a time than its limit, and one that is dropped is free again.

mod by_address;
mod shares;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::status::Failure;

pub use by_address::{ByAddress, Full, Place};
pub use shares::{Share, Shares};

/// After what time a call that was shed may come again.
const RETRY_AFTER: Duration = Duration::from_millis(250);

/// All places, in hundredths.
pub(crate) const ALL: u32 = 100;

/// A number of places for calls that run at a time; clones share them. A public server's service finds it in the extensions of a
/// request, and takes a place once it knows who calls.
#[derive(Clone, Debug)]
pub struct Admission {
    limit: usize,
    running: Arc<AtomicUsize>,
}

impl Admission {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, running: Arc::default() }
    }

    /// Takes a place if there is one, which is free again when the slot is dropped.
    pub(crate) fn try_take(&self) -> Option<Slot> {
        self.try_take_within(ALL)
    }

    fn try_take_within(&self, percent: u32) -> Option<Slot> {
        let percent = usize::try_from(percent).unwrap_or(usize::MAX);
        let limit = (self.limit.saturating_mul(percent) / 100).clamp(1, self.limit.max(1));
        if self.running.fetch_add(1, Ordering::Relaxed) < limit {
            return Some(Slot(self.running.clone()));
        }
        self.running.fetch_sub(1, Ordering::Relaxed);
        None
    }

    /// Takes a place, which is free again when the slot is dropped.
    ///
    /// # Errors
    /// `OVERLOADED` when all are taken.
    pub fn admit(&self) -> Result<Slot, Failure> {
        self.admit_within(ALL)
    }

    /// Takes a place while fewer than `percent` hundredths of all are taken, by whomever: so the last places are kept for who may have
    /// all of them, and who may have less is shed first.
    ///
    /// # Errors
    /// `OVERLOADED` when so many are taken.
    pub fn admit_within(&self, percent: u32) -> Result<Slot, Failure> {
        self.try_take_within(percent)
            .ok_or_else(|| Failure::exhausted("OVERLOADED", "too many calls at once", RETRY_AFTER))
    }
}

/// One of the calls that may run at a time.
#[derive(Debug)]
pub struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
