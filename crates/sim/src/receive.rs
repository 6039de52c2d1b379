//! What a process receives: hints, the relay's messages and readings of PostgreSQL's clock, as `cache/src/{inner,clock}.rs` take them.

use coherence::clock::{Reading, Sample};
use coherence::guards::Guard;
use coherence::time::PgTime;
use coherence::window::Notice;

use crate::events::{Caller, Event, Query};
use crate::removable::enforced;
use crate::simulation::Simulation;
use crate::time::{MS, SECOND, Time};

impl Simulation {
    pub(crate) fn hint(&mut self, p: usize, key: usize, version: Option<i64>) {
        if let Some(version) = version {
            self.raise(p, key, version);
        }
        self.wake_relay(p);
    }

    /// `Inner::raise`.
    pub(crate) fn raise(&mut self, p: usize, key: usize, version: i64) {
        let now = self.mono(p);
        let process = &mut self.processes[p];
        process.watermarks.raise(&key, version, now);
        if process.l1.get(&key).is_some_and(|entry| entry.version < version) {
            process.l1.remove(&key);
        }
    }

    pub(crate) fn raise_all(&mut self, p: usize, changes: &[(usize, i64)]) {
        for (key, version) in changes {
            self.raise(p, *key, *version);
        }
    }

    /// `Inner::receive`; `direct` is what a leader receives of itself.
    pub(crate) fn receive(&mut self, p: usize, notice: Notice, changes: Vec<(usize, i64)>, direct: bool) {
        if !direct && self.processes[p].nats_cut_until > self.now {
            return;
        }
        // Guard: the window would vouch for changes that are not applied yet.
        if enforced(Guard::ReceiveOrder) {
            self.raise_all(p, &changes);
        } else {
            let later = self.step();
            self.after(later, Event::ApplyLate { process: p, changes });
        }
        let now = self.mono(p);
        let process = &mut self.processes[p];
        let contradicts = notice.at != PgTime::PAST && process.clock.contradicts(notice.at, now);
        // Guard: the clock was stepped forward, and our estimate makes every proof since then look young.
        if contradicts && enforced(Guard::ClockContradicted) {
            process.clock.distrust();
            process.window.close();
            self.after(MS, Event::Sample(p));
            return;
        }
        process.window.receive(&notice);
    }

    /// Asks for a reading of PostgreSQL's clock.
    pub(crate) fn sample(&mut self, p: usize) {
        if self.gateway == Some(p) {
            return self.ask_for_clock(p);
        }
        self.query_postgres(Query::Clock, Caller::Sampler(p, self.now));
    }

    pub(crate) fn sampled(&mut self, p: usize, asked: Time, showed: Option<PgTime>) {
        // A reading has a timeout of a second.
        let Some(showed) = showed.filter(|_| self.now - asked <= SECOND) else {
            return self.after(250 * MS, Event::Sample(p));
        };
        self.take_reading(p, asked, (showed, showed), asked);
    }

    /// `Inner::sampled`: what was asked for at `asked` is bounded so by a reading that was asked for at `sampled`.
    pub(crate) fn take_reading(&mut self, p: usize, asked: Time, (lower, upper): (PgTime, PgTime), sampled: Time) {
        let process = &mut self.processes[p];
        let sample = Sample { asked: process.mono(asked), answered: process.mono(self.now), lower, upper };
        if process.clock.sampled(sample) == Reading::Stepped {
            process.window.close();
        }
        process.sampled = sampled;
        self.checker.sampled(p, sampled, self.now);
        self.after(self.profile.sample_every, Event::Sample(p));
    }
}
