//! Loads: the steps between a miss and an answer, as `cache/src/{miss,load}.rs` do them.

use std::time::Duration;

use coherence::entry::{Entry, Freshness, admits, freshness};
use coherence::read::{Abilities, Answer, L2, Read, Step, Tier};

use crate::body::Body;
use crate::checker::CheckedRead;
use crate::events::{Caller, Event, Outcome, Query, RedisCall, RedisReply, Role, Rows};
use crate::load::Load;
use crate::postgres::Kind;
use crate::simulation::Simulation;
use crate::time::MS;

/// A reader that has joined this many loads of others starts its own.
const MAX_JOINS: u8 = 2;

impl Simulation {
    /// Joins the newest load that can serve this reader, or starts one.
    pub(crate) fn join_or_start(&mut self, read: CheckedRead, unproven: Option<Entry<Body>>, joins: u8) {
        let p = read.process;
        let now = self.mono(p);
        let found = self.processes[p].in_flight.joinable(&read.key, read.reader.requirement, now).copied();
        if let Some(load) = found.filter(|_| joins < MAX_JOINS) {
            self.checker.joined += 1;
            self.loads[load].readers.push((read, Role::Joiner { joins, unproven }));
            return;
        }
        let number = self.loads.len();
        let key = read.key;
        let id = self.processes[p].in_flight.start(&key, number, now);
        let validate = self.postgres.keys[key].kind == Kind::Aggregate && self.gateway != Some(p);
        self.loads.push(Load {
            process: p,
            incarnation: read.incarnation,
            key,
            id,
            requirement: read.reader.requirement,
            started: now,
            read: Read::new(unproven, Abilities { validate, wait: self.rng.u8(0..4) > 0 }),
            asked: now,
            readers: vec![(read, Role::Starter)],
            finished: false,
        });
        let wait = self.step();
        self.after(wait, Event::LoadStarted(number));
    }

    /// Whether the process that started a load has been restarted since.
    fn is_abandoned(&self, load: usize) -> bool {
        self.loads[load].incarnation != self.processes[self.loads[load].process].incarnation
    }

    /// Reads L1 again: another load may have finished between the reader's miss and the start of this one.
    pub(crate) fn load_started(&mut self, load: usize) {
        if self.is_abandoned(load) {
            return;
        }
        let Load { process, key, requirement, .. } = self.loads[load];
        let process = &self.processes[process];
        if let Some(entry) = process.l1.get(&key) {
            let now = process.mono(self.now);
            if let Freshness::Proven(fresh) = freshness(entry, &process.window, &process.clock, requirement, now) {
                let answer = Answer { entry: entry.clone(), fresh, tier: Tier::L1, fill: None, keep: false };
                return self.finish(load, &Some(answer));
            }
        }
        self.load_asks_redis(load);
    }

    pub(crate) fn load_asks_redis(&mut self, load: usize) {
        if self.is_abandoned(load) {
            return;
        }
        let (p, key) = (self.loads[load].process, self.loads[load].key);
        self.loads[load].asked = self.mono(p);
        if self.gateway == Some(p) {
            return self.redis_replied_to_load(load, None);
        }
        let token = self.rng.u64(1..);
        self.call_redis(p, RedisCall::Get { key, token }, Caller::Load(load));
    }

    pub(crate) fn redis_replied_to_load(&mut self, number: usize, reply: Option<RedisReply>) {
        if self.is_abandoned(number) {
            return;
        }
        let reply = match reply {
            Some(RedisReply::L2(reply)) => reply,
            _ => L2::Unavailable,
        };
        let p = self.loads[number].process;
        let (now, clock) = (self.mono(p), self.processes[p].clock);
        let load = &mut self.loads[number];
        let step = load.read.on_l2(reply, &clock, load.requirement, load.asked, now);
        self.take_step(number, step);
    }

    pub(crate) fn postgres_replied_to_load(&mut self, number: usize, rows: Option<Rows>) {
        if self.is_abandoned(number) {
            return;
        }
        let now = self.mono(self.loads[number].process);
        let load = &mut self.loads[number];
        match rows {
            Some(Rows::Version(version, asof)) => {
                let step = load.read.on_version(Some((version, asof)), load.requirement, load.asked, now);
                self.take_step(number, step);
            }
            Some(Rows::Loaded(loaded)) => {
                let answer = load.read.on_loaded(loaded, load.requirement, load.asked, now);
                self.take_step(number, Step::Answer(answer));
            }
            // A version that could not be asked means a load; a load that failed is reported to its readers.
            _ if matches!(load.read.on_version(None, load.requirement, load.asked, now), Step::Load)
                && !load.finished =>
            {
                self.finish(number, &None);
            }
            _ => {}
        }
    }

    fn take_step(&mut self, load: usize, step: Step<Body>) {
        let (p, key) = (self.loads[load].process, self.loads[load].key);
        match step {
            Step::AskL2 => self.load_asks_redis(load),
            Step::Wait => {
                let wait = 5 * MS + self.rng.i64(0..45 * MS);
                self.after(wait, Event::AskRedisAgain(load));
            }
            Step::Validate => {
                self.loads[load].asked = self.mono(p);
                self.checker.validations += 1;
                self.query_postgres(Query::Version { key }, Caller::Load(load));
            }
            Step::Load => {
                self.loads[load].asked = self.mono(p);
                self.query_postgres(Query::Load { key }, Caller::Load(load));
            }
            Step::Answer(answer) => {
                let now = self.mono(p);
                self.processes[p].watermarks.answered(&key, answer.entry.version, answer.fresh, now);
                let wait = self.step();
                self.after(wait, Event::Answered { load, answer });
            }
        }
    }

    /// The answer is offered to L1, then given to the readers, then put into Redis.
    pub(crate) fn load_answered(&mut self, load: usize, answer: Answer<Body>) {
        if self.is_abandoned(load) {
            return;
        }
        let (p, key, started) = (self.loads[load].process, self.loads[load].key, self.loads[load].started);
        if answer.keep {
            let now = self.mono(p);
            let process = &mut self.processes[p];
            let existing = process.l1.get(&key);
            if admits(existing, &answer.entry, answer.fresh, &process.watermarks, &key, started, now) {
                process.l1.insert(key, answer.entry.clone());
            }
        }
        let fill = answer.fill;
        let entry = answer.entry.clone();
        self.finish(load, &Some(answer));
        if let Some(fill) = fill {
            let lifetime: Duration = fill.lifetime.l2_for(self.rng.f64());
            let lifetime = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX);
            let call = RedisCall::Fill { key, token: fill.token, version: entry.version, body: entry.body, lifetime };
            self.call_redis(p, call, Caller::Nobody(p));
        }
    }

    fn finish(&mut self, load: usize, outcome: &Outcome) {
        let load = &mut self.loads[load];
        load.finished = true;
        let (p, key, id) = (load.process, load.key, load.id);
        let readers = std::mem::take(&mut load.readers);
        self.processes[p].in_flight.finish(&key, id);
        for (read, role) in readers {
            let wait = self.step();
            self.after(wait, Event::LoadFinished { read, outcome: outcome.clone(), role });
        }
    }
}
