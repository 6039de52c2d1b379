//! The states of a generation and the changes between them: one table, which the code asks, the database write repeats in
//! its `where`, and the documentation shows. Terminal states never change.

/// The kind of the jobs that end the generations of a deleted project or scene. The payload is the name of what was deleted, in
/// UTF-8. `dashboard` enqueues one in the transaction of the deletion, `generation-status` carries it out.
pub const DELETION_JOBS: &str = "delete-generations";

/// The state of a generation. The numbers are those of `rushes.generations.v1.State` and of the column `state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum State {
    /// Accepted, its price held, waiting for a worker.
    Queued = 1,
    /// Being handed to the provider.
    Submitting = 2,
    /// The provider is at work.
    Processing = 3,
    /// The provider is done; the bytes are being brought home.
    Finalizing = 4,
    /// To be stopped, waiting for the provider's word.
    Cancelling = 5,
    /// In our storage, charged.
    Completed = 6,
    /// Could not be had; not charged.
    Failed = 7,
    /// Stopped on request; not charged.
    Cancelled = 8,
    /// Not started by its start deadline; not charged.
    Expired = 9,
}

impl State {
    /// Every state, by number.
    pub const ALL: [Self; 9] = [
        Self::Queued,
        Self::Submitting,
        Self::Processing,
        Self::Finalizing,
        Self::Cancelling,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The state's number.
    #[must_use]
    pub const fn number(self) -> i16 {
        self as i16
    }

    /// The state with this number, if there is one.
    #[must_use]
    pub fn from_number(number: i16) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.number() == number)
    }

    /// The state's name, as in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Submitting => "SUBMITTING",
            Self::Processing => "PROCESSING",
            Self::Finalizing => "FINALIZING",
            Self::Cancelling => "CANCELLING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Cancelled => "CANCELLED",
            Self::Expired => "EXPIRED",
        }
    }

    /// Whether nothing can follow.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        self.next().is_empty()
    }

    /// The states that may follow this one. A state that may be reported again, as with progress, names itself.
    #[must_use]
    pub const fn next(self) -> &'static [Self] {
        match self {
            Self::Queued => &[Self::Submitting, Self::Cancelled, Self::Expired, Self::Failed],
            // Back to the queue only when nothing was ordered; to itself when a takeover submits with the same key.
            Self::Submitting => &[Self::Submitting, Self::Queued, Self::Processing, Self::Cancelling, Self::Failed],
            // Back to the queue when the attempt failed and there will be another.
            Self::Processing => &[Self::Processing, Self::Queued, Self::Finalizing, Self::Cancelling, Self::Failed],
            Self::Finalizing => &[Self::Finalizing, Self::Queued, Self::Completed, Self::Failed],
            // Finished work wins over a cancel.
            Self::Cancelling => &[Self::Cancelling, Self::Finalizing, Self::Cancelled, Self::Failed],
            Self::Completed | Self::Failed | Self::Cancelled | Self::Expired => &[],
        }
    }

    /// Whether `next` may follow.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        self.next().contains(&next)
    }

    /// The numbers of all states that `self` may follow, for the `where` of a write.
    #[must_use]
    pub fn predecessors(self) -> Vec<i16> {
        Self::ALL.into_iter().filter(|from| from.may_become(self)).map(Self::number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::State;

    #[test]
    fn terminal_states_never_change() {
        let terminal: Vec<_> = State::ALL.into_iter().filter(|s| s.is_terminal()).collect();
        assert_eq!(terminal, [State::Completed, State::Failed, State::Cancelled, State::Expired]);
        for from in terminal {
            for to in State::ALL {
                assert!(!from.may_become(to));
            }
        }
    }

    #[test]
    fn every_state_is_reached_and_left() {
        for state in State::ALL {
            assert!(state == State::Queued || !state.predecessors().is_empty(), "{state:?} is never reached");
            assert_eq!(State::from_number(state.number()), Some(state));
        }
        assert_eq!(State::from_number(0), None);
        assert_eq!(State::from_number(10), None);
    }

    #[test]
    fn finished_work_wins_over_a_cancel() {
        assert!(State::Cancelling.may_become(State::Finalizing));
        assert!(!State::Finalizing.may_become(State::Cancelling));
        assert_eq!(State::Completed.predecessors(), [State::Finalizing.number()]);
    }

    #[test]
    fn the_documentation_shows_the_same_table() {
        let page = include_str!("../../../docs/architecture.md");
        for state in State::ALL.into_iter().filter(|s| !s.is_terminal()) {
            let next: Vec<_> = state.next().iter().map(|s| format!("`{}`", s.as_str())).collect();
            let row = format!("| `{}` | {} |", state.as_str(), next.join(", "));
            assert!(page.contains(&row), "docs/architecture.md lacks {row}");
        }
    }
}
