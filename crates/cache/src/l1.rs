//! L1: moka, bounded by bytes and by the oldest answer that any caller may accept.
//!
//! Invariant: whether an entry may come in, or must go, is decided inside moka's per-key compute, so that no decision
//! is overtaken by another one.

use std::future::ready;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::quality::RandomState;
use moka::future::Cache;
use moka::ops::compute::Op;

use chassis::request::staleness::MAX_STALE;
use coherence::entry::Entry;

type Shared = Arc<Entry<Bytes>>;

/// What one entry costs besides its key and body: moka's bookkeeping, measured roughly.
const OVERHEAD: usize = 200;

/// The first tier.
#[derive(Clone)]
pub(crate) struct L1(Cache<Arc<str>, Shared, RandomState>);

impl L1 {
    pub(crate) fn new(bytes: u64) -> Self {
        let cache = Cache::builder()
            .max_capacity(bytes)
            .weigher(|key: &Arc<str>, entry: &Shared| {
                u32::try_from(key.len() + entry.body.len() + OVERHEAD).unwrap_or(u32::MAX)
            })
            // Not each entry's own end, which is compared when it is read: an end for each entry would cost every read, and what has
            // ended costs memory within the bound. It may still be a stale answer for whoever accepts one, until this.
            .time_to_live(MAX_STALE)
            .build_with_hasher(RandomState::default());
        Self(cache)
    }

    pub(crate) async fn get(&self, key: &str) -> Option<Shared> {
        self.0.get(key).await
    }

    /// Puts an entry in, if `admits` allows it in the place of the one that is there.
    pub(crate) async fn offer(
        &self,
        key: &Arc<str>,
        entry: Entry<Bytes>,
        admits: impl FnOnce(Option<&Entry<Bytes>>, &Entry<Bytes>) -> bool,
    ) {
        self.0
            .entry(Arc::clone(key))
            .and_compute_with(|old| {
                let old = old.map(moka::Entry::into_value);
                ready(if admits(old.as_deref(), &entry) { Op::Put(Arc::new(entry)) } else { Op::Nop })
            })
            .await;
    }

    /// Drops what is below `version`; everything if none is given.
    pub(crate) async fn drop_below(&self, key: &Arc<str>, version: Option<i64>) {
        self.0
            .entry(Arc::clone(key))
            .and_compute_with(|old| {
                let drops = old.is_some_and(|old| version.is_none_or(|version| old.value().version < version));
                ready(if drops { Op::Remove } else { Op::Nop })
            })
            .await;
    }

    /// How many entries and bytes it has, as moka last counted.
    pub(crate) fn size(&self) -> (u64, u64) {
        (self.0.entry_count(), self.0.weighted_size())
    }
}
