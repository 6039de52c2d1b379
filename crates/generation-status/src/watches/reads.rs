//! The reads of all that a watch shows, which are long: one of an account at a time, and each for all who wait for it.
//!
//! Invariant: a read begins after all who share it subscribed, so that none of them misses a change. Who comes after its beginning waits
//! for the next.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chassis::server::{Share, Shares};
use domain::id::AccountId;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep};

use super::selection::Selection;
use super::shown::Snapshot;
use crate::error::Error;

/// How many watches of one account read what they show at a time: a process has few threads and connections for everybody.
const AT_ONCE: usize = 1;
/// After a shared read the account's next one waits this many times as long as it took: those that come meanwhile share it, and an account whose
/// watches are opened without end has a quarter of a thread's time and a connection's.
const PAUSE: u32 = 3;
/// The longest such pause.
const MAX_PAUSE: Duration = Duration::from_millis(100);

type Key = (AccountId, Selection);

/// Clones are the same ones.
#[derive(Clone, Default)]
pub(super) struct Reads {
    places: Shares<AccountId>,
    /// Those that have not begun.
    waiting: Arc<Mutex<HashMap<Key, Arc<OnceCell<Snapshot>>>>>,
}

/// One watcher's part in a read; nobody is in it any more once the last is dropped.
struct Part {
    reads: Reads,
    key: Key,
    read: Arc<OnceCell<Snapshot>>,
}

/// A shared read that is under way. The account's next one waits after its end, also where its watcher has left.
struct Turn {
    place: Option<Share<AccountId>>,
    begun: Instant,
}

impl Reads {
    /// Waits behind the account's other watches until one may read.
    pub(super) async fn place(&self, account: AccountId) -> Share<AccountId> {
        let mut place = self.places.of(account, AT_ONCE);
        place.take().await;
        place
    }

    /// What `read` finds, or another watcher's of the same selection that begins from now on.
    pub(super) async fn shared(
        &self,
        account: AccountId,
        selection: &Selection,
        read: impl AsyncFnOnce() -> Result<Snapshot, Error>,
    ) -> Result<Snapshot, Error> {
        let part = self.join((account, selection.clone()));
        // Where one watcher leaves or fails, the next of them reads.
        let found = part.read.get_or_try_init(async || {
            let place = self.place(account).await;
            part.begin();
            let _turn = Turn { place: Some(place), begun: Instant::now() };
            read().await
        });
        found.await.cloned()
    }

    fn join(&self, key: Key) -> Part {
        let read = Arc::clone(self.lock().entry(key.clone()).or_default());
        Part { reads: self.clone(), key, read }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Arc<OnceCell<Snapshot>>>> {
        // The map is whole at each step, so a panic elsewhere leaves it usable.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    /// From now on nobody joins.
    fn begin(&self) {
        let mut waiting = self.reads.lock();
        if waiting.get(&self.key).is_some_and(|read| Arc::ptr_eq(read, &self.read)) {
            waiting.remove(&self.key);
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut waiting = self.reads.lock();
        // The map's and this one; others come by it only under the lock.
        let is_last = |read: &Arc<OnceCell<Snapshot>>| Arc::ptr_eq(read, &self.read) && Arc::strong_count(read) == 2;
        if waiting.get(&self.key).is_some_and(is_last) {
            waiting.remove(&self.key);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (place, pause) = (self.place.take(), (self.begun.elapsed() * PAUSE).min(MAX_PAUSE));
        // Without a runtime the process ends.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                sleep(pause).await;
                drop(place);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use domain::id::GenerationId;
    use domain::name::GenerationParent;
    use futures::poll;
    use uuid::Uuid;

    use super::*;

    const ACCOUNT: AccountId = AccountId(Uuid::nil());
    const ALL: &Selection = &Selection::Of(GenerationParent::Account);

    /// A snapshot that differs from others by its horizon.
    fn snapshot(number: u128) -> Snapshot {
        Snapshot { generations: Arc::default(), complete: true, horizon: GenerationId(Uuid::from_u128(number)) }
    }

    fn number(read: Result<Snapshot, Error>) -> u128 {
        read.unwrap().horizon.0.as_u128()
    }

    #[tokio::test]
    async fn an_account_has_one_place_and_another_does_not_wait_for_it() {
        let (reads, one, another) = (Reads::default(), AccountId(Uuid::from_u128(1)), AccountId(Uuid::from_u128(2)));
        let place = reads.place(one).await;
        let mut second = std::pin::pin!(reads.place(one));
        assert!(poll!(&mut second).is_pending());
        assert!(poll!(std::pin::pin!(reads.place(another))).is_ready());
        drop(place);
        assert!(poll!(&mut second).is_ready());
    }

    #[tokio::test]
    async fn all_who_wait_share_the_next_read_and_who_comes_after_its_beginning_waits_for_another() {
        let (reads, count) = (Reads::default(), Cell::new(0));
        let read = async || {
            count.set(count.get() + 1);
            tokio::task::yield_now().await;
            Ok(snapshot(count.get()))
        };
        let place = reads.place(ACCOUNT).await;
        let mut first = std::pin::pin!(reads.shared(ACCOUNT, ALL, read));
        let mut second = std::pin::pin!(reads.shared(ACCOUNT, ALL, read));
        assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        drop(place);
        // The first begins.
        assert!(poll!(&mut first).is_pending());
        let mut late = std::pin::pin!(reads.shared(ACCOUNT, ALL, read));
        assert!(poll!(&mut late).is_pending());
        assert_eq!(number(first.await), 1);
        assert_eq!(number(second.await), 1);
        assert_eq!(number(late.await), 2);
        assert_eq!(count.get(), 2);
        assert!(reads.lock().is_empty());
    }

    #[tokio::test]
    async fn where_one_leaves_or_fails_the_next_reads() {
        let reads = Reads::default();
        let place = reads.place(ACCOUNT).await;
        let mut leaves = Box::pin(reads.shared(ACCOUNT, ALL, async || Ok(snapshot(1))));
        let mut fails = Box::pin(reads.shared(ACCOUNT, ALL, async || Err(Error::Draining)));
        let mut reads_it = Box::pin(reads.shared(ACCOUNT, ALL, async || Ok(snapshot(3))));
        assert!(poll!(&mut leaves).is_pending() && poll!(&mut fails).is_pending() && poll!(&mut reads_it).is_pending());
        drop((place, leaves));
        assert!(fails.await.is_err());
        assert_eq!(number(reads_it.await), 3);
        assert!(reads.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_read_the_next_waits_three_times_as_long_and_another_accounts_does_not() {
        let (reads, begun) = (Reads::default(), Instant::now());
        let slow = async |milliseconds| {
            sleep(Duration::from_millis(milliseconds)).await;
            Ok(snapshot(1))
        };
        for (lasting, end) in [(10, 10), (200, 240), (1, 341)] {
            reads.shared(ACCOUNT, ALL, async || slow(lasting).await).await.unwrap();
            assert_eq!(begun.elapsed(), Duration::from_millis(end));
        }
        reads.shared(AccountId(Uuid::max()), ALL, async || slow(1).await).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::from_millis(342));
        // Of the account the next may begin after 344; its watcher leaves 6 ms later, and the one after it waits for 18 more.
        let leaves = reads.shared(ACCOUNT, ALL, async || slow(100).await);
        assert!(tokio::time::timeout(Duration::from_millis(8), leaves).await.is_err());
        reads.shared(ACCOUNT, ALL, async || slow(0).await).await.unwrap();
        assert_eq!(begun.elapsed(), Duration::from_millis(368));
    }

    #[tokio::test]
    async fn a_read_that_all_have_left_leaves_nothing() {
        let reads = Reads::default();
        let place = reads.place(ACCOUNT).await;
        let mut one = Box::pin(reads.shared(ACCOUNT, ALL, async || Ok(snapshot(1))));
        let mut other = Box::pin(reads.shared(ACCOUNT, ALL, async || Ok(snapshot(2))));
        assert!(poll!(&mut one).is_pending() && poll!(&mut other).is_pending());
        drop(one);
        assert_eq!(reads.lock().len(), 1);
        drop(other);
        assert!(reads.lock().is_empty());
        drop(place);
    }
}
