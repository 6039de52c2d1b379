//! The states of a job and the causes that this crate writes into its history: one place for the words that SQL spells out.
//!
//! Statements spell states as literals, since a partial index serves only a condition that the planner can read; a test holds
//! every such literal, and the table's own check, to [`State`].

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Claimable, or delayed until its time comes.
    Queued,
    /// With a worker.
    Leased,
    /// Suspended: its attempt goes on elsewhere, and the next poll is in `run_at`.
    Waiting,
    /// Ended well.
    Done,
    /// Ended badly, as its worker or an operator said.
    Failed,
    /// Ended on request.
    Cancelled,
    /// A dead letter: given up, until an operator requeues or closes it.
    Dead,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 7] =
        [Self::Queued, Self::Leased, Self::Waiting, Self::Done, Self::Failed, Self::Cancelled, Self::Dead];

    /// The state as the column `state` has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Leased => "leased",
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Dead => "dead",
        }
    }

    /// Whether the job has ended; the column `finished_at` is set exactly then.
    #[must_use]
    pub const fn is_finished(self) -> bool {
        match self {
            Self::Queued | Self::Leased | Self::Waiting => false,
            Self::Done | Self::Failed | Self::Cancelled | Self::Dead => true,
        }
    }
}

impl TryFrom<String> for State {
    type Error = UnknownState;

    fn try_from(name: String) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|state| state.as_str() == name).ok_or(UnknownState(name))
    }
}

/// A word in the column `state` that names no state.
#[derive(Debug, thiserror::Error)]
#[error("no state of a job is called {0:?}")]
pub struct UnknownState(String);

/// Why a job moved, where this crate says so; callers have causes of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The worker's lease ran out.
    LeaseExpired,
    /// As many attempts failed as may.
    AttemptsExhausted,
    /// No worker claimed the job by its deadline.
    StartDeadline,
    /// The worker gave the job back unused.
    Released,
    /// Someone asked for the job to be cancelled.
    Cancelled,
    /// An operator began again: this job, or another in its place.
    Requeued,
}

impl Cause {
    /// The cause in upper snake case, as the column `cause` has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LeaseExpired => "LEASE_EXPIRED",
            Self::AttemptsExhausted => "ATTEMPTS_EXHAUSTED",
            Self::StartDeadline => "START_DEADLINE",
            Self::Released => "RELEASED",
            Self::Cancelled => "CANCELLED",
            Self::Requeued => "REQUEUED",
        }
    }
}
