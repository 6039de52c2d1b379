//! What operators do about many generations at once: which are chosen, and what became of each.

use std::time::Duration;

use domain::id::{AccountId, GenerationId};
use time::OffsetDateTime;

use super::{Generation, WaitReason};

/// Which generations; those that meet every condition that is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BulkFilter {
    pub(crate) model: Option<String>,
    /// The provider's name.
    pub(crate) provider: Option<String>,
    pub(crate) account: Option<AccountId>,
    /// The cause of a dead letter, or the wait reason by name.
    pub(crate) reason: Option<String>,
    /// Only what has been so since before.
    pub(crate) before: Option<OffsetDateTime>,
    /// Only what has been so for so long.
    pub(crate) min_age: Option<Duration>,
}

/// What a generation at its provider waits for, of those that operators may settle by the many: never of one that is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stuck {
    Unconfirmed,
    Unavailable,
    OutputDelayed,
}

impl Stuck {
    pub(crate) const ALL: [Self; 3] = [Self::Unconfirmed, Self::Unavailable, Self::OutputDelayed];

    /// The name of the wait reason.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Unconfirmed => "SUBMISSION_UNCONFIRMED",
            Self::Unavailable => "PROVIDER_UNAVAILABLE",
            Self::OutputDelayed => "OUTPUT_DELAYED",
        }
    }

    /// The wait reason.
    pub(crate) const fn wait_reason(self) -> WaitReason {
        match self {
            Self::Unconfirmed => WaitReason::SubmissionUnconfirmed,
            Self::Unavailable => WaitReason::ProviderUnavailable,
            Self::OutputDelayed => WaitReason::OutputDelayed,
        }
    }
}

/// A generation that was chosen, as it was then.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    pub(crate) id: GenerationId,
    pub(crate) account: AccountId,
    pub(crate) model: String,
    /// Empty where it is not known.
    pub(crate) provider: String,
    pub(crate) reason: String,
    pub(crate) since: OffsetDateTime,
    /// Its version.
    pub(crate) version: i64,
}

/// What became of one: the generation as it is now or the one in its place, or why it was left as it is; `None` where that was not
/// asked for.
pub(crate) type BulkOutcome<E> = Option<Result<Generation, E>>;
