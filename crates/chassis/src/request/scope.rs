//! The part of a request that follows it into other tasks: its deadline, its count of database round trips, its tokens, its
//! staleness, and its span.
//!
//! Invariant: work done for a request, in whatever task, is bounded by that request's deadline and counted to it, as
//! long as it is started with [`spawn`] or wrapped in [`carry`].

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{task::JoinHandle, time::Instant};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::telemetry::unrecorded::{self, Unrecorded};

tokio::task_local! {
    static CURRENT: Scope;
}

/// The request's part of a task; cheap to clone, clones share all but the deadline.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    pub(crate) deadline: Option<Instant>,
    /// On whose behalf, if on any.
    pub(crate) account: Option<Uuid>,
    pub(crate) queries: Arc<AtomicU64>,
    /// `None` for a call that is on no account's behalf.
    pub(crate) tokens: Option<Arc<Tokens>>,
    /// `None` for a call whose answer must be fresh.
    pub(crate) staleness: Option<Arc<Staleness>>,
    /// The trace of a call that is not recorded; a recorded one's is that of its span.
    pub(crate) unrecorded: Option<Unrecorded>,
}

/// The read-your-writes tokens of one call; see [`super::token`].
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    /// What the request presented.
    pub(super) presented: Vec<Bytes>,
    /// What the reply will carry.
    pub(super) reply: Mutex<Option<Vec<u8>>>,
}

/// How old an answer one call takes, and how old the one that it gets is; see [`super::staleness`].
#[derive(Debug)]
pub(crate) struct Staleness {
    pub(super) max: Duration,
    /// Milliseconds; 0 for fresh.
    pub(super) age: AtomicU64,
}

impl Scope {
    /// The scope of the running task; an empty one outside any request.
    pub(crate) fn current() -> Self {
        CURRENT.try_with(Self::clone).unwrap_or_default()
    }

    /// What `f` makes of the running task's scope; nothing outside any request.
    pub(crate) fn with<R>(f: impl FnOnce(&Self) -> R) -> Option<R> {
        CURRENT.try_with(f).ok()
    }

    pub(crate) async fn run<F: Future>(self, future: F) -> F::Output {
        unrecorded::within(self.unrecorded.clone(), CURRENT.scope(self, future)).await
    }

    pub(crate) fn run_sync<R>(&self, f: impl FnOnce() -> R) -> R {
        unrecorded::within_sync(self.unrecorded.clone(), || CURRENT.sync_scope(self.clone(), f))
    }
}

/// Spawns `future` with the span and the request of the caller.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(carry(future))
}

/// Wraps `future` so that wherever it is polled it has the span and the request that are current now.
pub fn carry<F: Future>(future: F) -> impl Future<Output = F::Output> {
    Scope::current().run(future.in_current_span())
}

/// Wraps `future` so that wherever it is polled it belongs to the caller's trace, and to nothing else of its request.
pub fn in_current_trace<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let unrecorded = Scope::with(|scope| scope.unrecorded.clone()).flatten();
    Scope { unrecorded, ..Scope::default() }.run(future.in_current_span())
}

/// The account on whose behalf the running task works, if a request of one began it.
pub(crate) fn account() -> Option<Uuid> {
    Scope::with(|scope| scope.account).flatten()
}

/// Counts one database round trip to the current request; does nothing outside one.
pub fn count_query() {
    let _ = Scope::with(|scope| scope.queries.fetch_add(1, Ordering::Relaxed));
}

/// How many database round trips the current request has made so far; 0 outside any request.
#[must_use]
pub fn queries() -> u64 {
    Scope::with(|scope| scope.queries.load(Ordering::Relaxed)).unwrap_or(0)
}

/// Runs `future` with a fresh counter and returns what it gave and how many database round trips it made.
pub async fn count_queries<F: Future>(future: F) -> (F::Output, u64) {
    let scope = Scope { queries: Arc::default(), ..Scope::current() };
    let queries = scope.queries.clone();
    let output = scope.run(future).await;
    (output, queries.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_spawned_task_counts_to_the_request_that_started_it() {
        let ((), count) = count_queries(async {
            count_query();
            spawn(async { count_query() }).await.unwrap();
            tokio::spawn(async { count_query() }).await.unwrap();
        })
        .await;
        assert_eq!(count, 2, "the task spawned without carrying counts nowhere");
    }
}
