//! Floors: what this process already knows of a key, which no later answer may contradict.
//!
//! A floor is a least version (an event, an own write, an answer already given), or a fence: "not older than this
//! instant", for an aggregate whose new version the writer does not know. The first answer as young as the fence turns
//! it into a version. Invariant: a floor stands for [`FLOOR_TTL`]; after that every proof that is young enough to be
//! believed is younger than the floor. A reader takes its demand when it begins, so a floor that falls while the reader
//! waits still binds it.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::marker::PhantomData;

use crate::FLOOR_TTL;
use crate::guards::{Enforced, Guard, Guards};
use crate::time::Mono;

/// What an answer must reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// The least version.
    pub version: i64,
    /// The instant whose commits must be included; [`Mono::PAST`] for any.
    pub since: Mono,
    /// The instant whose commits must be included if the answer is that the key exists: it was answered by then that it
    /// does not. "Does not exist" has no version that the former ones of a deleted row fall below.
    pub exists_since: Mono,
}

impl Demand {
    /// A demand that everything meets.
    pub const NONE: Self = Self { version: 0, since: Mono::PAST, exists_since: Mono::PAST };

    /// Whether an answer of this version, current as of `fresh`, reaches it.
    #[must_use]
    pub fn met(&self, version: i64, fresh: Mono) -> bool {
        version >= self.version && self.is_young_enough(version, fresh)
    }

    /// The part of it that is about time.
    #[must_use]
    pub fn is_young_enough(&self, version: i64, fresh: Mono) -> bool {
        fresh >= self.since && (version == 0 || fresh >= self.exists_since)
    }

    /// Both demands at once.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            version: self.version.max(other.version),
            since: self.since.max(other.since),
            exists_since: self.exists_since.max(other.exists_since),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Floor {
    demand: Demand,
    until: Mono,
}

/// The floors of many keys, by a hash of `S`.
#[derive(Debug)]
pub struct Floors<K, S = RandomState, G = Enforced> {
    floors: HashMap<K, Floor, S>,
    sweep_at: usize,
    guards: PhantomData<G>,
}

impl<K, S: Default, G> Default for Floors<K, S, G> {
    fn default() -> Self {
        Self { floors: HashMap::default(), sweep_at: 64, guards: PhantomData }
    }
}

impl<K: Hash + Eq + Clone, S: BuildHasher, G: Guards> Floors<K, S, G> {
    /// Nothing below `version` may be answered any more.
    pub fn raise(&mut self, key: &K, version: i64, now: Mono) {
        // Guard: a load that began before the event still carries what is older.
        if G::enforced(Guard::FloorRaise) {
            self.put(key, Demand { version, since: Mono::PAST, ..Demand::NONE }, now);
        }
    }

    /// Nothing that might lack a commit made before `now` may be answered any more: an own write of unknown version.
    pub fn fence(&mut self, key: &K, now: Mono) {
        // Guard: a proof that is still young may be from before the write.
        if G::enforced(Guard::FloorFence) {
            self.put(key, Demand { version: 0, since: now, ..Demand::NONE }, now);
        }
    }

    /// An answer of this version, current as of `fresh`, is given: later ones must reach its version, and a fence that
    /// it satisfies falls.
    pub fn settle(&mut self, key: &K, version: i64, fresh: Mono, now: Mono) {
        // Guard: a reader that was told of a deletion would find the row again, in a tier whose proof is older than that
        // answer. Its snapshot may be from any time until now.
        let absent = version == 0 && G::enforced(Guard::FloorAbsent);
        let exists_since = if absent { now } else { Mono::PAST };
        // Guard: the next reader would be taken back by a tier whose proof is older than this answer.
        if G::enforced(Guard::FloorSettle) {
            self.put(key, Demand { version, since: Mono::PAST, exists_since }, now);
        }
        if let Some(floor) = self.floors.get_mut(key)
            && fresh >= floor.demand.since
        {
            floor.demand.since = Mono::PAST;
        }
    }

    /// What an answer for `key` must reach now.
    #[must_use]
    pub fn demand(&self, key: &K, now: Mono) -> Demand {
        match self.floors.get(key) {
            Some(floor) if floor.until > now => floor.demand,
            _ => Demand::NONE,
        }
    }

    /// Whether no floor stands, cheaply.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.floors.is_empty()
    }

    fn put(&mut self, key: &K, demand: Demand, now: Mono) {
        let until = now + FLOOR_TTL;
        match self.floors.get_mut(key) {
            Some(floor) if floor.until > now => {
                floor.demand = floor.demand.and(demand);
                floor.until = floor.until.max(until);
            }
            Some(floor) => *floor = Floor { demand, until },
            None => {
                self.sweep(now);
                self.floors.insert(key.clone(), Floor { demand, until });
            }
        }
    }

    /// Drops what has fallen whenever the table has doubled, so that its size follows two seconds of changes.
    fn sweep(&mut self, now: Mono) {
        if self.floors.len() >= self.sweep_at {
            self.floors.retain(|_, floor| floor.until > now);
            self.sweep_at = (self.floors.len() * 2).max(64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn at(millis: i64) -> Mono {
        Mono(millis * 1_000_000)
    }

    #[test]
    fn a_floor_rises_and_falls_with_time() {
        let mut floors: Floors<_> = Floors::default();
        floors.raise(&"k", 5, at(0));
        floors.raise(&"k", 3, at(1));
        assert!(!floors.demand(&"k", at(10)).met(4, at(10)));
        assert!(floors.demand(&"k", at(10)).met(5, at(-99_999)));
        assert_eq!(floors.demand(&"other", at(10)), Demand::NONE);
        assert_eq!(floors.demand(&"k", at(1) + FLOOR_TTL), Demand::NONE);
    }

    #[test]
    fn a_fence_falls_to_the_first_answer_from_behind_it() {
        let mut floors: Floors<_> = Floors::default();
        floors.fence(&"k", at(100));
        let demand = floors.demand(&"k", at(110));
        assert!(!demand.met(99, at(99)), "a proof from before the write");
        assert!(demand.met(0, at(100)));
        floors.settle(&"k", 7, at(99), at(120));
        assert_eq!(floors.demand(&"k", at(130)).since, at(100), "an older answer does not lower it");
        floors.settle(&"k", 8, at(105), at(140));
        assert_eq!(floors.demand(&"k", at(150)), Demand { version: 8, since: Mono::PAST, ..Demand::NONE });
    }

    #[test]
    fn an_absence_binds_only_those_who_say_that_it_exists() {
        let mut floors: Floors<_> = Floors::default();
        floors.settle(&"k", 3, at(50), at(60));
        floors.settle(&"k", 0, at(100), at(110));
        let demand = floors.demand(&"k", at(120));
        assert!(!demand.met(3, at(109)), "the row as it was before it went");
        assert!(demand.met(4, at(110)));
        let mut floors: Floors<_> = Floors::default();
        floors.settle(&"k", 0, at(100), at(110));
        assert!(floors.demand(&"k", at(120)).met(0, at(90)), "an absence is no older for another");
    }

    #[test]
    fn a_fence_outlives_an_answer_that_predates_it() {
        let mut floors: Floors<_> = Floors::default();
        floors.settle(&"k", 7, at(50), at(100));
        floors.fence(&"k", at(101));
        assert_eq!(floors.demand(&"k", at(102)), Demand { version: 7, since: at(101), ..Demand::NONE });
    }

    #[test]
    fn the_table_does_not_grow_with_keys_long_past() {
        let mut floors: Floors<_> = Floors::default();
        for i in 0..10_000_i64 {
            floors.raise(&i, 1, Mono(0) + Duration::from_millis(u64::try_from(i).unwrap() * 50));
        }
        assert!(floors.floors.len() < 200, "{}", floors.floors.len());
    }
}
