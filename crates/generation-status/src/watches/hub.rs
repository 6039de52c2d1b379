//! Who watches what in this process, and the one task that feeds them all from the news of changes.
//!
//! A change that this process made is handed on as it is; of one made elsewhere only the key is heard, and the row is read
//! once for all watchers.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cache::watch::Open;
use cache::{Change, Changes, Signal};
use domain::id::{AccountId, GenerationId};
use futures::FutureExt as _;

use super::inbox::Inbox;
use super::{METERS, Selection};
use crate::cache::KIND;
use crate::record::Record;
use crate::store::Store;

/// The most rows that are read at once.
const BATCH: usize = 500;
/// After a failed read.
const PAUSE: Duration = Duration::from_millis(200);

/// Everyone who watches; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Hub(Arc<Mutex<HashMap<AccountId, Vec<Arc<Watcher>>>>>);

struct Watcher {
    selection: Selection,
    inbox: Inbox,
    _open: Open,
}

/// A place in the hub, given up when dropped.
pub(super) struct Watching {
    hub: Hub,
    account: AccountId,
    watcher: Arc<Watcher>,
}

impl Watching {
    pub(super) fn inbox(&self) -> &Inbox {
        &self.watcher.inbox
    }
}

impl Drop for Watching {
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

    pub(super) fn watch(&self, account: AccountId, selection: Selection) -> Watching {
        let watcher = Arc::new(Watcher { selection, inbox: Inbox::default(), _open: METERS.open() });
        self.lock().entry(account).or_default().push(Arc::clone(&watcher));
        Watching { hub: self.clone(), account, watcher }
    }

    fn of(&self, account: AccountId) -> Vec<Arc<Watcher>> {
        self.lock().get(&account).cloned().unwrap_or_default()
    }

    /// Hands a committed change to everyone who watches it.
    pub(crate) fn changed(&self, record: Record) {
        let watchers = self.of(record.account);
        if watchers.is_empty() {
            return;
        }
        let record = Arc::new(record);
        for watcher in watchers.iter().filter(|watcher| watcher.selection.includes(&record)) {
            watcher.inbox.offer(&record);
        }
    }

    /// Has everyone poll for what may have been missed.
    fn missed(&self) {
        let all: Vec<_> = self.lock().values().flatten().cloned().collect();
        all.iter().for_each(|watcher| watcher.inbox.missed());
    }

    /// What must be read for the sake of a change: nothing, when nobody watches it or all who do know it.
    fn wanted(&self, change: &Change) -> Option<(AccountId, GenerationId)> {
        if change.kind() != KIND {
            return None;
        }
        let account = AccountId(change.account()?);
        let id = GenerationId(change.id()?.parse().ok()?);
        let wants =
            |watcher: &Arc<Watcher>| watcher.selection.may_include(id) && !watcher.inbox.has(id, change.version);
        self.of(account).iter().any(wants).then_some((account, id))
    }

    /// Feeds the watchers for as long as there is news. One for the process.
    pub(crate) async fn feed(self, store: Store, mut changes: Changes) {
        let mut wanted = HashSet::new();
        while let Some(signal) = changes.next().await {
            self.take(signal, &mut wanted);
            // What else has come is read together with it.
            while wanted.len() < BATCH
                && let Some(Some(signal)) = changes.next().now_or_never()
            {
                self.take(signal, &mut wanted);
            }
            if wanted.is_empty() {
                continue;
            }
            let read: Vec<_> = wanted.drain().collect();
            match store.gather(&read).await {
                Ok(records) => records.into_iter().for_each(|record| self.changed(record)),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "what watches wait for could not be read");
                    tokio::time::sleep(PAUSE).await;
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
