//! Values that callers pass in and get back: plain, without SQL.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

/// The priority of an ordinary job. Lower goes first.
pub const NORMAL_PRIORITY: i16 = 100;

/// A job to be enqueued. Build it with [`NewJob::new`] and change what differs.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// The job's id, the same over all attempts: outside systems get it as idempotency key.
    pub id: Uuid,
    /// The account that the job is for, and whose turn it takes.
    pub account: Uuid,
    /// The kind of work.
    pub kind: &'static str,
    /// The queue within the kind, where not every worker can serve all of it; empty where every worker can.
    pub queue: String,
    /// Unique by account and kind: enqueuing the same key twice makes one job.
    pub idempotency_key: String,
    /// A hash of the request, which tells a repetition from another request under the same key.
    pub request_hash: Vec<u8>,
    /// For the worker; opaque to this crate.
    pub payload: Vec<u8>,
    /// Lower goes first.
    pub priority: i16,
    /// The share of its account's turn that the job uses up; 1 for an ordinary job.
    pub cost: f64,
    /// How many attempts may fail.
    pub max_attempts: i32,
    /// The job is not claimed before this much time has passed.
    pub delay: Duration,
    /// The job is not claimed after this much time has passed, but becomes a dead letter; `None`: claimed however late.
    pub deadline: Option<Duration>,
    /// The trace of the request that the job belongs to.
    pub traceparent: Option<String>,
}

impl NewJob {
    /// A job with a fresh id, ordinary priority and cost, five attempts and no delay; its trace is the current one.
    #[must_use]
    pub fn new(account: Uuid, kind: &'static str, idempotency_key: impl Into<String>) -> Self {
        Self {
            id: Uuid::now_v7(),
            account,
            kind,
            queue: String::new(),
            idempotency_key: idempotency_key.into(),
            request_hash: Vec::new(),
            payload: Vec::new(),
            priority: NORMAL_PRIORITY,
            cost: 1.0,
            max_attempts: 5,
            delay: Duration::ZERO,
            deadline: None,
            traceparent: chassis::telemetry::traceparent(),
        }
    }
}

/// What came of enqueuing: the id of the job under the key, and whose request made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enqueued {
    /// This call made the job.
    Created(Uuid),
    /// The same request made the job before; nothing was written.
    Duplicate(Uuid),
    /// Another request made the job under the same key; nothing was written.
    Conflict(Uuid),
}

/// One worker's right to one job: every write of a worker names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The job.
    pub job: Uuid,
    /// The fencing token; rises with each lease of the job.
    pub fence: i64,
}

/// A job that a claim has just leased.
#[derive(Clone, Debug)]
pub struct Leased {
    /// The lease, to be named in every write.
    pub lease: Lease,
    /// The job's account.
    pub account: Uuid,
    /// The job's queue.
    pub queue: String,
    /// What the enqueuer left for the worker.
    pub payload: Vec<u8>,
    /// The number of the attempt, from 1.
    pub attempt: i32,
    /// How many attempts may fail.
    pub max_attempts: i32,
    /// The lease is for a poll: the job was waiting, and its attempt goes on.
    pub poll: bool,
    /// How many polls there were before this one, since the job was last queued.
    pub polls: i32,
    /// When the lease ends, unless prolonged.
    pub lease_until: OffsetDateTime,
    /// How long the job was claimable before it was claimed.
    pub waited: Duration,
    /// Someone asked for the job to be cancelled.
    pub cancel_requested: bool,
    /// The trace of the request that the job belongs to.
    pub traceparent: Option<String>,
}

/// What is known of a job whose lease the caller holds, or held until just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The job's account.
    pub account: Uuid,
    /// Someone asked for the job to be cancelled.
    pub cancel_requested: bool,
}

/// Whether a lease is held still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseStatus {
    /// The lease that was asked about.
    pub lease: Lease,
    /// Its job. `None`: the job has ended or is leased to another; let go at once.
    pub held: Option<Held>,
}

/// Why a lease ends while its attempt goes on elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspension<'a> {
    /// The next poll is due after this long; `None`: when [`crate::poll_now`] or [`crate::request_cancel`] makes it due.
    pub poll_after: Option<Duration>,
    /// The reason in upper snake case, where the history should have one.
    pub cause: Option<&'a str>,
    /// A sentence for operators.
    pub detail: Option<&'a str>,
}

/// Why an attempt failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Whether and how the job is tried again.
    pub retry: Retry,
    /// The reason in upper snake case.
    pub cause: String,
    /// A sentence for operators.
    pub detail: String,
}

/// Whether and how a failed job is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Again, and the attempt counts.
    Counted {
        /// The other side's Retry-After: not before that.
        after: Option<Duration>,
    },
    /// Again, and the attempt does not count: the other side was only busy.
    Uncounted {
        /// The other side's Retry-After: not before that.
        after: Option<Duration>,
    },
    /// Again, as soon as its breaker lets it, and the attempt does not count: nobody takes such work now.
    WhenAvailable,
    /// Never again: the answer would be the same.
    Never,
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDecision {
    /// The job is tried again, no earlier than then.
    Retry(OffsetDateTime),
    /// The job has failed for good, as the failure said.
    Failed,
    /// The job is a dead letter: its attempts are used up.
    Dead,
}

/// What becomes of a job that no worker holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// What the job waits for will not come: it is queued again, and the attempt counts.
    Requeue,
    /// The job has failed.
    Fail,
    /// The job is cancelled, as was asked.
    Cancel,
}
