//! The network to Redis and PostgreSQL, and what the servers at its ends do.
//!
//! Invariant: every call has exactly one answer for its caller, if only that none came in time; whether the call was carried out is
//! another matter.

use coherence::guards::Guard;
use coherence::lifetime::Lifetime;
use coherence::read::{L2, Loaded};
use std::time::Duration;

use crate::body::Body;
use crate::events::{Caller, Event, Query, RedisCall, RedisReply, Rows, Session};
use crate::redis::Millis;
use crate::removable::enforced;
use crate::simulation::{REDIS_TIMEOUT, Simulation};
use crate::time::{MS, SECOND, Time};

impl Simulation {
    /// Calls Redis, on the connection of a process.
    pub(crate) fn call_redis(&mut self, p: usize, call: RedisCall, caller: Caller) {
        let cut = self.processes[p].redis_cut_until > self.now;
        let Some(session) = self.session(p) else {
            let wait = self.rng.i64(0..REDIS_TIMEOUT);
            let session = Session { server: self.current, generation: u32::MAX, run: 0 };
            return self.after(wait, Event::RedisReplied { caller, reply: None, session });
        };
        self.call_on(session, cut, call, caller);
    }

    pub(crate) fn call_on(&mut self, session: Session, cut: bool, call: RedisCall, caller: Caller) {
        let (there, back) = (self.delay(), self.delay());
        let lost_there = cut || self.rng.f64() < self.profile.redis_loss;
        let lost_back = self.rng.f64() < self.profile.redis_loss;
        let in_time = !lost_there && !lost_back && there + back < REDIS_TIMEOUT;
        if !lost_there {
            let reply_in = in_time.then_some(back);
            self.after(there, Event::RedisCalled { session, call, caller, reply_in });
        }
        if !in_time {
            self.after(REDIS_TIMEOUT, Event::RedisReplied { caller, reply: None, session });
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

    pub(crate) fn redis_called(&mut self, session: Session, call: RedisCall, caller: Caller, reply_in: Option<Time>) {
        let now = self.millis();
        // Guard: the proof would reach another server than the one whose run it is for.
        let bound = enforced(Guard::SessionRun);
        // The second step of a GET in two reaches whatever server is current by then.
        let bound = bound && !matches!(call, RedisCall::GetUnder { .. });
        let at = if bound { session.server } else { self.current };
        if bound && self.servers[at].generation != session.generation {
            if let Some(back) = reply_in {
                self.after(back, Event::RedisReplied { caller, reply: None, session });
            }
            return;
        }
        let memory = &mut self.servers[at].memory;
        let reply = match call {
            // Guard: a proof that is read in another step may be newer than the entry, across a failover between the two.
            RedisCall::Get { key, token } if enforced(Guard::GetOneStep) => RedisReply::L2(memory.get(key, token, now)),
            RedisCall::Get { key, token } => match memory.proof(now) {
                None => RedisReply::L2(L2::NoProof),
                Some(proof) => {
                    let later = self.step() + self.rng.i64(0..5 * MS);
                    let call = RedisCall::GetUnder { proof, key, token };
                    return self.after(later, Event::RedisCalled { session, call, caller, reply_in });
                }
            },
            call => self.redis_runs(at, call, now),
        };
        if let Some(back) = reply_in {
            self.after(back, Event::RedisReplied { caller, reply: Some(reply), session });
        }
    }

    fn redis_runs(&mut self, at: usize, call: RedisCall, now: Millis) -> RedisReply {
        let keys = &self.postgres.keys;
        let memory = &mut self.servers[at].memory;
        match call {
            RedisCall::GetUnder { proof, key, token } => {
                return RedisReply::L2(memory.get_under(proof, key, token, now));
            }
            RedisCall::Get { key, token } => return RedisReply::L2(memory.get(key, token, now)),
            RedisCall::Fill { key, token, version, body, lifetime } => {
                memory.fill(key, token, version, body, lifetime, now);
            }
            RedisCall::Apply { space, changes } => {
                for (key, version) in changes {
                    // What an applier would create: the state that the change made.
                    let commit = version
                        .and_then(|version| keys[key].commits.iter().rev().find(|commit| commit.version == version));
                    let (loaded_at, lifetime) = (self.now, self.lifetimes[key]);
                    let body = commit.map(|commit| Body { content: commit.content, loaded_at, lifetime });
                    memory.apply(space, key, version, body, now);
                }
            }
            RedisCall::Prove { proof } => memory.prove(proof, now),
        }
        RedisReply::Done
    }

    pub(crate) fn redis_replied(&mut self, caller: Caller, reply: Option<RedisReply>, session: Session) {
        let p = self.process_of(caller);
        // A connection on which a call failed is not used again.
        if reply.is_none() && self.processes[p].session == Some(session) {
            self.processes[p].session = None;
        }
        match caller {
            Caller::Load(load) => self.redis_replied_to_load(load, reply),
            Caller::Relay(p, incarnation) if incarnation == self.processes[p].incarnation => {
                self.redis_replied_to_relay(p, reply.is_some());
            }
            Caller::Relay(..) | Caller::Sampler(..) | Caller::Token(..) | Caller::Nobody(_) => {}
        }
    }

    /// Queries PostgreSQL.
    pub(crate) fn query_postgres(&mut self, query: Query, caller: Caller) {
        let slow = self.profile.postgres_slowness;
        let (mut there, mut back) = (self.delay() + self.rng.i64(0..=slow), self.delay() + self.rng.i64(0..=slow));
        // Through a service, which may do something else first.
        if self.gateway == Some(self.process_of(caller)) {
            there += self.delay() + self.step();
            back += self.delay() + self.step();
        }
        let lost = self.rng.f64() < self.profile.postgres_loss;
        if lost && self.rng.bool() {
            // It never arrived.
            return self.after(there + back, Event::PostgresReplied { caller, rows: None });
        }
        self.after(there, Event::PostgresQueried { query, caller, reply_in: back, lost });
    }

    pub(crate) fn postgres_queried(&mut self, query: Query, caller: Caller, reply_in: Time, lost: bool) {
        let at = self.now;
        let rows = match query {
            Query::Load { key } => {
                let commit = self.postgres.keys[key].now();
                let lifetime = if commit.content == 0 { 5 * SECOND } else { self.lifetimes[key] };
                let body = Body { content: commit.content, loaded_at: at, lifetime };
                let l2 = Duration::from_nanos(u64::try_from(lifetime).unwrap_or(0));
                let lifetime = Lifetime { l1: Duration::from_secs(30), l2 };
                let version = self.postgres.version(key);
                Rows::Loaded(Loaded { version, asof: self.postgres.asof(), body, lifetime })
            }
            Query::Version { key } => Rows::Version(self.postgres.version(key), self.postgres.asof()),
            Query::Clock => Rows::Clock(self.postgres.now(at)),
            Query::TakeLease { epoch, owner } => Rows::Leads(self.postgres.take(epoch, owner, at)),
            Query::RenewLease { epoch, owner } => Rows::Leads(self.postgres.renew(epoch, owner, at)),
            Query::Begin => {
                let began = self.postgres.now(at);
                let later = self.step();
                let query = Query::Drain { began };
                return self.after(later, Event::PostgresQueried { query, caller, reply_in, lost });
            }
            Query::Drain { began } => {
                let (mut drained, outbox) = self.postgres.drain(began);
                // Guard: what commits between the snapshot and the time is not in the drain, and would be vouched for.
                if !enforced(Guard::DrainTimeFirst) {
                    let later = self.step();
                    drained.at = self.postgres.now(at + later + reply_in);
                }
                Rows::Drained(drained, outbox)
            }
            Query::Compact { epoch, owner, compaction, space, ids } => {
                Rows::Leads(self.postgres.compact(epoch, owner, &compaction, space, &ids, at))
            }
        };
        self.after(reply_in, Event::PostgresReplied { caller, rows: (!lost).then_some(rows) });
    }

    pub(crate) fn postgres_replied(&mut self, caller: Caller, rows: Option<Rows>) {
        match caller {
            Caller::Load(load) => self.postgres_replied_to_load(load, rows),
            Caller::Relay(p, incarnation) if incarnation == self.processes[p].incarnation => {
                self.postgres_replied_to_relay(p, rows);
            }
            Caller::Sampler(p, asked) => {
                let showed = if let Some(Rows::Clock(showed)) = rows { Some(showed) } else { None };
                self.sampled(p, asked, showed);
            }
            Caller::Token(_, key) => {
                if let Some(Rows::Version(version, _)) = rows
                    && let Some(place) = self.checker.token(&self.postgres, key, version)
                {
                    self.reply_through(key, version, place);
                }
            }
            Caller::Relay(..) | Caller::Nobody(_) => {}
        }
    }
}
