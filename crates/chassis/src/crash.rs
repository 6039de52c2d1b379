//! Named places at which a process can be made to abort, so that a sweep can kill it between any two effects.
//!
//! Invariant: every step between two effects that outlive the process has a point, and [`POINTS`] lists them all. In a build
//! without debug assertions a point is nothing; in others it costs one load unless the process was armed at its start.

/// Where a process can be made to abort; each is reached right after the effect that it is named for.
pub const POINTS: &[&str] = &[
    START_COMMITTED,
    CANCEL_COMMITTED,
    CLAIM_COMMITTED,
    INTENT_COMMITTED,
    REFERENCE_COMMITTED,
    SUSPENSION_COMMITTED,
    HINT_COMMITTED,
    FINALIZING_COMMITTED,
    COMPLETION_COMMITTED,
    FAILURE_COMMITTED,
    RELEASE_COMMITTED,
    REAP_COMMITTED,
    DEADLINE_COMMITTED,
    RESOLUTION_COMMITTED,
    RECONCILER_COMMITTED,
    WORK_TAKEN,
    INTENT_ANSWERED,
    ORDER_ANSWERED,
    REFERENCE_ANSWERED,
    PROVIDER_POLLED,
    CANCEL_SENT,
    SUSPENSION_ANSWERED,
    FINALIZING_ANSWERED,
    BYTES_STORED,
    COMPLETION_ANSWERED,
    FAILURE_ANSWERED,
];

/// generation-status: a start is committed, nobody knows.
pub const START_COMMITTED: &str = "status.start";
/// generation-status: a cancel is committed.
pub const CANCEL_COMMITTED: &str = "status.cancel";
/// generation-status: leases are given, no worker has them.
pub const CLAIM_COMMITTED: &str = "status.claim";
/// generation-status: an intent is committed, the worker does not know.
pub const INTENT_COMMITTED: &str = "status.intent";
/// generation-status: a reference is committed.
pub const REFERENCE_COMMITTED: &str = "status.reference";
/// generation-status: a lease ended in a wait.
pub const SUSPENSION_COMMITTED: &str = "status.suspension";
/// generation-status: a provider's webhook is taken note of.
pub const HINT_COMMITTED: &str = "status.hint";
/// generation-status: FINALIZING is committed.
pub const FINALIZING_COMMITTED: &str = "status.finalizing";
/// generation-status: a completion and its capture are committed.
pub const COMPLETION_COMMITTED: &str = "status.completion";
/// generation-status: a failure is committed.
pub const FAILURE_COMMITTED: &str = "status.failure";
/// generation-status: a lease was given back.
pub const RELEASE_COMMITTED: &str = "status.release";
/// generation-status: a sweep is committed.
pub const REAP_COMMITTED: &str = "status.reap";
/// generation-status: a deadline was enforced.
pub const DEADLINE_COMMITTED: &str = "status.deadline";
/// generation-status: an operator's decision is committed.
pub const RESOLUTION_COMMITTED: &str = "status.resolution";
/// generation-status: the reconciler repaired something.
pub const RECONCILER_COMMITTED: &str = "status.reconciler";
/// generation-worker: it has work, and did nothing yet.
pub const WORK_TAKEN: &str = "worker.taken";
/// generation-worker: the intent is known to be committed, no byte left.
pub const INTENT_ANSWERED: &str = "worker.intent";
/// generation-worker: the provider has the order, nobody else knows.
pub const ORDER_ANSWERED: &str = "worker.order";
/// generation-worker: the reference is known to be committed.
pub const REFERENCE_ANSWERED: &str = "worker.reference";
/// generation-worker: the provider told how the order stands.
pub const PROVIDER_POLLED: &str = "worker.poll";
/// generation-worker: the provider was asked to stop.
pub const CANCEL_SENT: &str = "worker.cancel";
/// generation-worker: the lease is known to be over.
pub const SUSPENSION_ANSWERED: &str = "worker.suspension";
/// generation-worker: FINALIZING is known to be committed.
pub const FINALIZING_ANSWERED: &str = "worker.finalizing";
/// generation-worker: the bytes are stored and taken note of.
pub const BYTES_STORED: &str = "worker.bytes";
/// generation-worker: the completion is known to be committed.
pub const COMPLETION_ANSWERED: &str = "worker.completion";
/// generation-worker: a failure is known to be committed.
pub const FAILURE_ANSWERED: &str = "worker.failure";

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static ARMED: OnceLock<(String, AtomicU32)> = OnceLock::new();

    pub(super) fn arm(point: &str, pass: u32) {
        let _ = ARMED.set((point.to_owned(), AtomicU32::new(pass)));
    }

    pub(super) fn reached(point: &str) -> bool {
        let Some((armed, passes)) = ARMED.get() else { return false };
        armed == point && passes.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

/// Aborts the process at the point that `RUSHES_CRASH_AT` names, as `worker.order`, or at its n-th pass, as `worker.order#3`.
/// Called once, by `main`; without debug assertions the setting is refused.
///
/// # Errors
/// When the setting names no point, or this build has none.
pub fn arm(source: &crate::settings::Source) -> Result<(), crate::settings::Error> {
    let should = "one of the crash points of a debug build, such as worker.order or worker.order#3";
    let Some(at) = source.optional::<String>("RUSHES_CRASH_AT", should)? else { return Ok(()) };
    let (name, pass) = at.split_once('#').unwrap_or((&at, "1"));
    match pass.parse() {
        Ok(pass @ 1..) if cfg!(debug_assertions) && POINTS.contains(&name) => {
            #[cfg(debug_assertions)]
            armed::arm(name, pass);
            #[cfg(not(debug_assertions))]
            let _: u32 = pass;
            Ok(())
        }
        _ => Err(crate::settings::Error::wrong("RUSHES_CRASH_AT", should)),
    }
}

/// A place at which the process can be made to abort.
#[inline]
pub fn point(name: &'static str) {
    #[cfg(debug_assertions)]
    if armed::reached(name) {
        eprintln!("aborting at {name}, as RUSHES_CRASH_AT says");
        std::process::abort();
    }
    #[cfg(not(debug_assertions))]
    let _ = name;
}
