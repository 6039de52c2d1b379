//! Credits: what an account has, and grants. Everything else that happens to credits follows from generations.

use domain::id::AccountId;
use domain::money::Micros;
use uuid::Uuid;

use crate::cache;
use crate::error::Error;
use crate::store::{Granted, Store};

/// What an account has; none of it is ever negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Balance {
    pub(crate) available: Micros,
    pub(crate) held: Micros,
    pub(crate) spent: Micros,
}

/// What can be done with credits; cheap to clone.
#[derive(Clone)]
pub(crate) struct Credits {
    store: Store,
    cached: cache::Generations,
}

impl Credits {
    pub(crate) fn new(store: Store, cached: cache::Generations) -> Self {
        Self { store, cached }
    }

    /// An account's balance; zero for one that was never given credits.
    pub(crate) async fn get(&self, account: AccountId) -> Result<Balance, Error> {
        Ok(self.store.balance(account).await?.unwrap_or_default())
    }

    /// Gives an account credits; the same request gives them once.
    pub(crate) async fn grant(&self, account: AccountId, amount: Micros, request: Uuid) -> Result<Balance, Error> {
        match self.store.grant(account, amount, request).await? {
            Granted::New(balance) => {
                self.cached.touched_dashboard(account).await;
                Ok(balance)
            }
            Granted::Before(granted) if granted == amount => self.get(account).await,
            Granted::Before(_) => Err(Error::RequestIdReused),
        }
    }
}
