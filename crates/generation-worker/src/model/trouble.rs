//! What comes of a call to a provider, other than what was asked for: one closed set that adapters translate into, and that
//! `outcomes` decides by.

use std::time::Duration;

use super::evidence::{Charge, Evidence};

/// What a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The files of an input are put where the provider finds them, before anything is ordered.
    Upload,
    /// An order is sent for the first time.
    Submit,
    /// An order that may have been taken is sent again, under a key that costs once.
    Repeat,
    /// The provider is asked how an order is.
    Poll,
    /// A finished order's file is fetched.
    Fetch,
    /// The file is stored on our side.
    Store,
    /// The provider is asked to stop an order.
    Cancel,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// No connection came about: no byte left.
    NotSent,
    /// The connection broke or the time ran out after bytes had left.
    Lost,
    /// The key or the account is refused: 401, 402, 403.
    AccountRefused,
    /// There are too many calls or orders: 429.
    Throttled,
    /// The model, or a field that no user filled, is refused: what is wrong is the catalogue's.
    ModelRefused,
    /// The user's input is refused: 400, 413, 415, 422.
    InputRefused,
    /// The provider's safety rules refuse it.
    SafetyRefused,
    /// The provider does not know the order: 404, 410.
    NotFound,
    /// The provider is out of order: 408, 425, 500 and above.
    Unavailable,
    /// An answer that its documentation does not have: a redirect, a page, an empty object.
    Unreadable,
    /// The order failed, and this is what is known of its charge.
    Failed(Charge),
    /// The order took the provider too long, and this is what is known of its charge.
    TimedOut(Charge),
    /// The order was stopped, and this is what is known of its charge.
    Stopped(Charge),
    /// The order is made, and no output is named where it should be.
    OutputMissing,
    /// The order is over and did not fail by its status, and its result is an error: either of the order, or of what is on the way to it.
    ResultUnavailable,
    /// The file is refused, or lies where nothing is fetched from: 401, 403, 404, 410, an address that is not public. Of an input:
    /// the provider takes it in none of the forms in which it may be given.
    FileRefused,
    /// The file's server is out of order or busy.
    FileUnavailable,
    /// The file comes too slowly.
    FileSlow,
    /// The file ended before its end, or lacks what a player needs.
    FileCut,
    /// The file is larger than is stored.
    FileTooLarge,
    /// The file is no video.
    FileUnusable,
    /// Our own storage, or the service that registers what it holds, does not answer.
    StorageUnavailable,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 7] =
        [Self::Upload, Self::Submit, Self::Repeat, Self::Poll, Self::Fetch, Self::Store, Self::Cancel];

    /// For logs, metrics and the documentation.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Submit => "submit",
            Self::Repeat => "repeat",
            Self::Poll => "poll",
            Self::Fetch => "fetch",
            Self::Store => "store",
            Self::Cancel => "cancel",
        }
    }
}

impl CallOutcome {
    /// Every outcome.
    pub const ALL: [Self; 28] = [
        Self::NotSent,
        Self::Lost,
        Self::AccountRefused,
        Self::Throttled,
        Self::ModelRefused,
        Self::InputRefused,
        Self::SafetyRefused,
        Self::NotFound,
        Self::Unavailable,
        Self::Unreadable,
        Self::Failed(Charge::NotCharged),
        Self::Failed(Charge::Charged),
        Self::Failed(Charge::Unknown),
        Self::TimedOut(Charge::NotCharged),
        Self::TimedOut(Charge::Charged),
        Self::TimedOut(Charge::Unknown),
        Self::Stopped(Charge::NotCharged),
        Self::Stopped(Charge::Charged),
        Self::Stopped(Charge::Unknown),
        Self::OutputMissing,
        Self::ResultUnavailable,
        Self::FileRefused,
        Self::FileUnavailable,
        Self::FileSlow,
        Self::FileCut,
        Self::FileTooLarge,
        Self::FileUnusable,
        Self::StorageUnavailable,
    ];

    /// For logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::Lost => "lost",
            Self::AccountRefused => "account_refused",
            Self::Throttled => "throttled",
            Self::ModelRefused => "model_refused",
            Self::InputRefused => "input_refused",
            Self::SafetyRefused => "safety_refused",
            Self::NotFound => "not_found",
            Self::Unavailable => "unavailable",
            Self::Unreadable => "unreadable",
            Self::Failed(_) => "failed",
            Self::TimedOut(_) => "timed_out",
            Self::Stopped(_) => "stopped",
            Self::OutputMissing => "output_missing",
            Self::ResultUnavailable => "result_unavailable",
            Self::FileRefused => "file_refused",
            Self::FileUnavailable => "file_unavailable",
            Self::FileSlow => "file_slow",
            Self::FileCut => "file_cut",
            Self::FileTooLarge => "file_too_large",
            Self::FileUnusable => "file_unusable",
            Self::StorageUnavailable => "storage_unavailable",
        }
    }
}

impl CallOutcome {
    /// Whether it is news of an order that the provider has.
    pub(crate) const fn shows_order(self) -> bool {
        matches!(
            self,
            Self::Failed(_)
                | Self::TimedOut(_)
                | Self::Stopped(_)
                | Self::OutputMissing
                | Self::ResultUnavailable
                | Self::SafetyRefused
                | Self::InputRefused
                | Self::ModelRefused
        )
    }
}

/// What came of a call, with what operators see of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", outcome.as_str())]
pub struct Trouble {
    /// What decides what follows.
    pub outcome: CallOutcome,
    /// A sentence for operators.
    pub detail: String,
    /// Not to be called again before this long, as the provider asks.
    pub retry_after: Option<Duration>,
    /// The HTTP status and what the provider said.
    pub evidence: Evidence,
}

impl Trouble {
    /// What came of a call, and a sentence about it for operators.
    #[must_use]
    pub fn new(outcome: CallOutcome, detail: impl Into<String>) -> Self {
        Self { outcome, detail: detail.into(), retry_after: None, evidence: Evidence::default() }
    }

    /// The same with what operators see of it.
    #[must_use]
    pub fn with_evidence(self, evidence: Evidence) -> Self {
        Self { evidence, ..self }
    }
}
