//! What one watcher has not been sent yet: at most one record for each key, the latest.
//!
//! Invariant: of one key only rising versions come out. So a final record, being the last, is never overtaken, and a reader that is
//! slow skips to the latest instead of holding anything up.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A record that can be watched.
pub trait Watchable: Send + Sync + 'static {
    /// What watchers are grouped by: a record is offered to the watchers of its group alone.
    type Group: Copy + Eq + Hash + Send + Sync;
    /// What tells a record from the others of its group.
    type Key: Copy + Eq + Hash + Send + Sync;

    /// Its group.
    fn group(&self) -> Self::Group;
    /// Its key.
    fn key(&self) -> Self::Key;
    /// Its version: of two records of one key the higher is the later.
    fn version(&self) -> i64;
    /// Whether no later version will follow.
    fn is_final(&self) -> bool;
}

/// Something for the watcher.
#[derive(Debug, PartialEq, Eq)]
pub enum Update<R> {
    /// A record changed.
    Changed(Arc<R>),
    /// Changes may have been missed: the watcher reads what it watches again.
    Resync,
}

/// What a watcher knows of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The latest version.
    pub version: i64,
    /// Whether no later one will follow.
    pub is_final: bool,
}

/// A watcher's inbox.
pub struct Inbox<R: Watchable> {
    state: Mutex<State<R>>,
    arrived: Notify,
}

struct State<R: Watchable> {
    /// The latest of each key that was offered, taken or not.
    known: HashMap<R::Key, Known>,
    /// What is to be taken, by key, and in which order.
    pending: HashMap<R::Key, Arc<R>>,
    order: VecDeque<R::Key>,
    resync: bool,
}

impl<R: Watchable> Default for Inbox<R> {
    fn default() -> Self {
        let state = State { known: HashMap::new(), pending: HashMap::new(), order: VecDeque::new(), resync: false };
        Self { state: Mutex::new(state), arrived: Notify::new() }
    }
}

impl<R: Watchable> State<R> {
    /// Takes note of a record; false when this or a later version was known.
    fn learn(&mut self, record: &R) -> bool {
        let new = Known { version: record.version(), is_final: record.is_final() };
        match self.known.get(&record.key()) {
            Some(old) if old.version > new.version => false,
            old => {
                let rises = old.is_none_or(|old| old.version < new.version);
                // Also at an equal version: one that was learned from a resume token may only now be known to be final.
                self.known.insert(record.key(), new);
                rises
            }
        }
    }
}

impl<R: Watchable> Inbox<R> {
    fn lock(&self) -> MutexGuard<'_, State<R>> {
        // Every change of the state is whole at each step, so a panic elsewhere leaves it usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a record in, unless this or a later version was here before; it takes the place of an earlier one.
    pub fn offer(&self, record: &Arc<R>) {
        let mut state = self.lock();
        if !state.learn(record) {
            return;
        }
        if state.pending.insert(record.key(), Arc::clone(record)).is_none() {
            state.order.push_back(record.key());
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Says that changes may have been missed.
    pub fn resync(&self) {
        self.lock().resync = true;
        self.arrived.notify_one();
    }

    /// Takes the next update out; records before a resync, since a reader that resyncs knows them then.
    pub fn take(&self) -> Option<Update<R>> {
        let mut state = self.lock();
        // A key in the order may have no record any more: `caught_up` removes records only.
        while let Some(key) = state.order.pop_front() {
            if let Some(record) = state.pending.remove(&key) {
                return Some(Update::Changed(record));
            }
        }
        std::mem::take(&mut state.resync).then_some(Update::Resync)
    }

    /// Returns once something has come in since it last returned.
    pub async fn arrived(&self) {
        self.arrived.notified().await;
    }

    /// The watcher was sent these by other means: what is pending of them and not newer is dropped.
    pub fn caught_up(&self, records: &[Arc<R>]) {
        let mut state = self.lock();
        for record in records {
            state.learn(record);
            if state.pending.get(&record.key()).is_some_and(|pending| pending.version() <= record.version()) {
                state.pending.remove(&record.key());
            }
        }
    }

    /// The watcher knew these before it subscribed.
    pub fn learn(&self, known: impl IntoIterator<Item = (R::Key, Known)>) {
        self.lock().known.extend(known);
    }

    /// Whether this or a later version of a key is known, which is then not worth reading.
    pub fn knows(&self, key: R::Key, version: i64) -> bool {
        self.lock().known.get(&key).is_some_and(|known| known.version >= version)
    }

    /// The known keys whose records are not final.
    pub fn unfinished(&self) -> Vec<R::Key> {
        self.lock().known.iter().filter(|(_, known)| !known.is_final).map(|(key, _)| *key).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A record of a test: its group, its key, its version, and whether it is final.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in crate::watch) struct Row(
        pub(in crate::watch) u8,
        pub(in crate::watch) u8,
        pub(in crate::watch) i64,
        pub(in crate::watch) bool,
    );

    impl Watchable for Row {
        type Group = u8;
        type Key = u8;
        fn group(&self) -> u8 {
            self.0
        }
        fn key(&self) -> u8 {
            self.1
        }
        fn version(&self) -> i64 {
            self.2
        }
        fn is_final(&self) -> bool {
            self.3
        }
    }

    fn row(key: u8, version: i64) -> Arc<Row> {
        Arc::new(Row(1, key, version, false))
    }

    /// All that can be taken, as keys and versions; a resync is `(0, 0)`.
    fn taken(inbox: &Inbox<Row>) -> Vec<(u8, i64)> {
        std::iter::from_fn(|| inbox.take())
            .map(|update| match update {
                Update::Changed(row) => (row.key(), row.version()),
                Update::Resync => (0, 0),
            })
            .collect()
    }

    #[test]
    fn a_slow_reader_skips_to_the_latest_of_each_key_in_the_order_of_first_arrival() {
        let inbox = Inbox::default();
        for (key, version) in [(1, 1), (2, 1), (1, 2), (1, 3)] {
            inbox.offer(&row(key, version));
        }
        assert_eq!(taken(&inbox), [(1, 3), (2, 1)]);
        assert_eq!(taken(&inbox), []);
    }

    #[test]
    fn an_older_version_is_never_taken_after_a_later_one() {
        let inbox = Inbox::default();
        inbox.offer(&row(1, 5));
        inbox.offer(&row(1, 4));
        assert_eq!(taken(&inbox), [(1, 5)]);
        for version in [4, 5] {
            inbox.offer(&row(1, version));
        }
        assert_eq!(taken(&inbox), []);
        inbox.offer(&row(1, 6));
        assert_eq!(taken(&inbox), [(1, 6)]);
    }

    #[test]
    fn a_resync_comes_once_and_after_what_is_pending() {
        let inbox = Inbox::default();
        inbox.resync();
        inbox.resync();
        inbox.offer(&row(1, 1));
        assert_eq!(taken(&inbox), [(1, 1), (0, 0)]);
    }

    #[test]
    fn what_a_snapshot_sent_is_not_sent_again_and_what_is_newer_is() {
        let inbox = Inbox::default();
        inbox.offer(&row(1, 1));
        inbox.offer(&row(2, 2));
        inbox.caught_up(&[row(1, 1), row(2, 1), row(3, 7)]);
        inbox.offer(&row(3, 7));
        assert_eq!(taken(&inbox), [(2, 2)]);
    }

    #[test]
    fn what_a_token_named_is_known_until_a_later_version_or_its_end_is_read() {
        let inbox = Inbox::default();
        inbox.learn([(1, Known { version: 3, is_final: false }), (2, Known { version: 1, is_final: false })]);
        assert!(inbox.knows(1, 3) && !inbox.knows(1, 4) && !inbox.knows(9, 1));
        inbox.offer(&Arc::new(Row(1, 1, 3, true)));
        assert_eq!(taken(&inbox), [], "the holder of the token has this version");
        assert_eq!(inbox.unfinished(), [2], "and it is the last of its key");
    }

    #[tokio::test]
    async fn whoever_waits_is_woken_by_a_record_and_by_a_resync() {
        let inbox = Inbox::default();
        inbox.offer(&row(1, 1));
        inbox.arrived().await;
        inbox.resync();
        inbox.arrived().await;
        let again = tokio::time::timeout(std::time::Duration::from_millis(10), inbox.arrived());
        assert!(again.await.is_err(), "nothing came in since");
    }
}
