//! Takes one event after the other, and gives each to what it happens to.

use crate::events::Event;
use crate::simulation::Simulation;
use crate::time::MS;

impl Simulation {
    /// Runs until the seed's time is over, or a promise is broken.
    pub(crate) fn run(&mut self) {
        while let Some((at, event)) = self.queue.next() {
            if at > self.profile.length || self.checker.violation.is_some() {
                return;
            }
            self.now = at;
            // What happens to a paused process happens when it resumes, in an order that is drawn.
            if let Some(p) = self.process_at(&event)
                && self.processes[p].paused_until > self.now
            {
                let until = self.processes[p].paused_until;
                let wait = self.rng.i64(0..MS);
                self.at(until + wait, event);
                continue;
            }
            self.dispatch(event);
        }
    }

    fn dispatch(&mut self, event: Event) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>12.3} ms  {event:?}", self.now as f64 / MS as f64));
        }
        match event {
            Event::Read(p) => self.read(p),
            Event::ReadL1(read) => self.read_l1(read),
            Event::Write(p) => self.write(p),
            Event::Committed { process, keys } => self.committed(process, keys),
            Event::Spread { process, key, version } => self.spread(process, key, version),
            Event::ReadElsewhere { process, read, min_version } => self.read_elsewhere(process, read, min_version),
            Event::PassedOn { read, entry, tier } => self.passed_on(&read, &entry, tier),
            Event::WrittenThrough { process, key, version, place } => {
                self.written_through(process, key, version, place);
            }
            Event::ClockAsked { process, asked } => self.clock_asked(process, asked),
            Event::ClockAnswered { process, asked, bounds, sampled } => {
                self.clock_answered(process, asked, bounds, sampled);
            }
            Event::LoadStarted(load) => self.load_started(load),
            Event::AskRedisAgain(load) => self.load_asks_redis(load),
            Event::Answered { load, answer } => self.load_answered(load, answer),
            Event::LoadFinished { read, outcome, role } => self.load_finished(read, outcome, role),
            Event::RedisCalled { session, call, caller, reply_in } => {
                self.redis_called(session, call, caller, reply_in);
            }
            Event::RedisReplied { caller, reply, session } => self.redis_replied(caller, reply, session),
            Event::PostgresQueried { query, caller, reply_in, lost } => {
                self.postgres_queried(query, caller, reply_in, lost);
            }
            Event::PostgresReplied { caller, rows } => self.postgres_replied(caller, rows),
            Event::Receive { process, notice, changes, direct } => self.receive(process, notice, changes, direct),
            Event::ApplyLate { process, changes } => self.raise_all(process, &changes),
            Event::Hint { process, key, version } => self.hint(process, key, version),
            Event::Relay(p) => self.relay(p),
            Event::Compact(p) => self.relay_compacts(p),
            Event::Sample(p) => self.sample(p),
            Event::Replicate => {
                self.replica = self.servers[self.current].memory.clone();
                let next = self.rng.i64(50 * MS..900 * MS);
                self.after(next, Event::Replicate);
            }
            Event::Fault(fault) => self.inject(fault),
        }
    }
}
