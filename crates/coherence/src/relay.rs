//! The relay's decisions: what one pass over the outbox may claim, and to whom.
//!
//! Order of a pass: drain, apply to Redis, prove to Redis, publish, fold. Invariants: Redis is never given a proof of a
//! change that was not applied to it; a number is never published with two contents; an outbox row is folded only after
//! Redis was told or is distrusted.

use std::marker::PhantomData;

use crate::guards::{Enforced, Guard, Guards};
use crate::time::PgTime;
use crate::window::Notice;

/// `cache_clock` as the drain's snapshot shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockRow {
    /// The leadership.
    pub epoch: i64,
    /// The last number folded.
    pub seq: i64,
    /// The Redis name space.
    pub space: i64,
    /// The Redis process for which it was made.
    pub run: Option<String>,
    /// Changes were folded of which that name space does not know.
    pub dirty: bool,
}

/// What the drain saw besides the changes themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drained {
    /// The clock.
    pub clock: ClockRow,
    /// When the drain's transaction started: at or before its snapshot.
    pub at: PgTime,
    /// Whether it saw any change.
    pub data: bool,
    /// Whether it took every change that its snapshot showed.
    pub complete: bool,
}

/// What the relay knows of Redis in this pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redis<'a> {
    /// Not used, or not reachable.
    Away,
    /// Reachable on a connection whose server named itself so.
    Run(&'a str),
}

/// Why a leader gives its leadership up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepDown {
    /// Another process has taken over.
    Deposed,
    /// PostgreSQL's clock went back: a new epoch restarts every window.
    ClockWentBack,
}

/// One pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass<G = Enforced> {
    notice: Notice,
    space: i64,
    /// Whether the changes are to be applied to Redis, and a proof given after that.
    apply: bool,
    /// The Redis process for which a new name space is to be opened.
    reopen: Option<String>,
    guards: PhantomData<G>,
}

/// What the fold writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fold {
    /// The number up to which everything is folded.
    pub seq: i64,
    /// The value of `l2_dirty`.
    pub dirty: bool,
    /// A new name space, and the Redis process that it is for.
    pub reopen: Option<String>,
}

impl<G: Guards> Pass<G> {
    /// Plans a pass for the leader of `epoch`, whose last drain was taken at `before`.
    ///
    /// # Errors
    /// The leadership is over.
    pub fn plan(drained: &Drained, epoch: i64, before: PgTime, redis: Redis<'_>) -> Result<Self, StepDown> {
        // Guard: a leader that slept through its lease would number its changes beside its successor's.
        if drained.clock.epoch != epoch && G::enforced(Guard::RelayDeposed) {
            return Err(StepDown::Deposed);
        }
        // Guard: windows only move their proof forward, so that a clock that went back would leave them with one that
        // looks young.
        if drained.at < before && G::enforced(Guard::RelayClockBack) {
            return Err(StepDown::ClockWentBack);
        }
        let clock = &drained.clock;
        // Guard: after a restart or a failover Redis may hold an older state of itself, which lacks changes that were
        // applied.
        let reopen = match redis {
            Redis::Run(run) if clock.dirty => Some(run.to_owned()),
            Redis::Run(run) if clock.run.as_deref() != Some(run) && G::enforced(Guard::RelayReopen) => {
                Some(run.to_owned())
            }
            _ => None,
        };
        let notice = Notice {
            epoch,
            seq: clock.seq + i64::from(drained.data),
            // Guard: changes left for the next pass may have been committed before this one's time.
            at: if drained.complete || !G::enforced(Guard::RelayPartial) { drained.at } else { PgTime::PAST },
            data: drained.data,
        };
        let apply = matches!(redis, Redis::Run(_)) && reopen.is_none();
        Ok(Self { notice, space: clock.space, apply, reopen, guards: PhantomData })
    }

    /// The name space in which Redis is to be told the changes, if it is.
    ///
    /// Guard: it is named, not found beside the proof: while the proof is evicted nothing would be told, and the proof that
    /// follows would vouch for it all the same.
    #[must_use]
    pub fn applies(&self) -> Option<i64> {
        (self.apply && self.notice.data).then_some(self.space)
    }

    /// The name space that Redis is to be given a proof for, once `applied` says that it took every change.
    #[must_use]
    pub fn proves(&self, applied: bool) -> Option<i64> {
        // Guard: a proof beside an entry that missed its change makes the old entry look current.
        (self.apply && (applied || !G::enforced(Guard::RelayProve)) && self.notice.at != PgTime::PAST)
            .then_some(self.space)
    }

    /// The head of the message.
    #[must_use]
    pub fn notice(&self) -> Notice {
        self.notice
    }

    /// What to fold; `applied` says whether Redis took every change. Nothing when there is nothing to write but the
    /// lease.
    #[must_use]
    pub fn fold(&self, applied: bool) -> Option<Fold> {
        // Guard: folded changes are never applied again, so the name space that missed them must never be proven again.
        // A new name space starts empty and misses nothing; dirt from before is gone with the old one, or still missed.
        let dirty = !(self.apply && applied) && self.reopen.is_none() && G::enforced(Guard::RelayDirty);
        (self.notice.data || self.reopen.is_some()).then(|| Fold {
            seq: self.notice.seq,
            dirty,
            reopen: self.reopen.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(data: bool) -> Drained {
        let clock = ClockRow { epoch: 7, seq: 10, space: 99, run: Some("r1".into()), dirty: false };
        Drained { clock, at: PgTime(1000), data, complete: true }
    }

    fn plan(drained: &Drained, redis: Redis<'_>) -> Pass {
        Pass::plan(drained, 7, PgTime(900), redis).unwrap()
    }

    #[test]
    fn a_quiet_pass_proves_and_folds_nothing() {
        let pass = plan(&drained(false), Redis::Run("r1"));
        assert_eq!(pass.applies(), None);
        assert_eq!(pass.proves(true), Some(99));
        assert_eq!(pass.notice(), Notice { epoch: 7, seq: 10, at: PgTime(1000), data: false });
        assert_eq!(pass.fold(true), None);
    }

    #[test]
    fn changes_are_applied_then_proven_then_folded() {
        let pass = plan(&drained(true), Redis::Run("r1"));
        assert_eq!(pass.applies(), Some(99));
        assert_eq!(pass.proves(true), Some(99));
        assert_eq!(pass.notice().seq, 11);
        assert_eq!(pass.fold(true), Some(Fold { seq: 11, dirty: false, reopen: None }));
    }

    #[test]
    fn a_missed_apply_is_never_proven_and_dirties() {
        let pass = plan(&drained(true), Redis::Run("r1"));
        assert_eq!(pass.proves(false), None);
        assert!(pass.fold(false).unwrap().dirty);
        let away = plan(&drained(true), Redis::Away);
        assert_eq!((away.applies(), away.proves(true)), (None, None));
        assert!(away.fold(true).unwrap().dirty);
        assert_eq!(plan(&drained(false), Redis::Away).fold(true), None, "nothing was missed");
    }

    #[test]
    fn dirt_or_another_redis_opens_a_new_name_space_first() {
        let mut dirty = drained(true);
        dirty.clock.dirty = true;
        for (seen, run) in [(dirty, "r1"), (drained(true), "r2"), (drained(false), "r2")] {
            let pass = plan(&seen, Redis::Run(run));
            assert_eq!((pass.applies(), pass.proves(true)), (None, None));
            let fold = pass.fold(true).unwrap();
            assert_eq!((fold.dirty, fold.reopen.as_deref()), (false, Some(run)));
        }
    }

    #[test]
    fn dirt_stays_while_redis_is_away() {
        let mut seen = drained(true);
        seen.clock.dirty = true;
        assert!(plan(&seen, Redis::Away).fold(false).unwrap().dirty);
    }

    #[test]
    fn a_partial_drain_claims_no_time() {
        let mut seen = drained(true);
        seen.complete = false;
        let pass = plan(&seen, Redis::Run("r1"));
        assert_eq!(pass.proves(true), None);
        assert_eq!(pass.notice().at, PgTime::PAST);
        assert_eq!(pass.fold(true), Some(Fold { seq: 11, dirty: false, reopen: None }));
    }

    #[test]
    fn the_deposed_and_the_clockless_step_down() {
        assert_eq!(<Pass>::plan(&drained(true), 8, PgTime(0), Redis::Away), Err(StepDown::Deposed));
        assert_eq!(<Pass>::plan(&drained(true), 7, PgTime(1001), Redis::Away), Err(StepDown::ClockWentBack));
    }
}
