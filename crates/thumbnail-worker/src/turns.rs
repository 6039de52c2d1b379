//! One at a time for each thumbnail: who asks for one that is being made waits for it instead of making it too.
//!
//! Invariant: a turn is held by its guards only; when the last one goes, nothing is left of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

use crate::thumbnails::Key;

/// The turns of one process; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Turns {
    open: Arc<Mutex<HashMap<Key, Weak<Turn<()>>>>>,
}

impl Turns {
    /// Waits for the turn of `key`; also says whether another had it before.
    pub(crate) async fn take(&self, key: &Key) -> (OwnedMutexGuard<()>, bool) {
        let turn = self.of(key);
        match Arc::clone(&turn).try_lock_owned() {
            Ok(guard) => (guard, false),
            Err(_) => (turn.lock_owned().await, true),
        }
    }

    fn of(&self, key: &Key) -> Arc<Turn<()>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turn) = open.get(key).and_then(Weak::upgrade) {
            return turn;
        }
        open.retain(|_, turn| turn.strong_count() > 0);
        let turn = Arc::default();
        open.insert(*key, Arc::downgrade(&turn));
        turn
    }
}
