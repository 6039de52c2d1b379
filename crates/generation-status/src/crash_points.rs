//! Crash points of this service; each is reached right after the effect that it is named for.
//!
//! Invariant: every step between two effects that outlive the process has one.

chassis::crash_points! {
    /// A start is committed, nobody knows.
    START_COMMITTED = "status.start",
    /// A cancel is committed.
    CANCEL_COMMITTED = "status.cancel",
    /// Leases are given, no worker has them.
    CLAIM_COMMITTED = "status.claim",
    /// An intent is committed, the worker does not know.
    INTENT_COMMITTED = "status.intent",
    /// A reference is committed.
    REFERENCE_COMMITTED = "status.reference",
    /// A lease ended in a wait.
    SUSPENSION_COMMITTED = "status.suspension",
    /// A provider's webhook is recorded.
    HINT_COMMITTED = "status.hint",
    /// FINALIZING is committed.
    FINALIZING_COMMITTED = "status.finalizing",
    /// A completion and its capture are committed.
    COMPLETION_COMMITTED = "status.completion",
    /// A failure is committed.
    FAILURE_COMMITTED = "status.failure",
    /// A lease was given back.
    RELEASE_COMMITTED = "status.release",
    /// Expired leases are taken back.
    REAP_COMMITTED = "status.reap",
    /// A deadline was enforced.
    DEADLINE_COMMITTED = "status.deadline",
    /// An operator's decision is committed.
    RESOLUTION_COMMITTED = "status.resolution",
    /// The reconciler repaired something.
    RECONCILER_COMMITTED = "status.reconciler",
}
