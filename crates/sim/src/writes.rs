//! Writes: a commit, and what its process does before and after the reply, as `Cache::wrote` and `Cache::touched` do it.

use coherence::guards::Guard;

use crate::events::{Caller, Event, Query, RedisCall};
use crate::postgres::Kind;
use crate::removable::enforced;
use crate::simulation::Simulation;

impl Simulation {
    /// A writer commits: one or two keys in one transaction.
    pub(crate) fn write(&mut self, p: usize) {
        let count = self.postgres.keys.len();
        let first = self.rng.usize(0..count);
        let mut keys = vec![first];
        if self.rng.u8(0..3) == 0 && self.postgres.keys[first].kind == Kind::Row {
            keys.push(count - 1);
        }
        let deletes = self.rng.u8(0..60) == 0;
        let now = self.now;
        let mut changed = Vec::new();
        for key in keys {
            let before = self.postgres.keys[key].commits.len();
            let version = self.postgres.change(key, deletes, now);
            if self.postgres.keys[key].commits.len() > before {
                changed.push((key, version, before));
            }
        }
        let next = self.profile.write_every;
        let next = self.rng.i64(0..2 * next);
        self.after(next, Event::Write(p));
        // Some writers die after the commit, or never learn of it: only the outbox has the change then.
        if changed.is_empty() || self.rng.f64() < self.profile.writer_deaths {
            return;
        }
        let wait = self.delay() + self.step();
        self.after(wait, Event::Committed { process: p, keys: changed });
    }

    /// The commit was answered: `wrote` or `touched`, then the reply, then everyone is notified.
    pub(crate) fn committed(&mut self, p: usize, keys: Vec<(usize, Option<i64>, usize)>) {
        let now = self.mono(p);
        for (key, version, place) in keys {
            // Guard: the reply would come before the watermark, and the writer's next read in this process could be older.
            if enforced(Guard::WroteFirst) {
                match version {
                    Some(version) => self.raise(p, key, version),
                    None => {
                        self.processes[p].watermarks.put_barrier(&key, now);
                        self.processes[p].l1.remove(&key);
                    }
                }
            }
            self.checker.replied(p, key, place, version);
            if let Some(version) = version {
                self.reply_through(key, version, place);
            }
            let wait = self.step();
            self.after(wait, Event::Spread { process: p, key, version });
            if version.is_none() && self.rng.bool() {
                self.query_postgres(Query::Version { key }, Caller::Token(p, key));
            }
        }
        if self.processes[p].term.is_some() {
            self.wake_relay(p);
        }
    }

    /// The hint to all processes and the APPLY in Redis, in the background.
    pub(crate) fn spread(&mut self, p: usize, key: usize, version: Option<i64>) {
        for q in 0..self.processes.len() {
            if self.rng.f64() >= self.profile.nats_loss && self.processes[q].nats_cut_until <= self.now {
                let wait = self.delay();
                self.after(wait, Event::Hint { process: q, key, version });
            }
        }
        self.call_redis(p, RedisCall::Apply { space: None, changes: vec![(key, version)] }, Caller::Nobody(p));
    }
}
