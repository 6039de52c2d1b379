//! Crash points of this service; each is reached right after the effect that it is named for.
//!
//! Invariant: every step between two effects that outlive the process has one.

chassis::crash_points! {
    /// The worker has work, and did nothing yet.
    WORK_TAKEN = "worker.taken",
    /// The intent is known to be committed, no byte left.
    INTENT_ANSWERED = "worker.intent",
    /// The provider has the order, nobody else knows.
    ORDER_ANSWERED = "worker.order",
    /// The reference is known to be committed.
    REFERENCE_ANSWERED = "worker.reference",
    /// The provider said how the order is.
    PROVIDER_POLLED = "worker.poll",
    /// The provider was asked to stop.
    CANCEL_SENT = "worker.cancel",
    /// The lease is known to be over.
    SUSPENSION_ANSWERED = "worker.suspension",
    /// FINALIZING is known to be committed.
    FINALIZING_ANSWERED = "worker.finalizing",
    /// The bytes are stored and recorded.
    BYTES_STORED = "worker.bytes",
    /// The completion is known to be committed.
    COMPLETION_ANSWERED = "worker.completion",
    /// A failure is known to be committed.
    FAILURE_ANSWERED = "worker.failure",
}
