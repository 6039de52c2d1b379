//! Durable work in PostgreSQL: a job is enqueued in the caller's transaction, leased to one worker at a time, and ends once.
//!
//! Every function takes the caller's connection, so that a job changes in the same transaction as what it is about. The
//! only clock is PostgreSQL's. The invariant: each lease raises the job's fence, and every write of a worker names its
//! fence, so that a worker that lost its lease changes nothing, however late it wakes. NATS only shortens waiting.

mod claim;
mod control;
mod delayed;
mod error;
mod job;
mod lease;
mod limits;
mod queue;
mod reaper;
mod wake;

pub use claim::{Wanted, claim, explain_claim};
pub use control::{
    DeadLetter, Paused, Share, close_dead_letter, dead_letters, pause, paused, resume, set_weight, shares,
};
pub use error::Error;
pub use job::{Enqueued, Failure, Held, Lease, Leased, NORMAL, NewJob, Pause, Retry, RetryDecision, Status};
pub use lease::{cancelled, complete, fail, heartbeat, lock_lease, lock_leases, release, suspend};
pub use limits::{BlockReason, Limits, QueueStatus, queue_status, served_by, set_running_limit, throttled};
pub use queue::{Decision, Depth, ask_to_stop, decide, depths, enqueue, hint, note, observe, requeue, withdraw};
pub use reaper::{DeadLettered, LEASES_IN_ROW, Reaped, reap};
pub use wake::{Listener, Notifier, POLL_INTERVAL};
