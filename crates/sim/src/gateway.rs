//! A gateway: a process without a database and without Redis, which loads and reads through the others, as
//! `gateway/src/forward/answers.rs` does it.

use coherence::BOUND;
use coherence::entry::Entry;
use coherence::guards::Guard;
use coherence::in_flight::Reader;
use coherence::read::Tier;
use coherence::time::{Mono, PgTime};
use coherence::watermarks::Requirement;

use crate::body::Body;
use crate::checker::CheckedRead;
use crate::events::Event;
use crate::removable::enforced;
use crate::simulation::Simulation;
use crate::time::{MS, SECOND, Time};

impl Simulation {
    /// The version that was written through a process.
    pub(crate) fn written(&self, p: usize, key: usize) -> i64 {
        // Guard: whoever wrote through the gateway would read there what was before.
        let binds = enforced(Guard::WrittenThrough);
        self.processes[p].written.get(&key).copied().filter(|_| binds).unwrap_or(0)
    }

    /// Whether a service answers this reader: nothing is proven here, and no answer binds it but by a version.
    pub(crate) fn passes(&self, read: &CheckedRead) -> bool {
        let process = &self.processes[read.process];
        let now = process.mono(self.now);
        let fresh = process.window.at().and_then(|at| process.clock.instant(at, now));
        let is_proving = fresh.is_some_and(|fresh| now.since(fresh) < BOUND);
        let known = process.watermarks.requirement(&read.key, now);
        !is_proving && known.barrier == Mono::PAST && known.absence_barrier == Mono::PAST
    }

    /// Asks a service, with a token of what was answered here.
    pub(crate) fn pass(&mut self, read: CheckedRead) {
        let now = self.mono(read.process);
        let known = self.processes[read.process].watermarks.requirement(&read.key, now);
        let required = known.min_version.max(read.reader.requirement.min_version);
        // Guard: the service's proof may be older than what was answered or written here.
        let min_version = if enforced(Guard::AskedElsewhere) { required } else { 0 };
        let services = self.processes.len() - 1;
        let process = self.rng.usize(0..services);
        let there = self.delay();
        self.after(there, Event::ReadElsewhere { process, read: Box::new(read), min_version });
    }

    /// A service begins a read for a gateway's reader.
    pub(crate) fn read_elsewhere(&mut self, p: usize, reader: Box<CheckedRead>, min_version: i64) {
        let (begun, key) = (self.mono(p), reader.key);
        let known = self.processes[p].watermarks.requirement(&key, begun);
        let requirement = known.and(Requirement::version(min_version));
        let incarnation = self.processes[p].incarnation;
        let own = Reader::new(begun, requirement);
        let mut read = self.checker.begin(&self.postgres, p, incarnation, key, self.now, own, None);
        read.passed_to = Some(reader);
        self.read_l1(read);
    }

    /// Its answer goes out of the gateway.
    pub(crate) fn passed_on(&mut self, read: &CheckedRead, entry: &Entry<Body>, tier: Tier) {
        let p = read.process;
        if read.incarnation != self.processes[p].incarnation {
            return;
        }
        // Guard: the window may open again with a proof that is older than this answer.
        if enforced(Guard::PassedOn) {
            if entry.version > 0 {
                self.raise(p, read.key, entry.version);
            } else {
                let now = self.mono(p);
                self.processes[p].watermarks.put_barrier(&read.key, now);
                self.processes[p].l1.remove(&read.key);
            }
        }
        self.checker.answered(&self.postgres, read, entry.version, entry.body, tier, self.now);
    }

    /// Half of the writers call through the gateway.
    pub(crate) fn reply_through(&mut self, key: usize, version: i64, place: usize) {
        if let Some(process) = self.gateway.filter(|_| self.rng.bool()) {
            let there = self.delay();
            self.after(there, Event::WrittenThrough { process, key, version, place });
        }
    }

    pub(crate) fn written_through(&mut self, p: usize, key: usize, version: i64, place: usize) {
        let written = self.processes[p].written.entry(key).or_default();
        *written = (*written).max(version);
        self.checker.written_through(p, key, place);
    }

    /// Asks a service for its bounds of PostgreSQL's clock.
    pub(crate) fn ask_for_clock(&mut self, p: usize) {
        let asked = self.now;
        let lost = self.processes[p].nats_cut_until > asked || self.rng.f64() < self.profile.nats_loss;
        if lost {
            return self.after(250 * MS, Event::Sample(p));
        }
        let services = self.processes.len() - 1;
        let (there, process) = (self.delay(), self.rng.usize(0..services));
        self.after(there, Event::ClockAsked { process, asked });
    }

    pub(crate) fn clock_asked(&mut self, q: usize, asked: Time) {
        let Some(p) = self.gateway else { return };
        let process = &self.processes[q];
        let (bounds, sampled) = (process.clock.bounds(process.mono(self.now)), process.sampled);
        let back = self.delay();
        match bounds {
            Some(bounds) => self.after(back, Event::ClockAnswered { process: p, asked, bounds, sampled }),
            None => self.after(250 * MS, Event::Sample(p)),
        }
    }

    pub(crate) fn clock_answered(&mut self, p: usize, asked: Time, bounds: (PgTime, PgTime), sampled: Time) {
        // A question has a timeout of a second.
        if self.now - asked > SECOND {
            return self.after(250 * MS, Event::Sample(p));
        }
        self.take_reading(p, asked, bounds, sampled);
    }
}
