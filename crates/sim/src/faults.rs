//! What goes wrong in a seed: how slow and lossy the wires are, and what breaks when.
//!
//! Seeds take turns through weathers: each dwells on some faults, so that a rare combination is not drowned by others.

use fastrand::Rng;

use crate::postgres::{MS, SECOND, Time};
use crate::redis::Redis;
use crate::world::{Server, World};

/// One thing that breaks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// A process does nothing for a while.
    Pause { process: usize, long: Time },
    /// A process dies and begins anew with nothing.
    Restart { process: usize },
    /// NATS brings a process nothing, and it is not told.
    Silence { process: usize, long: Time },
    /// A process sees its connection to NATS end.
    Disconnect { process: usize },
    /// Nothing of a process reaches Redis.
    CutRedis { process: usize, long: Time },
    /// All of Redis is forgotten.
    Flush,
    /// One entry is.
    Evict { key: usize },
    /// The proof is.
    EvictProof,
    /// Redis starts anew, empty.
    RestartRedis,
    /// A replica takes over with what it had; with `zombie` the old server goes on for those who are connected to it.
    Failover { zombie: bool },
    /// PostgreSQL's clock is set.
    Step { by: Time },
}

/// The conditions of a seed.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    pub(crate) length: Time,
    pub(crate) processes: usize,
    /// Mean time between two reads, and two writes, of a process.
    pub(crate) read_every: Time,
    pub(crate) write_every: Time,
    /// How often a wire is slow, and how slow.
    slow: f64,
    slowness: Time,
    /// How often a step of a task stalls, and for how long at most.
    pub(crate) stalls: f64,
    stall: Time,
    pub(crate) nats_loss: f64,
    pub(crate) nats_double: f64,
    pub(crate) redis_loss: f64,
    pub(crate) postgres_loss: f64,
    /// What each way to PostgreSQL takes longer, at most.
    pub(crate) postgres_slowness: Time,
    /// How often a leader sleeps before it folds.
    pub(crate) sleepy_leader: f64,
    pub(crate) rows: usize,
    /// How often a process reads PostgreSQL's clock.
    pub(crate) sample_every: Time,
    /// How often a writer says nothing after its commit.
    pub(crate) silent_writer: f64,
    pub(crate) most: usize,
    faults: usize,
    kind: u64,
}

/// How many weathers there are.
pub(crate) const KINDS: u64 = 11;

impl Weather {
    pub(crate) fn of(rng: &mut Rng, seed: u64) -> Self {
        let kind = seed % KINDS;
        let pick = |rng: &mut Rng, from: &[f64]| from[rng.usize(0..from.len())];
        let mut weather = Self {
            length: rng.i64(4..9) * SECOND,
            processes: 3,
            read_every: rng.i64(8..40) * MS,
            write_every: rng.i64(60..600) * MS,
            slow: pick(rng, &[0.0, 0.02, 0.1]),
            slowness: rng.i64(5..120) * MS,
            stalls: pick(rng, &[0.0, 0.003, 0.02]),
            stall: rng.i64(100..2600) * MS,
            nats_loss: pick(rng, &[0.0, 0.02, 0.2]),
            nats_double: pick(rng, &[0.0, 0.05]),
            redis_loss: pick(rng, &[0.0, 0.01, 0.1]),
            postgres_loss: pick(rng, &[0.0, 0.01, 0.05]),
            postgres_slowness: 0,
            sleepy_leader: 0.0,
            rows: 2,
            sample_every: 5 * SECOND,
            silent_writer: pick(rng, &[0.0, 0.1, 0.5]),
            most: if rng.u8(0..4) == 0 { 2 } else { 2000 },
            faults: rng.usize(0..7),
            kind,
        };
        match kind {
            // Redis is the only way between processes, and it is lossy.
            1 => {
                weather.nats_loss = 1.0;
                weather.redis_loss = pick(rng, &[0.0, 0.05, 0.2]);
            }
            // Tasks stall everywhere.
            2 => {
                weather.stalls = 0.04;
                weather.stall = rng.i64(800..3000) * MS;
            }
            // Quiet: rare writes, so that old values have time to be believed.
            3 => {
                weather.write_every = rng.i64(500..1500) * MS;
                weather.slow = 0.0;
                weather.silent_writer = 0.8;
            }
            // Many writes, and slow loads beside them.
            4 => {
                weather.write_every = rng.i64(20..60) * MS;
                weather.slow = 0.2;
            }
            // Redis fails over.
            5 => {
                weather.faults = rng.usize(3..10);
                weather.nats_loss = pick(rng, &[0.2, 1.0]);
                weather.silent_writer = pick(rng, &[0.5, 1.0]);
            }
            // The relay's leaders fall asleep.
            6 => {
                weather.faults = rng.usize(0..6);
                weather.sleepy_leader = 0.05;
                weather.nats_loss = 0.2;
                weather.silent_writer = pick(rng, &[0.5, 1.0]);
            }
            // PostgreSQL's clock is set.
            7 => {
                weather.length = rng.i64(9..16) * SECOND;
                weather.read_every = rng.i64(20..60) * MS;
                weather.redis_loss = pick(rng, &[0.0, 0.02, 0.2]);
                weather.nats_loss = pick(rng, &[0.0, 0.2, 1.0]);
                weather.silent_writer = pick(rng, &[0.1, 1.0]);
                weather.write_every = rng.i64(200..800) * MS;
                weather.sample_every = rng.i64(500..5000) * MS;
            }
            // Few readers, and tasks that sleep with an old value in their hand.
            8 => {
                weather.length = rng.i64(10..20) * SECOND;
                weather.read_every = rng.i64(200..900) * MS;
                weather.write_every = rng.i64(400..1500) * MS;
                weather.stalls = 0.08;
                weather.stall = rng.i64(1500..3500) * MS;
            }
            // PostgreSQL is far away.
            9 => {
                weather.postgres_slowness = rng.i64(50..450) * MS;
                weather.nats_loss = pick(rng, &[0.02, 0.2]);
                weather.silent_writer = 0.8;
            }
            // Many keys that change seldom, over lossy wires.
            10 => {
                weather.rows = 9;
                weather.read_every = rng.i64(4..12) * MS;
                weather.write_every = rng.i64(30..120) * MS;
                weather.nats_loss = pick(rng, &[0.01, 0.03, 0.2]);
                weather.postgres_loss = pick(rng, &[0.1, 0.3]);
                weather.silent_writer = 1.0;
                weather.redis_loss = 0.0;
            }
            _ => {}
        }
        weather
    }

    pub(crate) fn plan(&self, rng: &mut Rng) -> Vec<(Time, Fault)> {
        let mut plan: Vec<_> = (0..self.faults).map(|_| (rng.i64(0..self.length), self.fault(rng))).collect();
        if self.kind == 7 {
            let by = [-6000, -2000, -700, -300, -99, -60, 80, 99, 300, 1500][rng.usize(0..10)] * MS;
            let at = rng.i64(SECOND..self.length - 2 * SECOND);
            plan.push((at, Fault::Step { by }));
            // Often the relay cannot reach Redis from about then on, and the proof that lies there is all that a reader has.
            if rng.bool() {
                let cut = at + if by > 0 { rng.i64(0..300 * MS) } else { -rng.i64(0..100 * MS) };
                let long = rng.i64(SECOND..7 * SECOND);
                plan.extend((0..2).map(|process| (cut, Fault::CutRedis { process, long })));
            }
        }
        plan
    }

    fn fault(&self, rng: &mut Rng) -> Fault {
        let process = rng.usize(0..self.processes);
        let long = rng.i64(50..4000) * MS;
        let redis = |rng: &mut Rng| match rng.u8(0..6) {
            0 => Fault::Flush,
            1 => Fault::RestartRedis,
            2 => Fault::EvictProof,
            3 => Fault::Evict { key: rng.usize(0..=self.rows) },
            _ => Fault::Failover { zombie: rng.bool() },
        };
        match (self.kind, rng.u8(0..8)) {
            (5, 0..=5) => redis(rng),
            (6, 0..=5) => Fault::Pause { process: rng.usize(0..2), long: rng.i64(500..5000) * MS },
            (_, 0) => Fault::Pause { process, long },
            (_, 1) => Fault::Silence { process, long },
            (_, 2) => Fault::Disconnect { process },
            (_, 3) => Fault::CutRedis { process, long },
            // A process that begins after the clock was set back knows nothing of it: nothing is claimed for it.
            (0..=6 | 8.., 4) => Fault::Restart { process },
            _ => redis(rng),
        }
    }

    pub(crate) fn delay(&self, rng: &mut Rng) -> Time {
        if rng.f64() < self.slow { rng.i64(MS..self.slowness + 2 * MS) } else { rng.i64(50_000..800_000) }
    }

    pub(crate) fn stall(&self, rng: &mut Rng) -> Time {
        rng.i64(0..self.stall)
    }
}

impl World {
    pub(crate) fn strike(&mut self, fault: Fault) {
        let now = self.now;
        match fault {
            Fault::Pause { process, long } => self.processes[process].paused_until = now + long,
            Fault::Restart { process } => self.restart(process),
            Fault::Silence { process, long } => self.processes[process].silent_until = now + long,
            Fault::Disconnect { process } => {
                if self.processes[process].reign.is_none() {
                    self.processes[process].window.close();
                }
            }
            Fault::CutRedis { process, long } => self.processes[process].redis_cut_until = now + long,
            Fault::Flush => self.server().memory.flush(),
            Fault::Evict { key } => self.server().memory.evict(key),
            Fault::EvictProof => self.server().memory.evict_proof(),
            Fault::RestartRedis => {
                let run = self.new_run();
                let server = self.server();
                server.memory = Redis::default();
                server.run = run;
                server.generation += 1;
            }
            Fault::Failover { zombie } => {
                let run = self.new_run();
                if !zombie {
                    self.server().generation += 1;
                }
                self.servers.push(Server { memory: self.replica.clone(), run, generation: 0 });
                self.current = self.servers.len() - 1;
            }
            Fault::Step { by } => {
                self.postgres.offset += by;
                self.checker.stepped(by, now);
            }
        }
    }

    fn server(&mut self) -> &mut Server {
        &mut self.servers[self.current]
    }

    fn new_run(&self) -> u32 {
        self.servers.iter().map(|server| server.run).max().unwrap_or(0) + 1
    }
}
