//! The simulated world: true time, the events to come, the servers, the processes, and the wires between them.
//!
//! Invariant: everything that happens is drawn from one seed, in one order, so that a seed is a history.

use coherence::entry::Asof;
use coherence::read::{L2, Loaded};
use coherence::relay::{Drained, Fold};
use coherence::time::PgTime;
use coherence::window::Notice;
use fastrand::Rng;

use crate::agenda::Agenda;
use crate::check::{Checker, Reading};
use crate::faults::{Fault, Weather};
use crate::flights::{Flying, Outcome, Tell};
use crate::postgres::{Kind, MS, Outbox, Postgres, SECOND, Time};
use crate::process::Process;
use crate::redis::{Millis, Proof, Redis};

/// What a value is: its content, when it was loaded, and how long it may be shown after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Body {
    pub(crate) content: u64,
    pub(crate) born: Time,
    pub(crate) life: Time,
}

/// How long Redis makes a caller wait at most.
pub(crate) const PATIENCE: Time = 50 * MS;

/// One Redis server and the connections that still lead to it.
pub(crate) struct Server {
    pub(crate) memory: Redis<Body>,
    /// The `run_id`.
    pub(crate) run: u32,
    /// Raised when all its connections break.
    pub(crate) generation: u32,
}

/// A connection, bound to one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) server: usize,
    pub(crate) generation: u32,
    pub(crate) run: u32,
}

/// What is asked of Redis.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
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
        live: Millis,
    },
    Apply {
        space: Option<i64>,
        changes: Vec<(usize, Option<i64>)>,
    },
    Fresh {
        proof: Proof,
    },
}

/// What Redis answers.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    L2(L2<Body>),
    Done,
}

/// What is asked of PostgreSQL.
#[derive(Clone, Debug)]
pub(crate) enum Query {
    Load {
        key: usize,
    },
    Version {
        key: usize,
    },
    Clock,
    Take {
        epoch: i64,
        owner: usize,
    },
    Renew {
        epoch: i64,
        owner: usize,
    },
    /// The transaction begins.
    Begin,
    /// Its snapshot.
    Drain {
        began: PgTime,
    },
    Fold {
        epoch: i64,
        owner: usize,
        fold: Fold,
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
    Mine(bool),
    Drained(Drained, Outbox),
}

/// Who waits for an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Caller {
    Flight(usize),
    /// The relay of a process, in one of its lives.
    Relay(usize, u32),
    Sampler(usize, Time),
    Token(usize, usize),
    /// Nobody: the answer is of no matter.
    Nobody(usize),
}

impl Caller {
    pub(crate) fn process(self, flights: &[Flying]) -> usize {
        match self {
            Self::Flight(flight) => flights[flight].process,
            Self::Relay(p, _) | Self::Sampler(p, _) | Self::Token(p, _) | Self::Nobody(p) => p,
        }
    }
}

/// One event.
#[derive(Clone, Debug)]
pub(crate) enum What {
    Read(usize),
    Look(Reading),
    Write(usize),
    Committed { process: usize, keys: Vec<(usize, Option<i64>, usize)> },
    Spread { process: usize, key: usize, version: Option<i64> },
    FlightLook(usize),
    FlightAgain(usize),
    Answered { flight: usize, answer: coherence::read::Answer<Body> },
    Landed { reading: Reading, outcome: Outcome, tell: Tell },
    AskRedis { session: Session, ask: Ask, caller: Caller, reply_in: Option<Time> },
    RedisTold { caller: Caller, told: Option<Told>, session: Session },
    AskPostgres { query: Query, caller: Caller, reply_in: Time, lost: bool },
    PostgresTold { caller: Caller, rows: Option<Rows> },
    Hear { process: usize, notice: Notice, changes: Vec<(usize, i64)>, direct: bool },
    HearLate { process: usize, changes: Vec<(usize, i64)> },
    Hint { process: usize, key: usize, version: Option<i64> },
    Relay(usize),
    Sample(usize),
    Replicate,
    Fold(usize),
    Fault(Fault),
}

/// All of it.
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) rng: Rng,
    pub(crate) weather: Weather,
    pub(crate) postgres: Postgres,
    pub(crate) servers: Vec<Server>,
    /// Where new connections lead.
    pub(crate) current: usize,
    /// What an asynchronous replica holds.
    pub(crate) replica: Redis<Body>,
    pub(crate) processes: Vec<Process>,
    pub(crate) flights: Vec<Flying>,
    pub(crate) checker: Checker,
    /// Each key's lifetime in Redis.
    pub(crate) lives: Vec<Time>,
    agenda: Agenda<What>,
    pub(crate) log: Option<Vec<String>>,
}

impl World {
    /// The world of a seed.
    pub(crate) fn new(seed: u64, traced: bool, strict: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let weather = Weather::of(&mut rng, seed);
        let mut kinds: Vec<_> = (0..weather.rows).map(|row| (Kind::Row, row == 0 || rng.bool())).collect();
        kinds.push((Kind::Aggregate, true));
        let ppm = |rng: &mut Rng| rng.i64(-90..=90);
        let postgres = Postgres::new(&kinds, ppm(&mut rng), weather.most);
        let processes =
            (0..weather.processes).map(|p| Process::new(p, rng.i64(0..1000) * SECOND, ppm(&mut rng))).collect();
        let lives = kinds.iter().map(|_| if rng.bool() { 1500 * MS } else { 10 * SECOND }).collect();
        let mut world = Self {
            now: 0,
            checker: Checker::new(kinds.len(), weather.processes, strict),
            rng,
            weather,
            postgres,
            servers: vec![Server { memory: Redis::default(), run: 1, generation: 0 }],
            current: 0,
            replica: Redis::default(),
            processes,
            flights: Vec::new(),
            lives,
            agenda: Agenda::default(),
            log: traced.then(Vec::new),
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for p in 0..self.processes.len() {
            let at = self.rng.i64(0..20 * MS);
            self.at(at, What::Sample(p));
            self.at(at + MS, What::Read(p));
            self.at(at + 2 * MS, What::Write(p));
            if p < 2 {
                self.at(at + 3 * MS, What::Relay(p));
            }
        }
        self.at(0, What::Replicate);
        for (at, fault) in self.weather.plan(&mut self.rng) {
            self.at(at, What::Fault(fault));
        }
    }

    /// Lets the seed's time pass; stops at the first promise broken.
    pub(crate) fn run(&mut self) {
        while let Some((at, what)) = self.agenda.next() {
            if at > self.weather.length || self.checker.violation.is_some() {
                return;
            }
            self.now = at;
            if let Some(p) = self.place(&what)
                && self.processes[p].paused_until > self.now
            {
                let until = self.processes[p].paused_until;
                let wait = self.rng.i64(0..MS);
                self.at(until + wait, what);
                continue;
            }
            self.happen(what);
        }
    }

    /// The process in which an event happens, and which must be awake for it.
    fn place(&self, what: &What) -> Option<usize> {
        match what {
            What::Read(p) | What::Write(p) | What::Relay(p) | What::Fold(p) | What::Sample(p) => Some(*p),
            What::Look(reading) | What::Landed { reading, .. } => Some(reading.process),
            What::Committed { process, .. }
            | What::Spread { process, .. }
            | What::Hear { process, .. }
            | What::HearLate { process, .. }
            | What::Hint { process, .. } => Some(*process),
            What::FlightLook(f) | What::FlightAgain(f) | What::Answered { flight: f, .. } => {
                Some(self.flights[*f].process)
            }
            What::RedisTold { caller, .. } | What::PostgresTold { caller, .. } => Some(caller.process(&self.flights)),
            What::AskRedis { .. } | What::AskPostgres { .. } | What::Replicate | What::Fault(_) => None,
        }
    }

    fn happen(&mut self, what: What) {
        if self.log.is_some() {
            self.write_down(&what);
        }
        match what {
            What::Read(p) => self.read(p),
            What::Look(reading) => self.look(reading),
            What::Write(p) => self.write(p),
            What::Committed { process, keys } => self.committed(process, keys),
            What::Spread { process, key, version } => self.spread(process, key, version),
            What::FlightLook(f) => self.flight_look(f),
            What::FlightAgain(f) => self.flight_ask_l2(f),
            What::Answered { flight, answer } => self.flight_keep(flight, answer),
            What::Landed { reading, outcome, tell } => self.landed(reading, outcome, tell),
            What::AskRedis { session, ask, caller, reply_in } => self.redis_runs(session, ask, caller, reply_in),
            What::RedisTold { caller, told, session } => self.redis_told(caller, told, session),
            What::AskPostgres { query, caller, reply_in, lost } => self.postgres_runs(query, caller, reply_in, lost),
            What::PostgresTold { caller, rows } => self.postgres_told(caller, rows),
            What::Hear { process, notice, changes, direct } => self.hear(process, notice, changes, direct),
            What::HearLate { process, changes } => self.raise_all(process, &changes),
            What::Hint { process, key, version } => self.hint(process, key, version),
            What::Relay(p) => self.relay(p),
            What::Fold(p) => self.relay_folds(p),
            What::Sample(p) => self.sample(p),
            What::Replicate => {
                self.replica = self.servers[self.current].memory.clone();
                let next = self.rng.i64(50 * MS..900 * MS);
                self.after(next, What::Replicate);
            }
            What::Fault(fault) => self.strike(fault),
        }
    }

    pub(crate) fn at(&mut self, at: Time, what: What) {
        self.agenda.add(at, what);
    }

    pub(crate) fn after(&mut self, delay: Time, what: What) {
        self.at(self.now + delay, what);
    }

    /// How long a message or a step of a task takes.
    pub(crate) fn delay(&mut self) -> Time {
        self.weather.delay(&mut self.rng)
    }

    /// How long a step between two awaits takes: mostly nothing, sometimes a whole pause.
    pub(crate) fn step(&mut self) -> Time {
        if self.rng.f64() < self.weather.stalls { self.weather.stall(&mut self.rng) } else { self.rng.i64(0..20_000) }
    }

    pub(crate) fn millis(&self) -> Millis {
        self.now / MS + 5_000_000
    }

    fn write_down(&mut self, what: &What) {
        let line = format!("{:>12.3} ms  {what:?}", self.now as f64 / MS as f64);
        if let Some(log) = &mut self.log {
            log.push(line);
        }
    }
}
