//! L1: moka, bounded by bytes and by the oldest answer that anyone may ask for.
//!
//! An entry's own end is judged when it is read (`coherence::entry`); that moka holds what has ended costs memory within the
//! bound, where an end of its own for each entry would cost every read. For as long as a caller may ask for what is stale,
//! it may be that.
//!
//! Invariant: whether an entry may come in, or must go, is decided inside moka's per-key compute, so that no decision
//! is overtaken.

use std::future::ready;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use foldhash::quality::RandomState;
use moka::future::Cache;
use moka::ops::compute::Op;

use chassis::stale;
use coherence::entry::Entry;
use coherence::time::Mono;

type Held = Arc<Entry<Bytes>>;

/// What one entry costs besides its key and body: moka's bookkeeping, measured roughly.
const OVERHEAD: usize = 200;

/// The first tier.
#[derive(Clone)]
pub(crate) struct L1(Cache<Arc<str>, Held, RandomState>);

/// The core's instant for one of the process's clock.
pub(crate) fn mono(origin: Instant, now: Instant) -> Mono {
    Mono(i64::try_from(now.saturating_duration_since(origin).as_nanos()).unwrap_or(i64::MAX))
}

impl L1 {
    pub(crate) fn new(bytes: u64) -> Self {
        let cache = Cache::builder()
            .max_capacity(bytes)
            .weigher(|key: &Arc<str>, entry: &Held| {
                u32::try_from(key.len() + entry.body.len() + OVERHEAD).unwrap_or(u32::MAX)
            })
            .time_to_live(stale::MOST)
            .build_with_hasher(RandomState::default());
        Self(cache)
    }

    pub(crate) async fn get(&self, key: &str) -> Option<Held> {
        self.0.get(key).await
    }

    /// Puts an entry in if `admits` says so of what lies there.
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
                let goes = old.is_some_and(|old| version.is_none_or(|version| old.value().version < version));
                ready(if goes { Op::Remove } else { Op::Nop })
            })
            .await;
    }

    /// How many entries and bytes it holds, as moka last counted.
    pub(crate) fn size(&self) -> (u64, u64) {
        (self.0.entry_count(), self.0.weighted_size())
    }
}
