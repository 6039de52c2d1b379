//! The rules of margins: what the catalogue's prices are multiplied by for one account.
//!
//! Invariant: a start holds its price at the margin that its account has when it commits. The database holds to it, so that a process
//! need not ask before: it takes what it saw last, and does again what was refused for a price at another margin.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use catalogue::Decimal;
use chassis::request::actor::Actor;
use domain::id::AccountId;

use crate::error::Error;
use crate::events;
use crate::store::Store;

/// How many accounts' margins a process remembers. One that it has forgotten costs the next start of its account a second try.
const MAX_REMEMBERED: usize = 50_000;

/// Reads and sets margins; cheap to clone.
#[derive(Clone)]
pub(crate) struct Margins {
    store: Store,
    /// Of accounts that had another margin than 1.
    seen: Arc<Mutex<HashMap<AccountId, Decimal>>>,
}

impl Margins {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, seen: Arc::default() }
    }

    /// An account's margin as the database has it now.
    pub(crate) async fn get(&self, account: AccountId) -> Result<Decimal, Error> {
        self.store.margin(account).await
    }

    /// Sets an account's margin.
    pub(crate) async fn set(&self, account: AccountId, margin: Decimal, actor: &Actor) -> Result<(), Error> {
        self.store.set_margin(account, margin, actor).await?;
        self.remember(account, margin);
        events::margin_set(account, margin);
        Ok(())
    }

    /// What an account's prices are found with at first: the margin that was seen last.
    pub(crate) fn seen(&self, account: AccountId) -> Decimal {
        self.all_seen().get(&account).copied().unwrap_or(Decimal::ONE)
    }

    /// What they are found with next, where they were refused at the margin `tried` and the account has another one.
    ///
    /// # Errors
    /// What was refused, where it was not for its price, or the account has the margin that was tried.
    pub(crate) async fn after(&self, account: AccountId, tried: Decimal, refused: Error) -> Result<Decimal, Error> {
        let price = matches!(refused, Error::InsufficientCredit { .. } | Error::PriceAboveMax { .. });
        let other = matches!(refused, Error::OtherMargin { .. });
        if !price && !other {
            return Err(refused);
        }
        let current = self.get(account).await?;
        // By now it may be what was tried again: then it was another one all the same.
        if current == tried && !other {
            return Err(refused);
        }
        self.remember(account, current);
        Ok(current)
    }

    fn remember(&self, account: AccountId, margin: Decimal) {
        let mut seen = self.all_seen();
        if margin == Decimal::ONE {
            seen.remove(&account);
            return;
        }
        if seen.len() >= MAX_REMEMBERED {
            seen.clear();
        }
        seen.insert(account, margin);
    }

    fn all_seen(&self) -> MutexGuard<'_, HashMap<AccountId, Decimal>> {
        // Each change is one call on the map, so that it is whole after a panic too.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
