//! The queue and its history as operators read them, their decisions, and the reconciler's findings.

use domain::id::AccountId;
use jobs::{Depth, PausedQueue, Share};
use time::OffsetDateTime;
use uuid::Uuid;

use super::ProviderCharge;

/// An operator's finding about an unconfirmed submission.
#[derive(Clone, Debug)]
pub(crate) enum Resolution {
    /// The provider has the order under this reference.
    Reference(String),
    /// The generation ends as FAILED, with this finding on the provider's charge.
    Failed(ProviderCharge),
    /// The provider does not have the order: it is ordered again.
    Requeue,
}

/// One line of a job's history.
#[derive(Clone, Debug)]
pub(crate) struct JobEvent {
    /// Rises with every line.
    pub(crate) id: i64,
    pub(crate) time: OffsetDateTime,
    pub(crate) from_state: String,
    pub(crate) to_state: String,
    pub(crate) attempt: i32,
    pub(crate) cause: String,
}

/// The numbers of the queue, all of one moment.
#[derive(Debug)]
pub(crate) struct QueueStats {
    pub(crate) depths: Vec<Depth>,
    pub(crate) shares: Vec<Share>,
    pub(crate) paused: Vec<PausedQueue>,
}

/// A row that breaks an invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) account: AccountId,
    /// The row's id.
    pub(crate) id: Uuid,
}

impl Violation {
    pub(crate) fn new(account: Uuid, id: Uuid) -> Self {
        Self { account: AccountId(account), id }
    }
}

/// The findings of one round of checking in its range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckedRange {
    pub(crate) violations: Vec<Violation>,
    /// The id that the next round's range begins after.
    pub(crate) next: Uuid,
}
