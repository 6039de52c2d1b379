//! Byte budget: the bytes of whole files that may lie in memory, uploads under way and files fetched to be decoded alike, or those
//! of uploads that lie on disk.
//!
//! Invariant: what is reserved together never exceeds the budget, so a thousand slow uploads cost no more than the budget says.
//! Whoever also needs the decode pool reserves here first, never the other way round, so that nobody waits in a circle.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;

/// Bytes are counted in units of this size, so that any budget fits a semaphore.
const UNIT: u64 = 16 << 10;

/// The budget; clones share it.
#[derive(Clone, Debug)]
pub struct ByteBudget {
    free: Arc<Semaphore>,
    units: u32,
    /// Counts a refusal.
    count_refused: fn(),
}

/// Bytes that were reserved, until it is dropped.
#[derive(Debug)]
pub struct Reservation {
    _permit: OwnedSemaphorePermit,
}

impl ByteBudget {
    /// A budget of `bytes`, at least one unit; `count_refused` is called for each refusal.
    #[must_use]
    pub fn new(bytes: u64, count_refused: fn()) -> Self {
        let units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(1);
        Self { free: Arc::new(Semaphore::new(units as usize)), units, count_refused }
    }

    /// Reserves `bytes` now or not at all. A file larger than the whole budget takes all of it.
    ///
    /// # Errors
    /// `Overloaded` when so much is not free.
    pub fn try_reserve(&self, bytes: u64) -> Result<Reservation, Error> {
        let permit = Arc::clone(&self.free).try_acquire_many_owned(self.units_of(bytes));
        permit.map(|permit| Reservation { _permit: permit }).map_err(|_| {
            (self.count_refused)();
            Error::Overloaded { retry_after: Duration::from_millis(500) }
        })
    }

    /// Reserves `bytes` as soon as they are free, in the order of asking.
    ///
    /// # Errors
    /// `Overloaded` when the process is about to end.
    pub async fn reserve(&self, bytes: u64) -> Result<Reservation, Error> {
        let permit = Arc::clone(&self.free).acquire_many_owned(self.units_of(bytes)).await;
        permit
            .map(|permit| Reservation { _permit: permit })
            .map_err(|_| Error::Overloaded { retry_after: Duration::from_secs(1) })
    }

    fn units_of(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, self.units)
    }
}
