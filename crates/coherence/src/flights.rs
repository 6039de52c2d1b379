//! Which read joins which flight: at most one load of a key is under way for readers that it can satisfy.
//!
//! A flight belongs to nobody: its leader is detached, so a reader that leaves takes nobody's answer along. Invariant:
//! a reader takes a flight's answer only if the answer is good enough for the instant at which that reader began.

use std::collections::HashMap;
use std::hash::Hash;
use std::marker::PhantomData;

use crate::BOUND;
use crate::floors::Demand;
use crate::guards::{Enforced, Guard, Guards};
use crate::time::Mono;

/// Names a flight within its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlightId(u64);

#[derive(Debug)]
struct Flight<H> {
    id: FlightId,
    started: Mono,
    handle: H,
}

/// The flights of many keys; `H` is what a joiner waits on.
#[derive(Debug)]
pub struct Flights<K, H, G = Enforced> {
    by_key: HashMap<K, Vec<Flight<H>>>,
    next: u64,
    guards: PhantomData<G>,
}

impl<K, H, G> Default for Flights<K, H, G> {
    fn default() -> Self {
        Self { by_key: HashMap::new(), next: 0, guards: PhantomData }
    }
}

impl<K: Hash + Eq + Clone, H, G: Guards> Flights<K, H, G> {
    /// The newest flight that a reader beginning now, with this demand, may join.
    #[must_use]
    pub fn joinable(&self, key: &K, demand: Demand, now: Mono) -> Option<&H> {
        let newest = self.by_key.get(key)?.last()?;
        // Guard: a flight that hangs would hand its readers of this second a snapshot of long ago, and hang them all.
        if now.since(newest.started) > BOUND && G::enforced(Guard::JoinAge) {
            return None;
        }
        // Guard: a flight from before a fence may have read before the write that the fence stands for.
        (newest.started >= demand.since || !G::enforced(Guard::JoinFence)).then_some(&newest.handle)
    }

    /// Begins a flight.
    pub fn depart(&mut self, key: &K, handle: H, now: Mono) -> FlightId {
        let id = FlightId(self.next);
        self.next += 1;
        self.by_key.entry(key.clone()).or_default().push(Flight { id, started: now, handle });
        id
    }

    /// Ends a flight.
    pub fn land(&mut self, key: &K, id: FlightId) {
        if let Some(flights) = self.by_key.get_mut(key) {
            flights.retain(|flight| flight.id != id);
            if flights.is_empty() {
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
    pub demand: Demand,
    guards: PhantomData<G>,
}

impl<G: Guards> Reader<G> {
    /// A reader that begins at `begun`.
    #[must_use]
    pub fn new(begun: Mono, demand: Demand) -> Self {
        Self { begun, demand, guards: PhantomData }
    }

    /// Whether it may take a flight's answer, of `version` and current as of `fresh`.
    ///
    /// Guard: the flight may have had its proof or its snapshot well before this reader joined it.
    #[must_use]
    pub fn accepts(&self, version: i64, fresh: Mono) -> bool {
        (fresh >= self.begun - BOUND && self.demand.met(version, fresh)) || !G::enforced(Guard::JoinServes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const NOW: Mono = Mono(10_000_000_000);

    #[test]
    fn joined_while_young() {
        let mut flights: Flights<_, _> = Flights::default();
        assert!(flights.joinable(&"k", Demand::NONE, NOW).is_none());
        let id = flights.depart(&"k", 'a', NOW);
        assert_eq!(flights.joinable(&"k", Demand::NONE, NOW + BOUND), Some(&'a'));
        assert_eq!(flights.joinable(&"k", Demand::NONE, NOW + BOUND + Duration::from_nanos(1)), None);
        assert_eq!(flights.joinable(&"other", Demand::NONE, NOW), None);
        flights.land(&"k", id);
        assert_eq!(flights.joinable(&"k", Demand::NONE, NOW), None);
    }

    #[test]
    fn not_joined_across_a_fence() {
        let mut flights: Flights<_, _> = Flights::default();
        flights.depart(&"k", 'a', NOW);
        let fence = Demand { version: 0, since: NOW + Duration::from_millis(1), ..Demand::NONE };
        assert_eq!(flights.joinable(&"k", fence, NOW + Duration::from_millis(2)), None);
        flights.depart(&"k", 'b', NOW + Duration::from_millis(2));
        assert_eq!(flights.joinable(&"k", fence, NOW + Duration::from_millis(3)), Some(&'b'));
    }

    #[test]
    fn landing_one_leaves_the_other() {
        let mut flights: Flights<_, _> = Flights::default();
        let a = flights.depart(&"k", 'a', NOW);
        flights.depart(&"k", 'b', NOW);
        flights.land(&"k", a);
        assert_eq!(flights.joinable(&"k", Demand::NONE, NOW), Some(&'b'));
    }

    #[test]
    fn an_answer_serves_whom_it_is_young_and_new_enough_for() {
        let accepts = |demand: Demand, begun: Mono| <Reader>::new(begun, demand).accepts(3, NOW);
        assert!(accepts(Demand { version: 3, since: NOW, ..Demand::NONE }, NOW + BOUND));
        assert!(!accepts(Demand::NONE, NOW + BOUND + Duration::from_nanos(1)));
        assert!(!accepts(Demand { version: 4, since: Mono::PAST, ..Demand::NONE }, NOW));
        assert!(!accepts(Demand { version: 0, since: NOW + Duration::from_nanos(1), ..Demand::NONE }, NOW));
    }
}
