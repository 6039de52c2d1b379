//! Who watches what in this process, and the one task that feeds them all from the cache's changes.
//!
//! A record that this process has committed is handed on as it is. Of a change made elsewhere only the key and version are heard:
//! the record is read once for all watchers, and not at all when nobody watches it or all who do know it. Invariant: whoever may
//! have missed a change is told to resync.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;

use super::inbox::{Inbox, Watchable};
use super::metrics::{Metrics, OpenWatch};
use crate::changes::{Change, Changes, Signal};

/// How many records are read at once.
const BATCH: usize = 500;
/// After a failed read; the watchers resync after it, each by itself, so they are not sent to a database in trouble at once.
const PAUSE: Duration = Duration::from_millis(200);

/// What one watcher watches within its group.
pub trait Filter<R: Watchable>: Send + Sync + 'static {
    /// Whether the watcher wants a record.
    fn matches(&self, record: &R) -> bool;
    /// Whether it may want a record of which only the key is known. Must be true where [`Filter::matches`] can be.
    fn may_match(&self, key: R::Key) -> bool;
}

/// Everything in the group.
impl<R: Watchable> Filter<R> for () {
    fn matches(&self, _: &R) -> bool {
        true
    }
    fn may_match(&self, _: R::Key) -> bool {
        true
    }
}

struct Watcher<R: Watchable, F> {
    filter: F,
    inbox: Inbox<R>,
    _open: OpenWatch,
}

type Groups<R, F> = HashMap<<R as Watchable>::Group, Vec<Arc<Watcher<R, F>>>>;

/// Everyone who watches records of one kind in this process; clones are the same hub.
pub struct Hub<R: Watchable, F = ()> {
    groups: Arc<Mutex<Groups<R, F>>>,
    metrics: Metrics,
}

impl<R: Watchable, F> Clone for Hub<R, F> {
    fn clone(&self) -> Self {
        Self { groups: Arc::clone(&self.groups), metrics: self.metrics }
    }
}

/// A watcher's place in the hub, given up when dropped.
pub struct Subscription<R: Watchable, F = ()> {
    hub: Hub<R, F>,
    group: R::Group,
    watcher: Arc<Watcher<R, F>>,
}

impl<R: Watchable, F> Subscription<R, F> {
    /// What waits for this watcher.
    #[must_use]
    pub fn inbox(&self) -> &Inbox<R> {
        &self.watcher.inbox
    }

    /// The group that it watches.
    #[must_use]
    pub fn group(&self) -> R::Group {
        self.group
    }
}

impl<R: Watchable, F> Drop for Subscription<R, F> {
    fn drop(&mut self) {
        let mut groups = self.hub.lock();
        if let Some(watchers) = groups.get_mut(&self.group) {
            watchers.retain(|watcher| !Arc::ptr_eq(watcher, &self.watcher));
            if watchers.is_empty() {
                groups.remove(&self.group);
            }
        }
    }
}

impl<R: Watchable, F> Hub<R, F> {
    /// A hub without watchers; `metrics` counts those that are open.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self { groups: Arc::default(), metrics }
    }

    fn lock(&self) -> MutexGuard<'_, Groups<R, F>> {
        // Every change of the map is whole at each step, so a panic elsewhere leaves it usable.
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has every watcher read again what it watches.
    pub fn resync(&self) {
        // Collected first: inboxes have locks of their own, and waking takes time.
        let all: Vec<_> = self.lock().values().flatten().cloned().collect();
        all.iter().for_each(|watcher| watcher.inbox.resync());
    }
}

impl<R: Watchable, F: Filter<R>> Hub<R, F> {
    /// Adds a watcher. Whoever then reads what it watches misses nothing: changes from now on are in the inbox.
    #[must_use]
    pub fn subscribe(&self, group: R::Group, filter: F) -> Subscription<R, F> {
        let watcher = Arc::new(Watcher { filter, inbox: Inbox::default(), _open: self.metrics.open() });
        self.lock().entry(group).or_default().push(Arc::clone(&watcher));
        Subscription { hub: self.clone(), group, watcher }
    }

    fn watchers(&self, group: R::Group) -> Vec<Arc<Watcher<R, F>>> {
        self.lock().get(&group).cloned().unwrap_or_default()
    }

    /// Hands a committed record to everyone who watches it.
    pub fn publish(&self, record: R) {
        let watchers = self.watchers(record.group());
        if watchers.is_empty() {
            return;
        }
        let record = Arc::new(record);
        for watcher in watchers.iter().filter(|watcher| watcher.filter.matches(&record)) {
            watcher.inbox.offer(&record);
        }
    }

    /// Whether a record must be read for the sake of its watchers.
    fn wants(&self, group: R::Group, key: R::Key, version: i64) -> bool {
        let wants = |watcher: &Arc<Watcher<R, F>>| watcher.filter.may_match(key) && !watcher.inbox.knows(key, version);
        self.watchers(group).iter().any(wants)
    }

    /// Feeds the watchers until the cache is closed, reading the records that changed. One task for the process.
    ///
    /// `parse` gives the group and key of a change, or nothing when it is of another kind. `read` gives the records of the keys
    /// that it is given, in any order; one that does not exist is left out.
    pub async fn feed<E, Fut>(
        self,
        mut changes: Changes,
        parse: impl Fn(&Change) -> Option<(R::Group, R::Key)>,
        read: impl Fn(Vec<(R::Group, R::Key)>) -> Fut,
    ) where
        E: Error + 'static,
        Fut: Future<Output = Result<Vec<R>, E>>,
    {
        let mut wanted = HashSet::new();
        while let Some(signal) = changes.next().await {
            wanted.extend(self.wanted(&signal, &parse));
            // What else has come already is read together with it.
            while wanted.len() < BATCH
                && let Some(Some(signal)) = changes.next().now_or_never()
            {
                wanted.extend(self.wanted(&signal, &parse));
            }
            if wanted.is_empty() {
                continue;
            }
            match read(wanted.drain().collect()).await {
                Ok(records) => records.into_iter().for_each(|record| self.publish(record)),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn Error,
                        "changed records could not be read for their watchers"
                    );
                    tokio::time::sleep(PAUSE).await;
                    self.resync();
                }
            }
        }
    }

    fn wanted(
        &self,
        signal: &Signal,
        parse: &impl Fn(&Change) -> Option<(R::Group, R::Key)>,
    ) -> Option<(R::Group, R::Key)> {
        match signal {
            Signal::Changed(change) => parse(change).filter(|(group, key)| self.wants(*group, *key, change.version)),
            Signal::Gap(_) | Signal::Lagged(_) => {
                self.resync();
                None
            }
        }
    }

    /// Feeds the watchers until the cache is closed, where a change is all the record there is: whoever watches reads by itself,
    /// through the cache. One task for the process.
    pub async fn forward(self, mut changes: Changes, record: impl Fn(&Change) -> Option<R>) {
        while let Some(signal) = changes.next().await {
            match signal {
                Signal::Changed(change) => record(&change).into_iter().for_each(|record| self.publish(record)),
                Signal::Gap(_) | Signal::Lagged(_) => self.resync(),
            }
        }
    }
}

#[cfg(test)]
mod tests;
