//! What callers say of jobs and hear about them: plain values without SQL.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

/// The ordinary priority.
pub const NORMAL: i16 = 100;

/// A job to be enqueued. Build it with [`NewJob::new`] and change what differs.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// The job's id, the same over all attempts: what an outside system gets as idempotency key.
    pub id: Uuid,
    /// Whose turn it takes.
    pub account: Uuid,
    /// What sort of work it is.
    pub kind: &'static str,
    /// The part of the kind that not every worker can serve; empty where all can.
    pub queue: String,
    /// With account and kind it names the job: enqueuing it twice makes one job.
    pub idem_key: String,
    /// A hash of what was asked for, which tells a repetition from another request under the same key.
    pub request_hash: Vec<u8>,
    /// For the worker; opaque here.
    pub payload: Vec<u8>,
    /// Lower goes first.
    pub priority: i16,
    /// How much of its account's turn it uses up; 1 for an ordinary job.
    pub cost: f64,
    /// How many attempts may fail.
    pub max_attempts: i32,
    /// Not before this long.
    pub delay: Duration,
    /// Not begun later than this after now; `None`: however late.
    pub deadline: Option<Duration>,
    /// The trace of the request that asked for it.
    pub traceparent: Option<String>,
}

impl NewJob {
    /// A job with a fresh id, ordinary priority and cost, five attempts and no delay; its trace is the current one.
    #[must_use]
    pub fn new(account: Uuid, kind: &'static str, idem_key: impl Into<String>) -> Self {
        Self {
            id: Uuid::now_v7(),
            account,
            kind,
            queue: String::new(),
            idem_key: idem_key.into(),
            request_hash: Vec::new(),
            payload: Vec::new(),
            priority: NORMAL,
            cost: 1.0,
            max_attempts: 5,
            delay: Duration::ZERO,
            deadline: None,
            traceparent: chassis::telemetry::traceparent(),
        }
    }
}

/// What came of enqueuing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enqueued {
    /// The job is new.
    New(Uuid),
    /// The same request made this job before; nothing was written.
    Same(Uuid),
    /// Another request made this job under the same key; nothing was written.
    Other(Uuid),
}

/// One worker's right to one job: the job and the fence of its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lease {
    /// The job.
    pub job: Uuid,
    /// Rises with each lease of the job.
    pub fence: i64,
}

/// A job that was just leased.
#[derive(Clone, Debug)]
pub struct Leased {
    /// To be named in every write.
    pub lease: Lease,
    /// Whose it is.
    pub account: Uuid,
    /// Its part of the kind.
    pub queue: String,
    /// What the enqueuer left for the worker.
    pub payload: Vec<u8>,
    /// Which attempt this is, from 1.
    pub attempt: i32,
    /// How many attempts may fail.
    pub max_attempts: i32,
    /// It was waiting, and this is the time to poll how it stands; the attempt goes on.
    pub poll: bool,
    /// How many polls there were before, since it was last queued.
    pub polls: i32,
    /// The lease ends then, unless prolonged.
    pub lease_until: OffsetDateTime,
    /// How long it stood ready before it was claimed.
    pub waited: Duration,
    /// Someone asked for it to be stopped.
    pub cancel_requested: bool,
    /// The trace of the request that asked for it.
    pub traceparent: Option<String>,
}

/// What is known of a job whose lease the caller holds, or held until just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Whose job it is.
    pub account: Uuid,
    /// Someone asked for it to be stopped.
    pub cancel_requested: bool,
}

/// What was found of one lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The lease asked about.
    pub lease: Lease,
    /// Its job. Nothing: another has the job, or it ended; let go at once.
    pub held: Option<Held>,
}

/// Why a lease is let go of while the attempt goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause<'a> {
    /// The next poll is due after this long; `None`: when [`crate::hint`] or [`crate::ask_to_stop`] says so.
    pub poll_after: Option<Duration>,
    /// The reason in upper snake case, where there is one to be told.
    pub cause: Option<&'a str>,
    /// A sentence for operators.
    pub detail: Option<&'a str>,
}

/// Why an attempt failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Whether and how it is tried again.
    pub retry: Retry,
    /// The reason in upper snake case.
    pub cause: String,
    /// A sentence for operators.
    pub detail: String,
}

/// Whether and how a failed job is tried again. The pause before attempt `n + 1` is random between nothing and
/// `min(5 min, 1 s * 2^(n - 1))`, so that jobs that failed together do not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Again, and the attempt counts. Not before `after`, where the other side named a time.
    Counted {
        /// The other side's Retry-After.
        after: Option<Duration>,
    },
    /// Again, and the attempt does not count: the other side was only busy.
    Uncounted {
        /// The other side's Retry-After.
        after: Option<Duration>,
    },
    /// Never again: the answer would be the same.
    Never,
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDecision {
    /// Tried again no earlier than then.
    Retry(OffsetDateTime),
    /// Over, as the failure said.
    Failed,
    /// Over, since the attempts are used up: a dead letter.
    Dead,
}
