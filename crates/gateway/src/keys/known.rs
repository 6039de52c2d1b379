//! Dashboard's recent answers about keys, in this process's memory.

use std::{future::Future, sync::Arc, time::Duration};

use moka::future::Cache;

use super::key::Key;
use crate::error::Error;

/// How long the last answer holds while dashboard cannot be asked.
const GRACE: Duration = Duration::from_secs(30);

/// How long it is remembered that nobody has a key.
const UNKNOWN_LIFETIME: Duration = Duration::from_secs(10);

/// How many answers of each sort are kept.
const MAX_ENTRIES: u64 = 100_000;

/// The SHA-256 of a key.
pub(super) type Hash = [u8; 32];

/// Recent answers by the key's hash; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct KnownKeys {
    /// Answers to act on without asking. Concurrent calls with one key share one lookup.
    fresh: Cache<Hash, Arc<Key>>,
    /// The last answers, for the time in which dashboard cannot be asked.
    last: Cache<Hash, Arc<Key>>,
    /// Keys that nobody has, apart from the others so that a flood of them pushes none of those out.
    unknown: Cache<Hash, ()>,
}

impl KnownKeys {
    /// Answers are acted on for `lifetime`.
    pub(super) fn new(lifetime: Duration) -> Self {
        let cache = |lifetime| Cache::builder().max_capacity(MAX_ENTRIES).time_to_live(lifetime).build();
        Self {
            fresh: cache(lifetime),
            last: cache(GRACE.max(lifetime)),
            unknown: Cache::builder().max_capacity(MAX_ENTRIES).time_to_live(UNKNOWN_LIFETIME).build(),
        }
    }

    /// The key with this hash, from `look_up` if there is no fresh answer.
    pub(super) async fn get_or_look_up(
        &self,
        hash: Hash,
        look_up: impl Future<Output = Result<Arc<Key>, Error>>,
    ) -> Result<Arc<Key>, Error> {
        self.fresh.try_get_with(hash, look_up).await.map_err(|error| Error::clone(&error))
    }

    /// The key with this hash, if there is a fresh answer.
    pub(super) async fn fresh(&self, hash: &Hash) -> Option<Arc<Key>> {
        self.fresh.get(hash).await
    }

    /// Whether nobody had this key a moment ago.
    pub(super) async fn is_unknown(&self, hash: &Hash) -> bool {
        self.unknown.get(hash).await.is_some()
    }

    /// The last answer about a key, fresh or not.
    pub(super) async fn last(&self, hash: &Hash) -> Option<Arc<Key>> {
        self.last.get(hash).await
    }

    /// Keeps an answer.
    pub(super) async fn record(&self, hash: Hash, key: Arc<Key>) {
        self.last.insert(hash, key).await;
    }

    /// Keeps the answer that nobody has a key.
    pub(super) async fn record_unknown(&self, hash: Hash) {
        self.last.invalidate(&hash).await;
        self.unknown.insert(hash, ()).await;
    }

    /// Forgets every answer about a key.
    pub(super) async fn forget(&self, hash: &Hash) {
        self.fresh.invalidate(hash).await;
        self.last.invalidate(hash).await;
        self.unknown.invalidate(hash).await;
    }
}
