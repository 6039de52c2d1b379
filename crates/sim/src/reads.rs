//! Reads: from a reader's start to the answer of L1 or of a load, as `cache/src/{cache,miss}.rs` do it.

use coherence::entry::{Entry, Freshness, freshness};
use coherence::in_flight::Reader;
use coherence::read::Tier;
use coherence::watermarks::Requirement;

use crate::body::Body;
use crate::checker::CheckedRead;
use crate::events::{Event, Outcome, Role};
use crate::simulation::Simulation;

impl Simulation {
    /// A reader begins, some with a token.
    pub(crate) fn read(&mut self, p: usize) {
        let key = self.rng.usize(0..self.postgres.keys.len());
        let begun = self.mono(p);
        let known = self.processes[p].watermarks.requirement(&key, begun);
        let token = if self.rng.u8(0..6) == 0 { self.checker.some_token(&mut self.rng, key) } else { None };
        let written = self.written(p, key);
        let requirement = known.and(Requirement::version(written.max(token.map_or(0, |token| token.version))));
        let reader = Reader::new(begun, requirement);
        let incarnation = self.processes[p].incarnation;
        let read = self.checker.begin(&self.postgres, p, incarnation, key, self.now, reader, token);
        let wait = self.step();
        self.after(wait, Event::ReadL1(read));
        let next = self.profile.read_every;
        let next = self.rng.i64(0..2 * next);
        self.after(next, Event::Read(p));
    }

    /// L1 answers, or the reader joins or starts a load.
    pub(crate) fn read_l1(&mut self, read: CheckedRead) {
        let p = read.process;
        if read.incarnation != self.processes[p].incarnation {
            return;
        }
        if self.gateway == Some(p) && self.passes(&read) {
            return self.pass(read);
        }
        let process = &self.processes[p];
        let mut unproven = None;
        if let Some(entry) = process.l1.get(&read.key) {
            let Reader { requirement, begun, .. } = read.reader;
            match freshness(entry, &process.window, &process.clock, requirement, begun) {
                Freshness::Proven(_) => {
                    let entry = entry.clone();
                    return self.serve(&read, &entry, Tier::L1);
                }
                Freshness::Unproven => unproven = Some(entry.clone()),
                Freshness::TooOld => {}
            }
        }
        self.join_or_start(read, unproven, 0);
    }

    fn serve(&mut self, read: &CheckedRead, entry: &Entry<Body>, tier: Tier) {
        self.checker.answered(&self.postgres, read, entry.version, entry.body, tier, self.now);
        if let Some(reader) = &read.passed_to {
            let back = self.delay() + self.step();
            self.after(back, Event::PassedOn { read: (**reader).clone(), entry: entry.clone(), tier });
        }
    }

    /// The load that a reader waits for has finished.
    pub(crate) fn load_finished(&mut self, read: CheckedRead, outcome: Outcome, role: Role) {
        if read.incarnation != self.processes[read.process].incarnation {
            return;
        }
        match (outcome, role) {
            (Some(answer), Role::Starter) => self.serve(&read, &answer.entry, answer.tier),
            (Some(answer), Role::Joiner { joins, unproven }) => {
                if read.reader.accepts(answer.entry.version, answer.fresh) {
                    self.serve(&read, &answer.entry, answer.tier);
                } else {
                    self.join_or_start(read, unproven, joins + 1);
                }
            }
            // The load failed: its own reader fails with it, one that joined tries again.
            (None, Role::Starter) => {}
            (None, Role::Joiner { joins, unproven }) => self.join_or_start(read, unproven, joins + 1),
        }
    }
}
