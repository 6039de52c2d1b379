//! The bytes of whole files that lie in memory: uploads under way, and what was fetched to be decoded.
//!
//! Invariant: what is held together never exceeds the budget, so a thousand slow uploads cost no more than the budget says.
//! Whoever needs a place in the pool too asks here first, never the other way round, so that nobody waits in a circle.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;

/// Bytes are counted in pieces of this size.
const PIECE: u64 = 16 << 10;

/// The budget; clones share it.
#[derive(Clone, Debug)]
pub struct Holding {
    pieces: Arc<Semaphore>,
    all: u32,
}

/// The right to hold so many bytes, until it is let go of.
#[derive(Debug)]
pub struct Held {
    _permit: OwnedSemaphorePermit,
}

impl Holding {
    /// A budget of `bytes`, at least one piece.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let all = u32::try_from(bytes / PIECE).unwrap_or(u32::MAX).max(1);
        Self { pieces: Arc::new(Semaphore::new(all as usize)), all }
    }

    /// The right to `bytes`, now or not at all. A file larger than the whole budget takes all of it.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when so much is not free.
    pub fn try_hold(&self, bytes: u64) -> Result<Held, Error> {
        let permit = Arc::clone(&self.pieces).try_acquire_many_owned(self.pieces(bytes));
        permit.map(|permit| Held { _permit: permit }).map_err(|_| {
            metrics::counter!("rushes_memory_budget_refused_total").increment(1);
            Error::Overloaded { retry_after: Duration::from_millis(500) }
        })
    }

    /// The right to `bytes` as soon as they are free, in the order of asking.
    ///
    /// # Errors
    /// [`Error::Overloaded`] when the process is about to end.
    pub async fn hold(&self, bytes: u64) -> Result<Held, Error> {
        let permit = Arc::clone(&self.pieces).acquire_many_owned(self.pieces(bytes)).await;
        permit
            .map(|permit| Held { _permit: permit })
            .map_err(|_| Error::Overloaded { retry_after: Duration::from_secs(1) })
    }

    fn pieces(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(PIECE)).unwrap_or(u32::MAX).clamp(1, self.all)
    }
}
