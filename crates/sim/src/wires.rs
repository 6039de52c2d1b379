//! The wires to Redis and PostgreSQL, and what the servers at their ends do.
//!
//! Invariant: every question has exactly one answer for its caller, if only that none came in time; whether it was carried
//! out is another matter.

use coherence::guards::Guard;
use coherence::read::{L2, Loaded};

use crate::postgres::{MS, SECOND, Time};
use crate::redis::Millis;
use crate::removable::enforced;
use crate::world::{Ask, Body, Caller, PATIENCE, Query, Rows, Session, Told, What, World};

impl World {
    /// Asks Redis something; there is always exactly one answer, if only that there is none.
    pub(crate) fn ask_redis(&mut self, p: usize, ask: Ask, caller: Caller) {
        let cut = self.processes[p].redis_cut_until > self.now;
        let Some(session) = self.session(p) else {
            let wait = self.rng.i64(0..PATIENCE);
            let session = Session { server: self.current, generation: u32::MAX, run: 0 };
            return self.after(wait, What::RedisTold { caller, told: None, session });
        };
        self.ask_on(session, cut, ask, caller);
    }

    pub(crate) fn ask_on(&mut self, session: Session, cut: bool, ask: Ask, caller: Caller) {
        let (there, back) = (self.delay(), self.delay());
        let lost_there = cut || self.rng.f64() < self.weather.redis_loss;
        let lost_back = self.rng.f64() < self.weather.redis_loss;
        let in_time = !lost_there && !lost_back && there + back < PATIENCE;
        if !lost_there {
            let reply_in = in_time.then_some(back);
            self.after(there, What::AskRedis { session, ask, caller, reply_in });
        }
        if !in_time {
            self.after(PATIENCE, What::RedisTold { caller, told: None, session });
        }
    }

    /// The connection of a process, made now if there is none and Redis can be reached.
    pub(crate) fn session(&mut self, p: usize) -> Option<Session> {
        if self.processes[p].session.is_none() && self.processes[p].redis_cut_until <= self.now {
            let server = &self.servers[self.current];
            let session = Session { server: self.current, generation: server.generation, run: server.run };
            self.processes[p].session = Some(session);
        }
        self.processes[p].session
    }

    pub(crate) fn redis_runs(&mut self, session: Session, ask: Ask, caller: Caller, reply_in: Option<Time>) {
        let now = self.millis();
        let bound = enforced(Guard::SessionRun);
        // The second step of a GET in two goes wherever Redis is by then.
        let bound = bound && !matches!(ask, Ask::GetUnder { .. });
        let at = if bound { session.server } else { self.current };
        if bound && self.servers[at].generation != session.generation {
            if let Some(back) = reply_in {
                self.after(back, What::RedisTold { caller, told: None, session });
            }
            return;
        }
        let memory = &mut self.servers[at].memory;
        let told = match ask {
            Ask::Get { key, token } if enforced(Guard::GetOneStep) => Told::L2(memory.get(key, token, now)),
            Ask::Get { key, token } => match memory.proof(now) {
                None => Told::L2(L2::NoProof),
                Some(proof) => {
                    let later = self.step() + self.rng.i64(0..5 * MS);
                    let ask = Ask::GetUnder { proof, key, token };
                    return self.after(later, What::AskRedis { session, ask, caller, reply_in });
                }
            },
            Ask::GetUnder { .. } | Ask::Fill { .. } | Ask::Apply { .. } | Ask::Fresh { .. } => {
                let bodies: Vec<_> = self.lives.iter().map(|life| (self.now, *life)).collect();
                self.redis_writes(at, ask, now, &bodies)
            }
        };
        if let Some(back) = reply_in {
            self.after(back, What::RedisTold { caller, told: Some(told), session });
        }
    }

    fn redis_writes(&mut self, at: usize, ask: Ask, now: Millis, bodies: &[(Time, Time)]) -> Told {
        let keys = &self.postgres.keys;
        let memory = &mut self.servers[at].memory;
        match ask {
            Ask::GetUnder { proof, key, token } => Told::L2(memory.get_under(proof, key, token, now)),
            Ask::Get { key, token } => Told::L2(memory.get(key, token, now)),
            Ask::Fill { key, token, version, body, live } => {
                memory.fill(key, token, version, body, live, now);
                Told::Done
            }
            Ask::Apply { space, changes } => {
                for (key, version) in changes {
                    // What an applier would create: the change that it tells of.
                    let told = version
                        .and_then(|version| keys[key].commits.iter().rev().find(|commit| commit.version == version));
                    let (born, life) = bodies[key];
                    let body = told.map(|commit| Body { content: commit.content, born, life });
                    memory.apply(space, key, version, body, now);
                }
                Told::Done
            }
            Ask::Fresh { proof } => {
                memory.fresh(proof, now);
                Told::Done
            }
        }
    }

    pub(crate) fn redis_told(&mut self, caller: Caller, told: Option<Told>, session: Session) {
        let p = caller.process(&self.flights);
        if told.is_none() && self.processes[p].session == Some(session) {
            self.processes[p].session = None;
        }
        match caller {
            Caller::Flight(f) => self.flight_told_l2(f, told),
            Caller::Relay(p, life) if life == self.processes[p].life => self.relay_told_redis(p, told.is_some()),
            Caller::Relay(..) | Caller::Sampler(..) | Caller::Token(..) | Caller::Nobody(_) => {}
        }
    }

    /// Asks PostgreSQL something.
    pub(crate) fn ask_postgres(&mut self, query: Query, caller: Caller) {
        let slow = self.weather.postgres_slowness;
        let (there, back) = (self.delay() + self.rng.i64(0..=slow), self.delay() + self.rng.i64(0..=slow));
        let lost = self.rng.f64() < self.weather.postgres_loss;
        if lost && self.rng.bool() {
            // It never arrived.
            return self.after(there + back, What::PostgresTold { caller, rows: None });
        }
        self.after(there, What::AskPostgres { query, caller, reply_in: back, lost });
    }

    pub(crate) fn postgres_runs(&mut self, query: Query, caller: Caller, reply_in: Time, lost: bool) {
        let at = self.now;
        let rows = match query {
            Query::Load { key } => {
                let commit = self.postgres.keys[key].now();
                let life = if commit.content == 0 { 5 * SECOND } else { self.lives[key] };
                let lifetime = crate::flights::lifetime(life);
                let body = Body { content: commit.content, born: at, life };
                let version = self.postgres.version(key);
                Rows::Loaded(Loaded { version, asof: self.postgres.asof(), body, lifetime })
            }
            Query::Version { key } => Rows::Version(self.postgres.version(key), self.postgres.asof()),
            Query::Clock => Rows::Clock(self.postgres.now(at)),
            Query::Take { epoch, owner } => Rows::Mine(self.postgres.take(epoch, owner, at)),
            Query::Renew { epoch, owner } => Rows::Mine(self.postgres.renew(epoch, owner, at)),
            Query::Begin => {
                let began = self.postgres.now(at);
                let later = self.step();
                return self.after(later, What::AskPostgres { query: Query::Drain { began }, caller, reply_in, lost });
            }
            Query::Drain { began } => {
                let (mut drained, outbox) = self.postgres.drain(began);
                if !enforced(Guard::DrainTimeFirst) {
                    // The time is read by another statement, after the snapshot.
                    let later = self.step();
                    drained.at = self.postgres.now(at + later + reply_in);
                }
                Rows::Drained(drained, outbox)
            }
            Query::Fold { epoch, owner, fold, space, ids } => {
                Rows::Mine(self.postgres.fold(epoch, owner, &fold, space, &ids, at))
            }
        };
        self.after(reply_in, What::PostgresTold { caller, rows: (!lost).then_some(rows) });
    }

    pub(crate) fn postgres_told(&mut self, caller: Caller, rows: Option<Rows>) {
        match caller {
            Caller::Flight(f) => self.flight_told_rows(f, rows),
            Caller::Relay(p, life) if life == self.processes[p].life => self.relay_told_rows(p, rows),
            Caller::Sampler(p, asked) => {
                let showed = if let Some(Rows::Clock(showed)) = rows { Some(showed) } else { None };
                self.sampled(p, asked, showed);
            }
            Caller::Token(p, key) => {
                if let Some(Rows::Version(version, _)) = rows {
                    self.checker.token(&self.postgres, p, key, version);
                }
            }
            Caller::Relay(..) | Caller::Nobody(_) => {}
        }
    }
}
