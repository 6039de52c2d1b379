//! What is cached, when it may be served, and when it may be put into L1.
//!
//! Invariant: an entry is served without asking anyone only if it is proven to be the newest content as of at most
//! [`crate::BOUND`] ago, and reaches everything that this process and this caller already know of its key.

use std::hash::{BuildHasher, Hash};

use crate::clock::Clock;
use crate::floors::{Demand, Floors};
use crate::guards::{Guard, Guards};
use crate::time::Mono;
use crate::window::Window;
use crate::{BOUND, FILL_DEADLINE};

/// Where a value's snapshot stands: it includes every change of this epoch numbered up to `seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asof {
    /// The leadership whose numbers these are.
    pub epoch: i64,
    /// The last number folded when the snapshot was taken.
    pub seq: i64,
}

/// A cached value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<B> {
    /// The version that determines the content; 0 with an empty body is "does not exist".
    pub version: i64,
    /// Where its snapshot stands.
    pub asof: Asof,
    /// When L1 must have dropped it.
    pub until: Mono,
    /// The encoded body, never looked into.
    pub body: B,
}

/// What may be done with an entry that is at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may be answered: it includes every commit made before this instant.
    Serve(Mono),
    /// It may be the newest, but nothing at hand proves it: ask for the version before loading again.
    Unproven,
    /// It is known to be too old, or its time is over.
    Useless,
}

/// Judges an L1 entry for a reader who demands `demand` at `now`.
#[must_use]
pub fn judge<B, G: Guards>(
    entry: &Entry<B>,
    window: &Window<G>,
    clock: &Clock<G>,
    demand: Demand,
    now: Mono,
) -> Verdict {
    // Guard: the time-out is what ends a value whose change no trigger reported.
    if now >= entry.until && G::enforced(Guard::L1End) {
        return Verdict::Useless;
    }
    // Guard: a reader who wrote, saw, or heard of a newer version would be taken back in time.
    if entry.version < demand.version && G::enforced(Guard::L1Demand) {
        return Verdict::Useless;
    }
    let Some(fresh) = window.covers(entry.asof).and_then(|at| clock.instant(at, now)) else {
        return Verdict::Unproven;
    };
    // Guard: while nothing arrives, nothing is known; a silent partition would serve old values until the time-out.
    if fresh < now - BOUND && G::enforced(Guard::L1Age) {
        return Verdict::Unproven;
    }
    // Guard: what this process wrote, or said does not exist, after that time may be missing.
    if !demand.is_young_enough(entry.version, fresh) && G::enforced(Guard::L1Fence) {
        return Verdict::Unproven;
    }
    Verdict::Serve(fresh)
}

/// The latest instant at which an L1 entry is known to have been current, for a reader who would rather have it than nothing and
/// is told how old it is. What the reader is known to have seen or written is demanded all the same.
#[must_use]
pub fn last_known<B, G: Guards>(
    entry: &Entry<B>,
    window: &Window<G>,
    clock: &Clock<G>,
    demand: Demand,
    now: Mono,
) -> Option<Mono> {
    if entry.version < demand.version {
        return None;
    }
    window.covered(entry.asof).and_then(|at| clock.instant(at, now)).filter(|fresh| *fresh <= now)
}

/// Whether the result of a flight that began at `started`, current as of `fresh`, may be put into L1, where `existing`
/// lies now.
#[must_use]
pub fn admits<B, K: Hash + Eq + Clone, S: BuildHasher, G: Guards>(
    existing: Option<&Entry<B>>,
    new: &Entry<B>,
    fresh: Mono,
    floors: &Floors<K, S, G>,
    key: &K,
    started: Mono,
    now: Mono,
) -> bool {
    // Guard: a reader that slept with an old value in its hand would put it back after the floors that refuse it fell.
    if now.since(started) > FILL_DEADLINE && G::enforced(Guard::L1FillDeadline) {
        return false;
    }
    // Guard: an event that came while the load was under way has already dropped the older entry; the load must not
    // bring it back.
    if !floors.demand(key, now).met(new.version, fresh) && G::enforced(Guard::L1FillFloor) {
        return false;
    }
    match existing {
        // Guard: two flights end in the other order than they began.
        Some(old) if old.version > new.version && G::enforced(Guard::L1FillOrder) => false,
        Some(old) if old.version == new.version && old.asof.epoch == new.asof.epoch => new.asof.seq > old.asof.seq,
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

    fn sight() -> (Window, Clock) {
        let mut clock: Clock = Clock::default();
        clock.sampled(Sample { asked: at(0), answered: at(0), lower: pg(0), upper: pg(0) });
        let mut window: Window = Window::default();
        window.receive(&Notice { epoch: 1, seq: 5, at: pg(1000), data: true });
        (window, clock)
    }

    fn entry(version: i64, epoch: i64, seq: i64) -> Entry<&'static str> {
        Entry { version, asof: Asof { epoch, seq }, until: at(30_000), body: "b" }
    }

    fn judged(entry: &Entry<&'static str>, demand: Demand, now: i64) -> Verdict {
        let (window, clock) = sight();
        judge(entry, &window, &clock, demand, at(now))
    }

    #[test]
    fn served_under_a_young_proof_only() {
        assert!(matches!(judged(&entry(3, 1, 5), Demand::NONE, 1500), Verdict::Serve(f) if f <= at(1000)));
        assert!(matches!(judged(&entry(3, 1, 5), Demand::NONE, 1899), Verdict::Serve(_)));
        assert_eq!(judged(&entry(3, 1, 5), Demand::NONE, 1901), Verdict::Unproven);
    }

    #[test]
    fn demoted_outside_the_window() {
        assert_eq!(judged(&entry(3, 1, 4), Demand::NONE, 1500), Verdict::Unproven);
        assert_eq!(judged(&entry(3, 2, 5), Demand::NONE, 1500), Verdict::Unproven);
    }

    #[test]
    fn useless_below_a_floor_and_after_its_time() {
        let demand = Demand { version: 4, since: Mono::PAST, ..Demand::NONE };
        assert_eq!(judged(&entry(3, 1, 5), demand, 1500), Verdict::Useless);
        assert!(matches!(judged(&entry(4, 1, 5), demand, 1500), Verdict::Serve(_)));
        assert_eq!(judged(&entry(3, 1, 5), Demand::NONE, 30_000), Verdict::Useless);
    }

    #[test]
    fn a_fence_demotes_until_the_proof_has_passed_it() {
        assert_eq!(
            judged(&entry(3, 1, 5), Demand { version: 0, since: at(1001), ..Demand::NONE }, 1500),
            Verdict::Unproven
        );
        assert!(matches!(
            judged(&entry(3, 1, 5), Demand { version: 0, since: at(890), ..Demand::NONE }, 1500),
            Verdict::Serve(_)
        ));
    }

    #[test]
    fn what_was_current_once_is_told_with_its_time() {
        let (mut window, clock) = sight();
        window.close();
        let known = |version, demand| {
            let demand = Demand { version: demand, since: at(59_000), ..Demand::NONE };
            last_known(&entry(version, 1, 5), &window, &clock, demand, at(60_000))
        };
        // A hundred milliseconds for a step of the clock, twelve for its drift.
        assert!(known(3, 3).is_some_and(|fresh| fresh <= at(900) && fresh > at(880)), "{:?}", known(3, 3));
        assert_eq!(known(3, 4), None, "a newer version was shown or written");
        assert_eq!(last_known(&entry(3, 1, 4), &window, &clock, Demand::NONE, at(60_000)), None);
    }

    #[test]
    fn no_clock_no_answer() {
        let (window, _) = sight();
        assert_eq!(judge(&entry(3, 1, 5), &window, &<Clock>::default(), Demand::NONE, at(1500)), Verdict::Unproven);
    }

    fn admitted(existing: Option<&Entry<&'static str>>, floor: i64, now: Mono) -> bool {
        let mut floors: Floors<_> = Floors::default();
        floors.raise(&"k", floor, at(0));
        admits(existing, &entry(3, 1, 5), at(10), &floors, &"k", at(0), now)
    }

    #[test]
    fn late_low_and_overtaken_results_stay_out() {
        assert!(admitted(None, 3, at(900)));
        assert!(!admitted(None, 3, at(0) + FILL_DEADLINE + Duration::from_millis(1)));
        assert!(!admitted(None, 4, at(900)));
        assert!(!admitted(Some(&entry(4, 1, 5)), 0, at(900)));
        assert!(admitted(Some(&entry(2, 1, 9)), 0, at(900)));
    }

    #[test]
    fn what_was_read_before_an_own_write_stays_out() {
        let admitted = |fenced| {
            let mut floors: Floors<_> = Floors::default();
            floors.fence(&"k", at(fenced));
            admits(None, &entry(3, 1, 5), at(10), &floors, &"k", at(0), at(20))
        };
        assert!(admitted(10));
        assert!(!admitted(11));
    }

    #[test]
    fn the_same_version_moves_its_origin_forward_only() {
        assert!(!admitted(Some(&entry(3, 1, 6)), 0, at(20)));
        assert!(admitted(Some(&entry(3, 1, 4)), 0, at(20)));
        assert!(admitted(Some(&entry(3, 9, 900)), 0, at(20)), "numbers of two epochs are not compared");
    }
}
