//! Keyed lock: one holder at a time for each key, so that a thumbnail that many ask for at once is rendered once.
//!
//! Invariant: a key is kept only by whoever holds or awaits its lock; when the last one goes, nothing is left of it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// The locks of one process; clones share them.
#[derive(Clone)]
pub(crate) struct KeyedLock<K> {
    locks: Arc<Mutex<HashMap<K, Weak<AsyncMutex<()>>>>>,
}

/// The lock of one key, held until it is dropped.
pub(crate) struct KeyGuard {
    _guard: OwnedMutexGuard<()>,
    /// Whether another held it when it was asked for.
    pub(crate) waited: bool,
}

impl<K> Default for KeyedLock<K> {
    fn default() -> Self {
        Self { locks: Arc::default() }
    }
}

impl<K: Clone + Eq + Hash> KeyedLock<K> {
    /// Locks `key`, waiting for whoever holds it.
    pub(crate) async fn lock(&self, key: &K) -> KeyGuard {
        let lock = self.lock_of(key);
        match Arc::clone(&lock).try_lock_owned() {
            Ok(guard) => KeyGuard { _guard: guard, waited: false },
            Err(_) => KeyGuard { _guard: lock.lock_owned().await, waited: true },
        }
    }

    fn lock_of(&self, key: &K) -> Arc<AsyncMutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(key).and_then(Weak::upgrade) {
            return lock;
        }
        // Evicting here, where a key is new, keeps the map as small as what is locked, without a task of its own.
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::default();
        locks.insert(key.clone(), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_has_one_holder_and_leaves_nothing_behind() {
        let locks = KeyedLock::default();
        let first = locks.lock(&1).await;
        assert!(!first.waited);
        assert!(!locks.lock(&2).await.waited, "another key is free");
        let second = tokio::spawn({
            let locks = locks.clone();
            async move { locks.lock(&1).await.waited }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        assert!(second.await.unwrap());
        drop(locks.lock(&3).await);
        assert_eq!(locks.locks.lock().unwrap().len(), 1, "only the last key, until the next one comes");
    }
}
