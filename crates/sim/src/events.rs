//! What happens in the simulation: its events, the calls to Redis and the queries to PostgreSQL with their answers, and whose they
//! are.

use coherence::asof::Asof;
use coherence::entry::Entry;
use coherence::read::{Answer, L2, Loaded, Tier};
use coherence::relay::{Compaction, Drained};
use coherence::time::PgTime;
use coherence::window::Notice;

use crate::body::Body;
use crate::checker::CheckedRead;
use crate::fault_profile::Fault;
use crate::postgres::Outbox;
use crate::redis::{Millis, Proof};
use crate::time::Time;

/// A connection, bound to one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) server: usize,
    pub(crate) generation: u32,
    pub(crate) run: u32,
}

/// A call to Redis.
#[derive(Clone, Debug)]
pub(crate) enum RedisCall {
    Get {
        key: usize,
        token: u64,
    },
    /// The second half of a GET in two steps.
    GetUnder {
        proof: Proof,
        key: usize,
        token: u64,
    },
    Fill {
        key: usize,
        token: u64,
        version: i64,
        body: Body,
        lifetime: Millis,
    },
    Apply {
        space: Option<i64>,
        changes: Vec<(usize, Option<i64>)>,
    },
    Prove {
        proof: Proof,
    },
}

/// What Redis answers.
#[derive(Clone, Debug)]
pub(crate) enum RedisReply {
    L2(L2<Body>),
    Done,
}

/// A query to PostgreSQL.
#[derive(Clone, Debug)]
pub(crate) enum Query {
    Load {
        key: usize,
    },
    Version {
        key: usize,
    },
    Clock,
    TakeLease {
        epoch: i64,
        owner: usize,
    },
    RenewLease {
        epoch: i64,
        owner: usize,
    },
    /// The drain's transaction begins.
    Begin,
    /// Its snapshot.
    Drain {
        began: PgTime,
    },
    Compact {
        epoch: i64,
        owner: usize,
        compaction: Compaction,
        space: i64,
        ids: Vec<i64>,
    },
}

/// What PostgreSQL answers.
#[derive(Clone, Debug)]
pub(crate) enum Rows {
    Loaded(Loaded<Body>),
    Version(i64, Asof),
    Clock(PgTime),
    /// Whether the caller leads the relay.
    Leads(bool),
    Drained(Drained, Outbox),
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Caller {
    Load(usize),
    /// The relay of a process, in one of its incarnations.
    Relay(usize, u32),
    Sampler(usize, Time),
    Token(usize, usize),
    /// Nobody: the answer does not matter.
    Nobody(usize),
}

/// The result of a load; nothing when it failed.
pub(crate) type Outcome = Option<Answer<Body>>;

/// What a reader is to the load whose outcome it waits for.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    /// It started the load.
    Starter,
    /// It joined the load; `joins` is how many it had joined before.
    Joiner { joins: u8, unproven: Option<Entry<Body>> },
}

/// One event.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Read(usize),
    ReadL1(CheckedRead),
    Write(usize),
    Committed {
        process: usize,
        keys: Vec<(usize, Option<i64>, usize)>,
    },
    Spread {
        process: usize,
        key: usize,
        version: Option<i64>,
    },
    /// A service reads for a gateway's reader, which requires a version.
    ReadElsewhere {
        process: usize,
        read: Box<CheckedRead>,
        min_version: i64,
    },
    /// Its answer comes to the gateway.
    PassedOn {
        read: CheckedRead,
        entry: Entry<Body>,
        tier: Tier,
    },
    /// The token of a write comes through the gateway.
    WrittenThrough {
        process: usize,
        key: usize,
        version: i64,
        place: usize,
    },
    /// A process is asked for its bounds of PostgreSQL's clock.
    ClockAsked {
        process: usize,
        asked: Time,
    },
    /// The bounds come back, with the time at which the reading behind them was asked for.
    ClockAnswered {
        process: usize,
        asked: Time,
        bounds: (PgTime, PgTime),
        sampled: Time,
    },
    LoadStarted(usize),
    AskRedisAgain(usize),
    Answered {
        load: usize,
        answer: Answer<Body>,
    },
    LoadFinished {
        read: CheckedRead,
        outcome: Outcome,
        role: Role,
    },
    RedisCalled {
        session: Session,
        call: RedisCall,
        caller: Caller,
        reply_in: Option<Time>,
    },
    RedisReplied {
        caller: Caller,
        reply: Option<RedisReply>,
        session: Session,
    },
    PostgresQueried {
        query: Query,
        caller: Caller,
        reply_in: Time,
        lost: bool,
    },
    PostgresReplied {
        caller: Caller,
        rows: Option<Rows>,
    },
    Receive {
        process: usize,
        notice: Notice,
        changes: Vec<(usize, i64)>,
        direct: bool,
    },
    ApplyLate {
        process: usize,
        changes: Vec<(usize, i64)>,
    },
    Hint {
        process: usize,
        key: usize,
        version: Option<i64>,
    },
    Relay(usize),
    Compact(usize),
    Sample(usize),
    Replicate,
    Fault(Fault),
}
