//! Durable work in PostgreSQL: a job is enqueued in the caller's transaction, leased to one worker at a time, and ends once.
//!
//! Every function takes the caller's connection, so that a job changes in the same transaction as what it is about.
//! PostgreSQL's clock is the only one. Invariant: each lease raises the job's fence, and every write of a worker names its
//! fence, so that a worker that lost its lease changes nothing, however late it wakes. NATS only shortens waiting.

mod breakers;
mod claim;
mod control;
mod delay;
mod error;
mod job;
mod keys;
mod lease;
mod limits;
pub mod metrics;
mod notifier;
mod queue;
mod reaper;
mod retention;
mod rules;
mod servers;
mod state;
mod transitions;

pub use breakers::{
    Breaker, MAX_FAILURES_IN_ROW, Scope, Symptom, UnknownScope, open_breakers, pass_probe, recover, reset_breakers,
    trip,
};
pub use claim::{ClaimRequest, any_due, claim, explain_claim};
pub use control::{
    DeadLetter, LetterFilter, PausedQueue, Share, close_dead_letter, dead_letters, pause, paused_queues, resume,
    set_weight, shares,
};
pub use error::Error;
pub use job::{
    Enqueued, Failure, Held, Lease, LeaseStatus, Leased, NORMAL_PRIORITY, NewJob, Resolution, Retry, RetryDecision,
    Suspension,
};
pub use keys::{choose_keys, leave_keys, mark_keys, recover_key, throttle_key, trip_key};
pub use lease::{begin_elsewhere, cancel, complete, fail, heartbeat, lock_lease, lock_leases, release, suspend};
pub use limits::{BlockReason, Limits, QueueStatus, assign_pool, queue_status, set_running_limit, throttle_pool};
pub use notifier::{Listener, Notifier, POLL_INTERVAL};
pub use queue::{
    Depth, append_event, await_elsewhere, cancel_queued, depths, enqueue, observe, poll_now, request_cancel, requeue,
    resolve,
};
pub use reaper::{DeadLettered, Reaped, reap};
pub use retention::{Retained, delete_ended, erase, erase_turns};
pub use rules::MAX_EXPIRED_IN_ROW;
pub use servers::mark_served;
pub use state::{Cause, State};
