//! Single-flight: which read joins which in-flight load, so that at most one load of a key runs for readers that it can satisfy.
//!
//! A load belongs to no reader: it runs in a task of its own, so a reader that leaves takes nobody's answer along. Invariant: a
//! reader takes a load's answer only if the answer is good enough for the instant at which that reader began.

use std::collections::HashMap;
use std::hash::Hash;
use std::marker::PhantomData;

use crate::BOUND;
use crate::guards::{Enforced, Guard, Guards};
use crate::time::Mono;
use crate::watermarks::Requirement;

/// Names a load within its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LoadId(u64);

#[derive(Debug)]
struct InFlightLoad<H> {
    id: LoadId,
    started: Mono,
    handle: H,
}

/// The in-flight loads of many keys; `H` is what a reader waits on that joins one.
#[derive(Debug)]
pub struct InFlightLoads<K, H, G = Enforced> {
    by_key: HashMap<K, Vec<InFlightLoad<H>>>,
    next: u64,
    guards: PhantomData<G>,
}

impl<K, H, G> Default for InFlightLoads<K, H, G> {
    fn default() -> Self {
        Self { by_key: HashMap::new(), next: 0, guards: PhantomData }
    }
}

impl<K: Hash + Eq + Clone, H, G: Guards> InFlightLoads<K, H, G> {
    /// The newest load that a reader which begins now, with this requirement, may join.
    #[must_use]
    pub fn joinable(&self, key: &K, requirement: Requirement, now: Mono) -> Option<&H> {
        let newest = self.by_key.get(key)?.last()?;
        // Guard: a load that hangs would give its readers of this second a snapshot of long ago, and hang them all.
        if now.since(newest.started) > BOUND && G::enforced(Guard::JoinAge) {
            return None;
        }
        // Guard: a load from before a barrier may have read before the write that the barrier is for.
        (newest.started >= requirement.barrier || !G::enforced(Guard::JoinBarrier)).then_some(&newest.handle)
    }

    /// Starts a load.
    pub fn start(&mut self, key: &K, handle: H, now: Mono) -> LoadId {
        let id = LoadId(self.next);
        self.next += 1;
        self.by_key.entry(key.clone()).or_default().push(InFlightLoad { id, started: now, handle });
        id
    }

    /// Finishes a load: nobody joins it any more.
    pub fn finish(&mut self, key: &K, id: LoadId) {
        if let Some(loads) = self.by_key.get_mut(key) {
            loads.retain(|load| load.id != id);
            if loads.is_empty() {
                self.by_key.remove(key);
            }
        }
    }
}

/// A reader: when it began, and what its answer must reach.
#[derive(Clone, Copy, Debug)]
pub struct Reader<G = Enforced> {
    /// When it began.
    pub begun: Mono,
    /// What was known of its key then, and what its caller asks for.
    pub requirement: Requirement,
    guards: PhantomData<G>,
}

impl<G: Guards> Reader<G> {
    /// A reader that begins at `begun`.
    #[must_use]
    pub fn new(begun: Mono, requirement: Requirement) -> Self {
        Self { begun, requirement, guards: PhantomData }
    }

    /// Whether it may take the answer of a load that it joined, of `version` and current as of `fresh`.
    ///
    /// Guard: the load may have had its proof or its snapshot well before this reader joined it.
    #[must_use]
    pub fn accepts(&self, version: i64, fresh: Mono) -> bool {
        (fresh >= self.begun - BOUND && self.requirement.is_met(version, fresh)) || !G::enforced(Guard::JoinAccepts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: Mono = Mono(10_000_000_000);

    fn loads() -> InFlightLoads<&'static str, char> {
        InFlightLoads::default()
    }

    #[test]
    fn a_load_is_joined_while_it_is_younger_than_the_bound() {
        let mut loads = loads();
        assert!(loads.joinable(&"k", Requirement::NONE, NOW).is_none());
        let id = loads.start(&"k", 'a', NOW);
        assert_eq!(loads.joinable(&"k", Requirement::NONE, NOW + BOUND), Some(&'a'));
        assert_eq!(loads.joinable(&"k", Requirement::NONE, NOW + BOUND + Duration::from_nanos(1)), None);
        assert_eq!(loads.joinable(&"other", Requirement::NONE, NOW), None);
        loads.finish(&"k", id);
        assert_eq!(loads.joinable(&"k", Requirement::NONE, NOW), None);
    }

    #[test]
    fn a_load_from_before_a_barrier_is_not_joined() {
        let mut loads = loads();
        loads.start(&"k", 'a', NOW);
        let behind = Requirement { barrier: NOW + Duration::from_millis(1), ..Requirement::NONE };
        assert_eq!(loads.joinable(&"k", behind, NOW + Duration::from_millis(2)), None);
        loads.start(&"k", 'b', NOW + Duration::from_millis(2));
        assert_eq!(loads.joinable(&"k", behind, NOW + Duration::from_millis(3)), Some(&'b'));
    }

    #[test]
    fn finishing_one_load_leaves_the_other() {
        let mut loads = loads();
        let a = loads.start(&"k", 'a', NOW);
        loads.start(&"k", 'b', NOW);
        loads.finish(&"k", a);
        assert_eq!(loads.joinable(&"k", Requirement::NONE, NOW), Some(&'b'));
    }

    #[test]
    fn a_reader_accepts_an_answer_that_is_young_and_new_enough_for_it() {
        let accepts = |requirement: Requirement, begun: Mono| <Reader>::new(begun, requirement).accepts(3, NOW);
        assert!(accepts(Requirement { min_version: 3, barrier: NOW, ..Requirement::NONE }, NOW + BOUND));
        assert!(!accepts(Requirement::NONE, NOW + BOUND + Duration::from_nanos(1)));
        assert!(!accepts(Requirement::version(4), NOW));
        assert!(!accepts(Requirement { barrier: NOW + Duration::from_nanos(1), ..Requirement::NONE }, NOW));
    }
}
