//! The hub: who watches what in this process, and the one task that feeds all watchers from the stream of changes.
//!
//! A change of this process is handed on as it is. Of one made elsewhere only the key arrives, and the row is read once for all
//! watchers.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cache::watch::Open;
use cache::{Change, Changes, Signal};
use domain::id::{AccountId, GenerationId};
use futures::FutureExt as _;

use super::pending::Pending;
use super::selection::Selection;
use crate::cache::KEY_KIND;
use crate::model::Generation;
use crate::store::Store;

/// How many rows are read at once.
const MAX_BATCH: usize = 500;
/// The pause after a failed read.
const READ_RETRY: Duration = Duration::from_millis(200);

/// All watchers of this process by account; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Hub(Arc<Mutex<HashMap<AccountId, Vec<Arc<Watcher>>>>>);

struct Watcher {
    selection: Selection,
    pending: Pending,
    _open: Open,
}

/// One watcher's registration at the hub, which ends when it is dropped.
pub(super) struct Registration {
    hub: Hub,
    account: AccountId,
    watcher: Arc<Watcher>,
}

impl Registration {
    pub(super) fn pending(&self) -> &Pending {
        &self.watcher.pending
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut watchers = self.hub.lock();
        if let Some(of_account) = watchers.get_mut(&self.account) {
            of_account.retain(|watcher| !Arc::ptr_eq(watcher, &self.watcher));
            if of_account.is_empty() {
                watchers.remove(&self.account);
            }
        }
    }
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, HashMap<AccountId, Vec<Arc<Watcher>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a watcher; `open` counts it as long as it is registered.
    pub(super) fn register(&self, account: AccountId, selection: Selection, open: Open) -> Registration {
        let watcher = Arc::new(Watcher { selection, pending: Pending::default(), _open: open });
        self.lock().entry(account).or_default().push(Arc::clone(&watcher));
        Registration { hub: self.clone(), account, watcher }
    }

    fn of(&self, account: AccountId) -> Vec<Arc<Watcher>> {
        self.lock().get(&account).cloned().unwrap_or_default()
    }

    /// Hands a committed change to all who watch it.
    pub(crate) fn changed(&self, generation: Generation) {
        let watchers = self.of(generation.account);
        if watchers.is_empty() {
            return;
        }
        let generation = Arc::new(generation);
        for watcher in watchers.iter().filter(|watcher| watcher.selection.includes(&generation)) {
            watcher.pending.offer(&generation);
        }
    }

    /// Has every watcher read what it may have missed.
    fn missed(&self) {
        let all: Vec<_> = self.lock().values().flatten().cloned().collect();
        all.iter().for_each(|watcher| watcher.pending.missed());
    }

    /// The row that a change makes worth reading; `None` when nobody watches it or all who do have this version.
    fn wanted(&self, change: &Change) -> Option<(AccountId, GenerationId)> {
        if change.kind() != KEY_KIND {
            return None;
        }
        let account = AccountId(change.account()?);
        let id = GenerationId(change.id()?.parse().ok()?);
        let wants =
            |watcher: &Arc<Watcher>| watcher.selection.may_include(id) && !watcher.pending.has(id, change.version);
        self.of(account).iter().any(wants).then_some((account, id))
    }

    /// Feeds the watchers from the stream of changes. One task per process.
    pub(crate) async fn run(self, store: Store, mut changes: Changes) {
        let mut wanted = HashSet::new();
        while let Some(signal) = changes.next().await {
            self.take(signal, &mut wanted);
            // Changes that have arrived meanwhile are read together with it.
            while wanted.len() < MAX_BATCH
                && let Some(Some(signal)) = changes.next().now_or_never()
            {
                self.take(signal, &mut wanted);
            }
            if wanted.is_empty() {
                continue;
            }
            let read: Vec<_> = wanted.drain().collect();
            match store.find_across_accounts(&read).await {
                Ok(generations) => generations.into_iter().for_each(|generation| self.changed(generation)),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "changed generations could not be read for their watchers"
                    );
                    tokio::time::sleep(READ_RETRY).await;
                    self.missed();
                }
            }
        }
    }

    fn take(&self, signal: Signal, wanted: &mut HashSet<(AccountId, GenerationId)>) {
        match signal {
            Signal::Changed(change) => wanted.extend(self.wanted(&change)),
            Signal::Gap(_) | Signal::Lagged(_) => self.missed(),
        }
    }
}
