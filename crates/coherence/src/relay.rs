//! The relay's decisions: what one pass over the outbox may claim, and to whom.
//!
//! Order of a pass: drain, apply to Redis, give Redis the proof, publish, compact. Invariants: Redis is never given a proof of a change
//! that was not applied to it; a number is never published with two contents; an outbox row is compacted only after it was applied
//! to Redis, or Redis is distrusted.

use std::marker::PhantomData;

use crate::guards::{Enforced, Guard, Guards};
use crate::time::PgTime;
use crate::window::Notice;

/// `cache_clock` as the drain's snapshot shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockRow {
    /// The term.
    pub epoch: i64,
    /// The last number compacted.
    pub seq: i64,
    /// The Redis name space.
    pub space: i64,
    /// The Redis process for which it was made.
    pub run: Option<String>,
    /// Changes were compacted that were not applied to that name space.
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
    Unreachable,
    /// Reachable on a connection whose server named itself so.
    Run(&'a str),
}

/// Why a leader ends its term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepDown {
    /// Another process leads.
    Superseded,
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

/// What a compaction writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// The number up to which everything is compacted.
    pub seq: i64,
    /// The value of `l2_dirty`.
    pub dirty: bool,
    /// A new name space, and the Redis process that it is for.
    pub reopen: Option<String>,
}

impl<G: Guards> Pass<G> {
    /// Plans a pass for the leader of `epoch`, whose last drain was at `last_drain`.
    ///
    /// # Errors
    /// The term is over.
    pub fn plan(drained: &Drained, epoch: i64, last_drain: PgTime, redis: Redis<'_>) -> Result<Self, StepDown> {
        // Guard: a leader that was paused through its lease would number its changes beside its successor's.
        if drained.clock.epoch != epoch && G::enforced(Guard::RelaySuperseded) {
            return Err(StepDown::Superseded);
        }
        // Guard: windows only move their proof forward, so that a clock that went back would leave them with one that
        // looks young.
        if drained.at < last_drain && G::enforced(Guard::RelayClockBack) {
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

    /// The name space in which the changes are to be applied to Redis, if they are.
    ///
    /// Guard: it is named, not found beside the proof: while the proof is evicted nothing would be applied, and the proof that
    /// follows would vouch for it all the same.
    #[must_use]
    pub fn applies(&self) -> Option<i64> {
        (self.apply && self.notice.data).then_some(self.space)
    }

    /// The name space that Redis is to be given a proof for; `applied` is whether it took every change.
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

    /// What to write in the compaction; `applied` is whether Redis took every change. Nothing when only the lease is to be renewed.
    #[must_use]
    pub fn compaction(&self, applied: bool) -> Option<Compaction> {
        // Guard: compacted changes are never applied again, so the name space that lacks them must never be proven again.
        // A new name space starts empty and lacks nothing; what the old one lacked is gone with it.
        let dirty = !(self.apply && applied) && self.reopen.is_none() && G::enforced(Guard::RelayDirty);
        (self.notice.data || self.reopen.is_some()).then(|| Compaction {
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
    fn a_pass_without_changes_proves_and_compacts_nothing() {
        let pass = plan(&drained(false), Redis::Run("r1"));
        assert_eq!(pass.applies(), None);
        assert_eq!(pass.proves(true), Some(99));
        assert_eq!(pass.notice(), Notice { epoch: 7, seq: 10, at: PgTime(1000), data: false });
        assert_eq!(pass.compaction(true), None);
    }

    #[test]
    fn changes_are_applied_then_proven_then_compacted() {
        let pass = plan(&drained(true), Redis::Run("r1"));
        assert_eq!(pass.applies(), Some(99));
        assert_eq!(pass.proves(true), Some(99));
        assert_eq!(pass.notice().seq, 11);
        assert_eq!(pass.compaction(true), Some(Compaction { seq: 11, dirty: false, reopen: None }));
    }

    #[test]
    fn an_apply_that_failed_is_never_proven_and_makes_the_name_space_dirty() {
        let pass = plan(&drained(true), Redis::Run("r1"));
        assert_eq!(pass.proves(false), None);
        assert!(pass.compaction(false).unwrap().dirty);
        let unreachable = plan(&drained(true), Redis::Unreachable);
        assert_eq!((unreachable.applies(), unreachable.proves(true)), (None, None));
        assert!(unreachable.compaction(true).unwrap().dirty);
        assert_eq!(plan(&drained(false), Redis::Unreachable).compaction(true), None, "there was nothing to apply");
    }

    #[test]
    fn a_dirty_name_space_or_another_redis_opens_a_new_one_first() {
        let mut dirty = drained(true);
        dirty.clock.dirty = true;
        for (drained, run) in [(dirty, "r1"), (drained(true), "r2"), (drained(false), "r2")] {
            let pass = plan(&drained, Redis::Run(run));
            assert_eq!((pass.applies(), pass.proves(true)), (None, None));
            let compaction = pass.compaction(true).unwrap();
            assert_eq!((compaction.dirty, compaction.reopen.as_deref()), (false, Some(run)));
        }
    }

    #[test]
    fn a_name_space_stays_dirty_while_redis_is_unreachable() {
        let mut seen = drained(true);
        seen.clock.dirty = true;
        assert!(plan(&seen, Redis::Unreachable).compaction(false).unwrap().dirty);
    }

    #[test]
    fn a_partial_drain_claims_no_time() {
        let mut seen = drained(true);
        seen.complete = false;
        let pass = plan(&seen, Redis::Run("r1"));
        assert_eq!(pass.proves(true), None);
        assert_eq!(pass.notice().at, PgTime::PAST);
        assert_eq!(pass.compaction(true), Some(Compaction { seq: 11, dirty: false, reopen: None }));
    }

    #[test]
    fn a_superseded_leader_and_one_whose_clock_went_back_step_down() {
        assert_eq!(<Pass>::plan(&drained(true), 8, PgTime(0), Redis::Unreachable), Err(StepDown::Superseded));
        assert_eq!(<Pass>::plan(&drained(true), 7, PgTime(1001), Redis::Unreachable), Err(StepDown::ClockWentBack));
    }
}
