//! What operators read and decide.

use jobs::{Depth, PausedQueue, Share};
use time::OffsetDateTime;

use super::ProviderCharge;

/// What an operator found out about an unconfirmed submission.
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
