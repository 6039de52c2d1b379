//! Byte budget: the bytes of files of one kind that may lie on disk at one time: uploads under way, outputs, sources of thumbnails.
//!
//! Invariant: what is reserved together never exceeds the budget, and what one account has of it never its share, so that an account
//! which fills its share takes nothing from the others. An upload reserves what has come and nothing ahead, and gives it back when it
//! ends. Whoever also needs the decode pool reserves here first, never the other way round, so that nobody waits in a circle.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::id::AccountId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::Error;

/// Bytes are counted in units of this size, so that any budget fits a semaphore.
const UNIT: u64 = 16 << 10;

/// The budget; clones share it.
#[derive(Clone, Debug)]
pub struct ByteBudget {
    free: Arc<Semaphore>,
    units: u32,
    /// Units that one account may have.
    share: u32,
    /// Units that accounts have.
    accounts: Arc<Mutex<HashMap<AccountId, u32>>>,
    /// Counts a refusal.
    count_refused: fn(),
}

/// Bytes that were reserved, until it is dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: ByteBudget,
    account: Option<AccountId>,
    bytes: u64,
    permit: Option<OwnedSemaphorePermit>,
}

impl ByteBudget {
    /// A budget of `bytes`, at least one unit; `count_refused` is called for each refusal.
    #[must_use]
    pub fn new(bytes: u64, count_refused: fn()) -> Self {
        let units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(1);
        let free = Arc::new(Semaphore::new(units as usize));
        Self { free, units, share: units, accounts: Arc::default(), count_refused }
    }

    /// The same budget, of which one account has at most `bytes`.
    #[must_use]
    pub fn with_share(self, bytes: u64) -> Self {
        Self { share: self.units_of(bytes).min(self.units), ..self }
    }

    /// A reservation of nothing yet, which grows in the share of `account` where it is one's own.
    #[must_use]
    pub fn open(&self, account: Option<AccountId>) -> Reservation {
        Reservation { budget: self.clone(), account, bytes: 0, permit: None }
    }

    /// Reserves `bytes` now or not at all. A file larger than the whole budget takes all of it.
    ///
    /// # Errors
    /// `Overloaded` when so much is not free.
    pub fn try_reserve(&self, bytes: u64) -> Result<Reservation, Error> {
        let permit = Arc::clone(&self.free).try_acquire_many_owned(self.units_of(bytes).min(self.units));
        match permit {
            Ok(permit) => Ok(Reservation { budget: self.clone(), account: None, bytes, permit: Some(permit) }),
            Err(_) => Err(self.refuse()),
        }
    }

    /// Reserves `bytes` as soon as they are free, in the order of asking.
    ///
    /// # Errors
    /// `Overloaded` when the process is about to end.
    pub async fn reserve(&self, bytes: u64) -> Result<Reservation, Error> {
        let permit = Arc::clone(&self.free).acquire_many_owned(self.units_of(bytes).min(self.units)).await;
        match permit {
            Ok(permit) => Ok(Reservation { budget: self.clone(), account: None, bytes, permit: Some(permit) }),
            Err(_) => Err(Error::Overloaded { retry_after: Duration::from_secs(1) }),
        }
    }

    fn units_of(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).max(1)
    }

    fn refuse(&self) -> Error {
        (self.count_refused)();
        Error::Overloaded { retry_after: Duration::from_millis(500) }
    }

    /// Takes units out of an account's share; says whether there were so many.
    fn take_share(&self, account: AccountId, units: u32) -> bool {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let has = accounts.get(&account).copied().unwrap_or_default();
        let fits = has.saturating_add(units) <= self.share;
        if fits {
            accounts.insert(account, has + units);
        }
        fits
    }

    fn return_share(&self, account: AccountId, units: u32) {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(has) = accounts.get_mut(&account) {
            *has = has.saturating_sub(units);
            if *has == 0 {
                accounts.remove(&account);
            }
        }
    }
}

impl Reservation {
    /// Reserves `more` bytes now or not at all.
    ///
    /// # Errors
    /// `Overloaded` when so much is not free, or not in the account's share.
    pub fn grow(&mut self, more: u64) -> Result<(), Error> {
        let bytes = self.bytes.saturating_add(more);
        let has = self.permit.as_ref().map_or(0, |permit| permit.num_permits() as u32);
        let needed = self.budget.units_of(bytes).saturating_sub(has);
        if needed > 0 {
            if self.account.is_some_and(|account| !self.budget.take_share(account, needed)) {
                return Err(self.budget.refuse());
            }
            let Ok(permit) = Arc::clone(&self.budget.free).try_acquire_many_owned(needed) else {
                if let Some(account) = self.account {
                    self.budget.return_share(account, needed);
                }
                return Err(self.budget.refuse());
            };
            match &mut self.permit {
                Some(all) => all.merge(permit),
                none => *none = Some(permit),
            }
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let (Some(account), Some(permit)) = (self.account, &self.permit) {
            self.budget.return_share(account, permit.num_permits() as u32);
        }
    }
}
