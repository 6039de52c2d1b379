//! What is cached, when it may be served, and when it may be put into L1.
//!
//! Invariant: an entry is served without asking anyone only if it is proven to be the newest content as of at most
//! [`crate::BOUND`] ago, and reaches everything that this process and this caller already know of its key.

use std::hash::{BuildHasher, Hash};

use crate::asof::Asof;
use crate::clock::Clock;
use crate::guards::{Guard, Guards};
use crate::time::Mono;
use crate::watermarks::{Requirement, Watermarks};
use crate::window::Window;
use crate::{BOUND, FILL_DEADLINE};

/// A cached value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<B> {
    /// The version that determines the content; 0 with an empty body is "does not exist".
    pub version: i64,
    /// The position of its snapshot.
    pub asof: Asof,
    /// From then on L1 does not serve it.
    pub until: Mono,
    /// The encoded body, opaque here.
    pub body: B,
}

/// How fresh an entry is known to be, and so what may be done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// It may be served: it includes every commit made before this instant.
    Proven(Mono),
    /// It may be the newest, but no proof held here says so: its version is asked for before it is loaded again.
    Unproven,
    /// It is known to be too old, or its time is over: it is loaded.
    TooOld,
}

/// How fresh an L1 entry is for a reader of this requirement at `now`.
#[must_use]
pub fn freshness<B, G: Guards>(
    entry: &Entry<B>,
    window: &Window<G>,
    clock: &Clock<G>,
    requirement: Requirement,
    now: Mono,
) -> Freshness {
    // Guard: the end is what bounds a value whose change no trigger reported.
    if now >= entry.until && G::enforced(Guard::L1End) {
        return Freshness::TooOld;
    }
    // Guard: a reader that wrote, was shown, or was notified of a newer version would be taken back in time.
    if entry.version < requirement.min_version && G::enforced(Guard::L1Requirement) {
        return Freshness::TooOld;
    }
    let Some(fresh) = window.covers(entry.asof).and_then(|at| clock.instant(at, now)) else {
        return Freshness::Unproven;
    };
    // Guard: while no message arrives nothing is known; a partition that nobody notices would serve old values until they end.
    if fresh < now - BOUND && G::enforced(Guard::L1Age) {
        return Freshness::Unproven;
    }
    // Guard: what this process wrote after that instant may be missing, and so may a deletion that it answered with.
    if !requirement.is_met_in_time(entry.version, fresh) && G::enforced(Guard::L1Barrier) {
        return Freshness::Unproven;
    }
    Freshness::Proven(fresh)
}

/// The latest instant at which an L1 entry is known to have been current, for a reader that would rather have it, with its age, than
/// nothing. What the reader is known to have seen or written is required all the same.
#[must_use]
pub fn last_known<B, G: Guards>(
    entry: &Entry<B>,
    window: &Window<G>,
    clock: &Clock<G>,
    requirement: Requirement,
    now: Mono,
) -> Option<Mono> {
    if entry.version < requirement.min_version {
        return None;
    }
    window.covered(entry.asof).and_then(|at| clock.instant(at, now)).filter(|fresh| *fresh <= now)
}

/// Whether the result of a load that started at `started`, current as of `fresh`, may be put into L1 in the place of `existing`.
#[must_use]
pub fn admits<B, K: Hash + Eq + Clone, S: BuildHasher, G: Guards>(
    existing: Option<&Entry<B>>,
    new: &Entry<B>,
    fresh: Mono,
    watermarks: &Watermarks<K, S, G>,
    key: &K,
    started: Mono,
    now: Mono,
) -> bool {
    // Guard: a load that was paused with an old value would put it back after the watermarks that refuse it have expired.
    if now.since(started) > FILL_DEADLINE && G::enforced(Guard::L1FillDeadline) {
        return false;
    }
    // Guard: an event that came during the load has already dropped the older entry; the load must not bring it back.
    if !watermarks.requirement(key, now).is_met(new.version, fresh) && G::enforced(Guard::L1FillWatermark) {
        return false;
    }
    match existing {
        // Guard: two loads may finish in the other order than they started.
        Some(old) if old.version > new.version && G::enforced(Guard::L1FillOrder) => false,
        // The same content: only a later position is worth the write, or a life after the end of the old one, which nothing would else
        // replace while nothing changes anywhere. Numbers of two epochs cannot be compared.
        Some(old) if old.version == new.version && old.asof.epoch == new.asof.epoch && now < old.until => {
            new.asof.seq > old.asof.seq
        }
        _ => now < new.until,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Sample;
    use crate::time::PgTime;
    use crate::window::Notice;
    use std::time::Duration;

    const MS: i64 = 1_000_000;

    fn at(ms: i64) -> Mono {
        Mono(ms * MS)
    }

    fn pg(ms: i64) -> PgTime {
        PgTime(ms * 1000)
    }

    fn view() -> (Window, Clock) {
        let mut clock: Clock = Clock::default();
        clock.sampled(Sample { asked: at(0), answered: at(0), lower: pg(0), upper: pg(0) });
        let mut window: Window = Window::default();
        window.receive(&Notice { epoch: 1, seq: 5, at: pg(1000), data: true });
        (window, clock)
    }

    fn entry(version: i64, epoch: i64, seq: i64) -> Entry<&'static str> {
        Entry { version, asof: Asof { epoch, seq }, until: at(30_000), body: "b" }
    }

    fn freshness_of(entry: &Entry<&'static str>, requirement: Requirement, now: i64) -> Freshness {
        let (window, clock) = view();
        freshness(entry, &window, &clock, requirement, at(now))
    }

    #[test]
    fn an_entry_is_fresh_under_a_young_proof_only() {
        assert!(
            matches!(freshness_of(&entry(3, 1, 5), Requirement::NONE, 1500), Freshness::Proven(f) if f <= at(1000))
        );
        assert!(matches!(freshness_of(&entry(3, 1, 5), Requirement::NONE, 1899), Freshness::Proven(_)));
        assert_eq!(freshness_of(&entry(3, 1, 5), Requirement::NONE, 1901), Freshness::Unproven);
    }

    #[test]
    fn an_entry_outside_the_window_is_unproven() {
        assert_eq!(freshness_of(&entry(3, 1, 4), Requirement::NONE, 1500), Freshness::Unproven);
        assert_eq!(freshness_of(&entry(3, 2, 5), Requirement::NONE, 1500), Freshness::Unproven);
    }

    #[test]
    fn an_entry_below_its_watermark_or_after_its_end_is_too_old() {
        let requirement = Requirement::version(4);
        assert_eq!(freshness_of(&entry(3, 1, 5), requirement, 1500), Freshness::TooOld);
        assert!(matches!(freshness_of(&entry(4, 1, 5), requirement, 1500), Freshness::Proven(_)));
        assert_eq!(freshness_of(&entry(3, 1, 5), Requirement::NONE, 30_000), Freshness::TooOld);
    }

    #[test]
    fn an_entry_is_unproven_until_its_proof_has_passed_the_barrier() {
        let behind = |ms| Requirement { barrier: at(ms), ..Requirement::NONE };
        assert_eq!(freshness_of(&entry(3, 1, 5), behind(1001), 1500), Freshness::Unproven);
        assert!(matches!(freshness_of(&entry(3, 1, 5), behind(890), 1500), Freshness::Proven(_)));
    }

    #[test]
    fn an_entry_is_last_known_current_as_of_the_closed_windows_time() {
        let (mut window, clock) = view();
        window.close();
        let known = |version, min_version| {
            let requirement = Requirement { min_version, barrier: at(59_000), ..Requirement::NONE };
            last_known(&entry(version, 1, 5), &window, &clock, requirement, at(60_000))
        };
        // A hundred milliseconds for a step of the clock, twelve for its drift.
        assert!(known(3, 3).is_some_and(|fresh| fresh <= at(900) && fresh > at(880)), "{:?}", known(3, 3));
        assert_eq!(known(3, 4), None, "a newer version was shown or written");
        assert_eq!(last_known(&entry(3, 1, 4), &window, &clock, Requirement::NONE, at(60_000)), None);
    }

    #[test]
    fn without_a_reading_of_the_clock_nothing_is_proven() {
        let (window, _) = view();
        assert_eq!(
            freshness(&entry(3, 1, 5), &window, &<Clock>::default(), Requirement::NONE, at(1500)),
            Freshness::Unproven
        );
    }

    fn admitted(existing: Option<&Entry<&'static str>>, min_version: i64, now: Mono) -> bool {
        let mut watermarks: Watermarks<_> = Watermarks::default();
        watermarks.raise(&"k", min_version, at(0));
        admits(existing, &entry(3, 1, 5), at(10), &watermarks, &"k", at(0), now)
    }

    #[test]
    fn a_result_that_is_late_low_or_overtaken_is_not_admitted() {
        assert!(admitted(None, 3, at(900)));
        assert!(!admitted(None, 3, at(0) + FILL_DEADLINE + Duration::from_millis(1)));
        assert!(!admitted(None, 4, at(900)));
        assert!(!admitted(Some(&entry(4, 1, 5)), 0, at(900)));
        assert!(admitted(Some(&entry(2, 1, 9)), 0, at(900)));
    }

    #[test]
    fn a_result_from_before_an_own_write_is_not_admitted() {
        let admitted = |barrier| {
            let mut watermarks: Watermarks<_> = Watermarks::default();
            watermarks.put_barrier(&"k", at(barrier));
            admits(None, &entry(3, 1, 5), at(10), &watermarks, &"k", at(0), at(20))
        };
        assert!(admitted(10));
        assert!(!admitted(11));
    }

    #[test]
    fn the_same_version_is_admitted_from_a_later_snapshot_only() {
        assert!(!admitted(Some(&entry(3, 1, 6)), 0, at(20)));
        assert!(admitted(Some(&entry(3, 1, 4)), 0, at(20)));
        assert!(admitted(Some(&entry(3, 9, 900)), 0, at(20)), "numbers of two epochs are not compared");
    }

    #[test]
    fn what_has_ended_is_replaced_by_the_same_version_of_the_same_snapshot() {
        let admitted = |old_until: i64, new_until: i64| {
            let ending = |until| Entry { until: at(until), ..entry(3, 1, 5) };
            let watermarks: Watermarks<_> = Watermarks::default();
            admits(Some(&ending(old_until)), &ending(new_until), at(90), &watermarks, &"k", at(90), at(100))
        };
        assert!(admitted(100, 200));
        assert!(!admitted(101, 200));
        assert!(!admitted(50, 100));
    }
}
