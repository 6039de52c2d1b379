//! What goes wrong in a seed: how slow and lossy the network is, and what breaks when.
//!
//! Seeds take the profiles in rotation. Each profile weights some faults, so that a rare combination is not drowned by others.

use fastrand::Rng;

use crate::time::{MS, SECOND, Time};

/// One thing that breaks.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// A process is paused.
    Pause { process: usize, duration: Time },
    /// A process dies and starts again with nothing.
    Restart { process: usize },
    /// No message of NATS reaches a process, whose connection looks healthy.
    CutNats { process: usize, duration: Time },
    /// A process sees its connection to NATS end.
    Disconnect { process: usize },
    /// No call of a process reaches Redis.
    CutRedis { process: usize, duration: Time },
    /// Redis loses everything.
    Flush,
    /// Redis evicts one entry.
    Evict { key: usize },
    /// Redis evicts the proof.
    EvictProof,
    /// Redis starts again, empty.
    RestartRedis,
    /// A replica takes over with what it has; with `zombie` the old server goes on for those who are connected to it.
    Failover { zombie: bool },
    /// PostgreSQL's clock is stepped.
    Step { by: Time },
}

/// The conditions of a seed.
#[derive(Clone, Debug)]
pub(crate) struct FaultProfile {
    pub(crate) length: Time,
    pub(crate) processes: usize,
    /// Mean time between two reads, and two writes, of a process.
    pub(crate) read_every: Time,
    pub(crate) write_every: Time,
    /// How often a message is slow, and how slow.
    slow: f64,
    slowness: Time,
    /// How often a step of a task stalls, and the maximum of the stall.
    pub(crate) stalls: f64,
    stall: Time,
    pub(crate) nats_loss: f64,
    pub(crate) nats_duplicates: f64,
    pub(crate) redis_loss: f64,
    pub(crate) postgres_loss: f64,
    /// The maximum that each way to PostgreSQL takes longer.
    pub(crate) postgres_slowness: Time,
    /// How often a leader is paused before it compacts.
    pub(crate) leader_pauses: f64,
    pub(crate) rows: usize,
    /// How often a process reads PostgreSQL's clock.
    pub(crate) sample_every: Time,
    /// How often a writer dies after its commit, without a word to its cache.
    pub(crate) writer_deaths: f64,
    /// The maximum of outbox rows that one pass of the relay takes.
    pub(crate) pass_rows: usize,
    faults: usize,
    kind: u64,
}

/// How many profiles there are.
pub(crate) const KINDS: u64 = 11;

impl FaultProfile {
    pub(crate) fn of(rng: &mut Rng, seed: u64) -> Self {
        let kind = seed % KINDS;
        let pick = |rng: &mut Rng, from: &[f64]| from[rng.usize(0..from.len())];
        let mut profile = Self {
            length: rng.i64(4..9) * SECOND,
            processes: 3,
            read_every: rng.i64(8..40) * MS,
            write_every: rng.i64(60..600) * MS,
            slow: pick(rng, &[0.0, 0.02, 0.1]),
            slowness: rng.i64(5..120) * MS,
            stalls: pick(rng, &[0.0, 0.003, 0.02]),
            stall: rng.i64(100..2600) * MS,
            nats_loss: pick(rng, &[0.0, 0.02, 0.2]),
            nats_duplicates: pick(rng, &[0.0, 0.05]),
            redis_loss: pick(rng, &[0.0, 0.01, 0.1]),
            postgres_loss: pick(rng, &[0.0, 0.01, 0.05]),
            postgres_slowness: 0,
            leader_pauses: 0.0,
            rows: 2,
            sample_every: 5 * SECOND,
            writer_deaths: pick(rng, &[0.0, 0.1, 0.5]),
            pass_rows: if rng.u8(0..4) == 0 { 2 } else { 2000 },
            faults: rng.usize(0..7),
            kind,
        };
        match kind {
            // Redis is the only way between processes, and it is lossy.
            1 => {
                profile.nats_loss = 1.0;
                profile.redis_loss = pick(rng, &[0.0, 0.05, 0.2]);
            }
            // Tasks stall everywhere.
            2 => {
                profile.stalls = 0.04;
                profile.stall = rng.i64(800..3000) * MS;
            }
            // Rare writes, so that old values have time to be believed.
            3 => {
                profile.write_every = rng.i64(500..1500) * MS;
                profile.slow = 0.0;
                profile.writer_deaths = 0.8;
            }
            // Many writes, and slow loads beside them.
            4 => {
                profile.write_every = rng.i64(20..60) * MS;
                profile.slow = 0.2;
            }
            // Redis fails over.
            5 => {
                profile.faults = rng.usize(3..10);
                profile.nats_loss = pick(rng, &[0.2, 1.0]);
                profile.writer_deaths = pick(rng, &[0.5, 1.0]);
            }
            // The relay's leaders are paused.
            6 => {
                profile.faults = rng.usize(0..6);
                profile.leader_pauses = 0.05;
                profile.nats_loss = 0.2;
                profile.writer_deaths = pick(rng, &[0.5, 1.0]);
            }
            // PostgreSQL's clock is stepped.
            7 => {
                profile.length = rng.i64(9..16) * SECOND;
                profile.read_every = rng.i64(20..60) * MS;
                profile.redis_loss = pick(rng, &[0.0, 0.02, 0.2]);
                profile.nats_loss = pick(rng, &[0.0, 0.2, 1.0]);
                profile.writer_deaths = pick(rng, &[0.1, 1.0]);
                profile.write_every = rng.i64(200..800) * MS;
                profile.sample_every = rng.i64(500..5000) * MS;
            }
            // Few readers, and tasks that are paused with an old value.
            8 => {
                profile.length = rng.i64(10..20) * SECOND;
                profile.read_every = rng.i64(200..900) * MS;
                profile.write_every = rng.i64(400..1500) * MS;
                profile.stalls = 0.08;
                profile.stall = rng.i64(1500..3500) * MS;
            }
            // PostgreSQL is far away.
            9 => {
                profile.postgres_slowness = rng.i64(50..450) * MS;
                profile.nats_loss = pick(rng, &[0.02, 0.2]);
                profile.writer_deaths = 0.8;
            }
            // Many keys that change seldom, over a lossy network.
            10 => {
                profile.rows = 9;
                profile.read_every = rng.i64(4..12) * MS;
                profile.write_every = rng.i64(30..120) * MS;
                profile.nats_loss = pick(rng, &[0.01, 0.03, 0.2]);
                profile.postgres_loss = pick(rng, &[0.1, 0.3]);
                profile.writer_deaths = 1.0;
                profile.redis_loss = 0.0;
            }
            _ => {}
        }
        profile
    }

    pub(crate) fn plan(&self, rng: &mut Rng) -> Vec<(Time, Fault)> {
        let mut plan: Vec<_> = (0..self.faults).map(|_| (rng.i64(0..self.length), self.fault(rng))).collect();
        if self.kind == 7 {
            let by = [-6000, -2000, -700, -300, -99, -60, 80, 99, 300, 1500][rng.usize(0..10)] * MS;
            let at = rng.i64(SECOND..self.length - 2 * SECOND);
            plan.push((at, Fault::Step { by }));
            // Often the relay cannot reach Redis from about then on, and the proof that Redis has is all that a reader has.
            if rng.bool() {
                let cut = at + if by > 0 { rng.i64(0..300 * MS) } else { -rng.i64(0..100 * MS) };
                let duration = rng.i64(SECOND..7 * SECOND);
                plan.extend((0..2).map(|process| (cut, Fault::CutRedis { process, duration })));
            }
        }
        plan
    }

    fn fault(&self, rng: &mut Rng) -> Fault {
        let process = rng.usize(0..self.processes);
        let duration = rng.i64(50..4000) * MS;
        let redis = |rng: &mut Rng| match rng.u8(0..6) {
            0 => Fault::Flush,
            1 => Fault::RestartRedis,
            2 => Fault::EvictProof,
            3 => Fault::Evict { key: rng.usize(0..=self.rows) },
            _ => Fault::Failover { zombie: rng.bool() },
        };
        match (self.kind, rng.u8(0..8)) {
            (5, 0..=5) => redis(rng),
            (6, 0..=5) => Fault::Pause { process: rng.usize(0..2), duration: rng.i64(500..5000) * MS },
            (_, 0) => Fault::Pause { process, duration },
            (_, 1) => Fault::CutNats { process, duration },
            (_, 2) => Fault::Disconnect { process },
            (_, 3) => Fault::CutRedis { process, duration },
            // Not where the clock is stepped: a process that starts after a step back cannot know of it, and nothing is claimed
            // there.
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
