//! The term of a relay's leader, and where its pass is.

use coherence::relay::Pass;
use coherence::time::PgTime;

use crate::events::Session;
use crate::postgres::Outbox;
use crate::removable::Removable;
use crate::time::Time;

/// A leader's term, or the attempt to begin one.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    pub(crate) epoch: i64,
    /// When the last drain was; [`PgTime::PAST`] until the lease is granted.
    pub(crate) last_drain: PgTime,
    pub(crate) renewed: Time,
    pub(crate) step: TermStep,
}

impl Term {
    /// Whether the lease was granted and no pass runs.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.step, TermStep::Idle) && self.last_drain != PgTime::PAST
    }
}

/// What a leader waits for.
#[derive(Clone, Debug)]
pub(crate) enum TermStep {
    Idle,
    Drain,
    Apply(RunningPass),
    Prove(RunningPass),
    /// Everything was published; the compaction comes next.
    Published(RunningPass),
    Compact(RunningPass),
    Renew,
}

/// A pass that runs.
#[derive(Clone, Debug)]
pub(crate) struct RunningPass {
    pub(crate) pass: Pass<Removable>,
    pub(crate) outbox: Outbox,
    pub(crate) session: Option<Session>,
    pub(crate) complete: bool,
    pub(crate) applied: bool,
    /// Without the guard `CompactLast` the rest of the pass is done after the compaction.
    pub(crate) compacted: bool,
}
