//! Watermarks: what this process already knows of a key, which no later answer may contradict.
//!
//! A watermark is a least version (an event, an own write, an answer already given), or a barrier: "not older than this instant",
//! for an aggregate whose new version the writer does not know. The first answer as young as the barrier turns it into a version.
//! Invariant: a watermark lasts for [`WATERMARK_TTL`]; after that every proof that is young enough to be believed is younger than
//! what raised it. A reader takes its requirement when it begins, so a watermark that expires while the reader waits still binds
//! it.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::marker::PhantomData;

use crate::WATERMARK_TTL;
use crate::guards::{Enforced, Guard, Guards};
use crate::time::Mono;

/// Below this many keys the table is not searched for expired ones.
const EVICT_FROM: usize = 64;

/// What an answer must reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The least version.
    pub min_version: i64,
    /// The instant whose commits must be included; [`Mono::PAST`] for any.
    pub barrier: Mono,
    /// The instant whose commits must be included if the answer is that the key exists: it was answered by then that it
    /// does not. "Does not exist" has no version that the former ones of a deleted row are below.
    pub absence_barrier: Mono,
}

impl Requirement {
    /// A requirement that everything meets.
    pub const NONE: Self = Self { min_version: 0, barrier: Mono::PAST, absence_barrier: Mono::PAST };

    /// A requirement of this version, of any age.
    #[must_use]
    pub const fn version(min_version: i64) -> Self {
        Self { min_version, ..Self::NONE }
    }

    /// Whether an answer of this version, current as of `fresh`, reaches it.
    #[must_use]
    pub fn is_met(&self, version: i64, fresh: Mono) -> bool {
        version >= self.min_version && self.is_met_in_time(version, fresh)
    }

    /// Whether such an answer is behind the barriers, whatever its version.
    #[must_use]
    pub fn is_met_in_time(&self, version: i64, fresh: Mono) -> bool {
        fresh >= self.barrier && (version == 0 || fresh >= self.absence_barrier)
    }

    /// Both requirements at once.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            min_version: self.min_version.max(other.min_version),
            barrier: self.barrier.max(other.barrier),
            absence_barrier: self.absence_barrier.max(other.absence_barrier),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Watermark {
    requirement: Requirement,
    until: Mono,
}

/// The watermarks of many keys, by a hash of `S`.
#[derive(Debug)]
pub struct Watermarks<K, S = RandomState, G = Enforced> {
    by_key: HashMap<K, Watermark, S>,
    /// At this many keys those that have expired are evicted.
    evict_at: usize,
    guards: PhantomData<G>,
}

impl<K, S: Default, G> Default for Watermarks<K, S, G> {
    fn default() -> Self {
        Self { by_key: HashMap::default(), evict_at: EVICT_FROM, guards: PhantomData }
    }
}

impl<K: Hash + Eq + Clone, S: BuildHasher, G: Guards> Watermarks<K, S, G> {
    /// Nothing below `version` may be answered from `now` on: an event, or an own write.
    pub fn raise(&mut self, key: &K, version: i64, now: Mono) {
        // Guard: a load that began before the event still carries what is older.
        if G::enforced(Guard::WatermarkRaise) {
            self.put(key, Requirement::version(version), now);
        }
    }

    /// Nothing that might lack a commit made before `now` may be answered from `now` on: an own write of unknown version.
    pub fn put_barrier(&mut self, key: &K, now: Mono) {
        // Guard: a proof that is still young may be from before the write.
        if G::enforced(Guard::WriteBarrier) {
            self.put(key, Requirement { barrier: now, ..Requirement::NONE }, now);
        }
    }

    /// An answer of this version, current as of `fresh`, is given: later ones must reach its version, and a barrier that it is
    /// behind is taken down.
    pub fn answered(&mut self, key: &K, version: i64, fresh: Mono, now: Mono) {
        // Guard: a reader that was answered "does not exist" would find the row again, in a tier whose proof is older than that
        // answer. The answer's snapshot may be from any time until now, so the barrier is now and not `fresh`.
        let absent = version == 0 && G::enforced(Guard::AbsenceBarrier);
        let absence_barrier = if absent { now } else { Mono::PAST };
        // Guard: the next reader would be taken back by a tier whose proof is older than this answer.
        if G::enforced(Guard::WatermarkAnswer) {
            self.put(key, Requirement { min_version: version, barrier: Mono::PAST, absence_barrier }, now);
        }
        // The version says from now on what the barrier did, and is met without a proof as young.
        if let Some(watermark) = self.by_key.get_mut(key)
            && fresh >= watermark.requirement.barrier
        {
            watermark.requirement.barrier = Mono::PAST;
        }
    }

    /// What an answer for `key` must reach now.
    #[must_use]
    pub fn requirement(&self, key: &K, now: Mono) -> Requirement {
        match self.by_key.get(key) {
            Some(watermark) if watermark.until > now => watermark.requirement,
            _ => Requirement::NONE,
        }
    }

    fn put(&mut self, key: &K, requirement: Requirement, now: Mono) {
        let until = now + WATERMARK_TTL;
        match self.by_key.get_mut(key) {
            Some(watermark) if watermark.until > now => {
                watermark.requirement = watermark.requirement.and(requirement);
                watermark.until = watermark.until.max(until);
            }
            Some(watermark) => *watermark = Watermark { requirement, until },
            None => {
                self.evict_expired(now);
                self.by_key.insert(key.clone(), Watermark { requirement, until });
            }
        }
    }

    /// Evicts what has expired whenever the table has doubled: its size follows two seconds of changes, and the search costs each
    /// insertion a constant.
    fn evict_expired(&mut self, now: Mono) {
        if self.by_key.len() >= self.evict_at {
            self.by_key.retain(|_, watermark| watermark.until > now);
            self.evict_at = (self.by_key.len() * 2).max(EVICT_FROM);
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

    fn watermarks() -> Watermarks<&'static str> {
        Watermarks::default()
    }

    #[test]
    fn a_watermark_only_rises_until_it_expires() {
        let mut watermarks = watermarks();
        watermarks.raise(&"k", 5, at(0));
        watermarks.raise(&"k", 3, at(1));
        assert!(!watermarks.requirement(&"k", at(10)).is_met(4, at(10)));
        assert!(watermarks.requirement(&"k", at(10)).is_met(5, at(-99_999)));
        assert_eq!(watermarks.requirement(&"other", at(10)), Requirement::NONE);
        assert_eq!(watermarks.requirement(&"k", at(1) + WATERMARK_TTL), Requirement::NONE);
    }

    #[test]
    fn the_first_answer_from_behind_a_barrier_replaces_it_by_a_version() {
        let mut watermarks = watermarks();
        watermarks.put_barrier(&"k", at(100));
        let requirement = watermarks.requirement(&"k", at(110));
        assert!(!requirement.is_met(99, at(99)), "a proof from before the write");
        assert!(requirement.is_met(0, at(100)));
        watermarks.answered(&"k", 7, at(99), at(120));
        assert_eq!(watermarks.requirement(&"k", at(130)).barrier, at(100), "an older answer does not take it down");
        watermarks.answered(&"k", 8, at(105), at(140));
        assert_eq!(watermarks.requirement(&"k", at(150)), Requirement::version(8));
    }

    #[test]
    fn an_absence_binds_only_answers_that_the_key_exists() {
        let mut deleted = watermarks();
        deleted.answered(&"k", 3, at(50), at(60));
        deleted.answered(&"k", 0, at(100), at(110));
        let requirement = deleted.requirement(&"k", at(120));
        assert!(!requirement.is_met(3, at(109)), "the row as it was before its deletion");
        assert!(requirement.is_met(4, at(110)));
        let mut absent = watermarks();
        absent.answered(&"k", 0, at(100), at(110));
        assert!(absent.requirement(&"k", at(120)).is_met(0, at(90)), "an absence is no older for another");
    }

    #[test]
    fn a_barrier_outlives_an_answer_that_predates_it() {
        let mut watermarks = watermarks();
        watermarks.answered(&"k", 7, at(50), at(100));
        watermarks.put_barrier(&"k", at(101));
        let expected = Requirement { min_version: 7, barrier: at(101), ..Requirement::NONE };
        assert_eq!(watermarks.requirement(&"k", at(102)), expected);
    }

    #[test]
    fn the_table_does_not_grow_with_keys_long_expired() {
        let mut watermarks: Watermarks<_> = Watermarks::default();
        for i in 0..10_000_i64 {
            watermarks.raise(&i, 1, Mono(0) + Duration::from_millis(u64::try_from(i).unwrap() * 50));
        }
        assert!(watermarks.by_key.len() < 200, "{}", watermarks.by_key.len());
    }
}
