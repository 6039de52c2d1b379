//! Shares of places: how many of them each of many may have, an address or an account, and the queue of each for its own share.
//!
//! Invariants: nobody holds more than a share, so whoever waits for one waits behind the others of the same key alone; and a key of which
//! nothing is held or waited for takes no memory.

use std::{
    collections::HashMap,
    fmt::Debug,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The shares by key; clones are the same ones.
#[derive(Debug)]
pub struct Shares<K>(Arc<Mutex<HashMap<K, Arc<Semaphore>>>>);

impl<K> Clone for Shares<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Default for Shares<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// One place of a key's share, taken or waited for; free again when it is dropped.
#[derive(Debug)]
pub struct Share<K: Eq + Hash> {
    key: K,
    shares: Shares<K>,
    own: Option<Arc<Semaphore>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl<K: Copy + Debug + Eq + Hash> Shares<K> {
    /// What `key` may have, which is `max` places.
    #[must_use]
    pub fn of(&self, key: K, max: usize) -> Share<K> {
        let new = || Arc::new(Semaphore::new(max));
        let own = Arc::clone(self.lock().entry(key).or_insert_with(new));
        Share { key, shares: self.clone(), own: Some(own), permit: None }
    }

    /// How many hold something or wait for it.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }
}

impl<K> Shares<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Arc<Semaphore>>> {
        // The map is whole at each step, so a panic elsewhere leaves it usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Share<K> {
    /// Takes a place, if the share has one left.
    pub fn try_take(&mut self) -> bool {
        self.permit = self.own.clone().and_then(|own| own.try_acquire_owned().ok());
        self.permit.is_some()
    }

    /// Takes a place as soon as the share has one left.
    pub async fn take(&mut self) {
        if let Some(own) = self.own.clone() {
            // Nobody closes it.
            self.permit = own.acquire_owned().await.ok();
        }
    }
}

impl<K: Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        let mut shares = self.shares.lock();
        // Both hold the semaphore, and who is left then is the map alone. Others come by it only under the lock.
        self.permit = None;
        self.own = None;
        if shares.get(&self.key).is_some_and(|own| Arc::strong_count(own) == 1) {
            shares.remove(&self.key);
        }
    }
}
