//! The simulation: true time, the events to come, the servers, and the processes with what they have in flight.
//!
//! Invariant: everything that happens is drawn from one seed, in one order, so that a seed is a history. What happens is in files of
//! their own: `reads`, `writes`, `loads`, `receive`, `relay`, `network` and `faults`.

use coherence::time::Mono;
use fastrand::Rng;

use crate::body::Body;
use crate::checker::Checker;
use crate::events::{Caller, Event};
use crate::fault_profile::FaultProfile;
use crate::load::Load;
use crate::postgres::{Kind, Postgres};
use crate::process::Process;
use crate::queue::EventQueue;
use crate::redis::{Millis, Redis};
use crate::time::{MS, SECOND, Time};

/// The timeout of a call to Redis.
pub(crate) const REDIS_TIMEOUT: Time = 50 * MS;

/// How many processes run a relay.
pub(crate) const RELAYS: usize = 2;

/// From this seed on there is one process more, which has neither a database nor Redis: a gateway.
pub const GATEWAY_SEEDS: u64 = 1 << 40;

/// One Redis server and the connections that still lead to it.
pub(crate) struct Server {
    pub(crate) memory: Redis<Body>,
    /// The `run_id`.
    pub(crate) run: u32,
    /// Raised when all its connections break.
    pub(crate) generation: u32,
}

/// The state of one seed's run.
pub(crate) struct Simulation {
    pub(crate) now: Time,
    pub(crate) rng: Rng,
    pub(crate) profile: FaultProfile,
    pub(crate) postgres: Postgres,
    pub(crate) servers: Vec<Server>,
    /// The server to which new connections lead.
    pub(crate) current: usize,
    /// What the asynchronous replica has.
    pub(crate) replica: Redis<Body>,
    pub(crate) processes: Vec<Process>,
    /// The one that reads through the others.
    pub(crate) gateway: Option<usize>,
    pub(crate) loads: Vec<Load>,
    pub(crate) checker: Checker,
    /// Each key's lifetime in Redis.
    pub(crate) lifetimes: Vec<Time>,
    pub(crate) queue: EventQueue<Event>,
    pub(crate) trace: Option<Vec<String>>,
}

impl Simulation {
    /// The simulation of a seed, with its first events and its faults.
    pub(crate) fn new(seed: u64, traced: bool, strict: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut profile = FaultProfile::of(&mut rng, seed);
        let gateway = (seed >= GATEWAY_SEEDS).then_some(profile.processes);
        profile.processes += usize::from(gateway.is_some());
        let mut kinds: Vec<_> = (0..profile.rows).map(|row| (Kind::Row, row == 0 || rng.bool())).collect();
        kinds.push((Kind::Aggregate, true));
        let ppm = |rng: &mut Rng| rng.i64(-90..=90);
        let postgres = Postgres::new(&kinds, ppm(&mut rng), profile.pass_rows);
        let processes =
            (0..profile.processes).map(|_| Process::new(rng.i64(0..1000) * SECOND, ppm(&mut rng))).collect();
        let lifetimes = kinds.iter().map(|_| if rng.bool() { 1500 * MS } else { 10 * SECOND }).collect();
        let mut simulation = Self {
            now: 0,
            checker: Checker::new(kinds.len(), profile.processes, strict),
            rng,
            profile,
            postgres,
            servers: vec![Server { memory: Redis::default(), run: 1, generation: 0 }],
            current: 0,
            replica: Redis::default(),
            processes,
            gateway,
            loads: Vec::new(),
            lifetimes,
            queue: EventQueue::default(),
            trace: traced.then(Vec::new),
        };
        simulation.add_first_events();
        simulation
    }

    fn add_first_events(&mut self) {
        for p in 0..self.processes.len() {
            let at = self.rng.i64(0..20 * MS);
            self.at(at, Event::Sample(p));
            self.at(at + MS, Event::Read(p));
            if self.gateway != Some(p) {
                self.at(at + 2 * MS, Event::Write(p));
            }
            if p < RELAYS {
                self.at(at + 3 * MS, Event::Relay(p));
            }
        }
        self.at(0, Event::Replicate);
        for (at, fault) in self.profile.plan(&mut self.rng) {
            self.at(at, Event::Fault(fault));
        }
    }

    pub(crate) fn at(&mut self, at: Time, event: Event) {
        self.queue.add(at, event);
    }

    pub(crate) fn after(&mut self, delay: Time, event: Event) {
        self.at(self.now + delay, event);
    }

    /// The time that a message takes.
    pub(crate) fn delay(&mut self) -> Time {
        self.profile.delay(&mut self.rng)
    }

    /// The time that a step between two awaits takes: mostly next to nothing, sometimes a whole stall.
    pub(crate) fn step(&mut self) -> Time {
        if self.rng.f64() < self.profile.stalls { self.profile.stall(&mut self.rng) } else { self.rng.i64(0..20_000) }
    }

    /// The reading of Redis's clock.
    pub(crate) fn millis(&self) -> Millis {
        self.now / MS + 5_000_000
    }

    /// The reading of a process's monotonic clock.
    pub(crate) fn mono(&self, p: usize) -> Mono {
        self.processes[p].mono(self.now)
    }

    /// The process that waits for an answer.
    pub(crate) fn process_of(&self, caller: Caller) -> usize {
        match caller {
            Caller::Load(load) => self.loads[load].process,
            Caller::Relay(p, _) | Caller::Sampler(p, _) | Caller::Token(p, _) | Caller::Nobody(p) => p,
        }
    }

    /// The process in which an event happens, and which must not be paused for it.
    pub(crate) fn process_at(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Read(p) | Event::Write(p) | Event::Relay(p) | Event::Compact(p) | Event::Sample(p) => Some(*p),
            Event::ReadL1(read) | Event::LoadFinished { read, .. } | Event::PassedOn { read, .. } => Some(read.process),
            Event::ReadElsewhere { process, .. }
            | Event::WrittenThrough { process, .. }
            | Event::ClockAsked { process, .. }
            | Event::ClockAnswered { process, .. }
            | Event::Committed { process, .. }
            | Event::Spread { process, .. }
            | Event::Receive { process, .. }
            | Event::ApplyLate { process, .. }
            | Event::Hint { process, .. } => Some(*process),
            Event::LoadStarted(load) | Event::AskRedisAgain(load) | Event::Answered { load, .. } => {
                Some(self.loads[*load].process)
            }
            Event::RedisReplied { caller, .. } | Event::PostgresReplied { caller, .. } => {
                Some(self.process_of(*caller))
            }
            Event::RedisCalled { .. } | Event::PostgresQueried { .. } | Event::Replicate | Event::Fault(_) => None,
        }
    }
}
