//! The relay's loop, step by step, as `cache/src/relay.rs` runs it.
//!
//! Order: drain, apply, prove, publish, receive, compact; after a compaction in doubt the term ends.

use coherence::guards::Guard;
use coherence::relay::{Pass, Redis};
use coherence::time::PgTime;

use crate::events::{Caller, Event, Query, RedisCall, Rows, Session};
use crate::redis::Proof;
use crate::removable::enforced;
use crate::simulation::Simulation;
use crate::term::{RunningPass, Term, TermStep};
use crate::time::{MS, SECOND};

impl Simulation {
    /// A process tries to lead, or begins a pass.
    pub(crate) fn relay(&mut self, p: usize) {
        let caller = self.relay_of(p);
        match &mut self.processes[p].term {
            None => {
                let epoch = self.rng.i64(1..i64::MAX);
                let term = Term { epoch, last_drain: PgTime::PAST, renewed: self.now, step: TermStep::Idle };
                self.processes[p].term = Some(term);
                self.query_postgres(Query::TakeLease { epoch, owner: p }, caller);
            }
            Some(term) if term.is_idle() => {
                term.step = TermStep::Drain;
                self.query_postgres(Query::Begin, caller);
            }
            Some(_) => {}
        }
    }

    fn relay_of(&self, p: usize) -> Caller {
        Caller::Relay(p, self.processes[p].incarnation)
    }

    /// A change was made: the leader does not wait for its next tick.
    pub(crate) fn wake_relay(&mut self, p: usize) {
        if self.processes[p].term.as_ref().is_some_and(Term::is_idle) {
            self.after(3 * MS, Event::Relay(p));
        }
    }

    fn step_down(&mut self, p: usize) {
        self.processes[p].term = None;
        self.after(3 * MS, Event::Relay(p));
    }

    pub(crate) fn postgres_replied_to_relay(&mut self, p: usize, rows: Option<Rows>) {
        let Some(mut term) = self.processes[p].term.take() else { return };
        match (std::mem::replace(&mut term.step, TermStep::Idle), rows) {
            // The answer to the lease that was asked for.
            (TermStep::Idle, Some(Rows::Leads(true))) => {
                // Before every drain, and not before the lease.
                term.last_drain = PgTime(i64::MIN + 1);
                self.processes[p].term = Some(term);
                self.after(0, Event::Relay(p));
            }
            (TermStep::Idle, _) => self.after(250 * MS, Event::Relay(p)),
            (TermStep::Drain, Some(Rows::Drained(drained, outbox))) => {
                let session = self.session(p);
                let run = session.map(|session| session.run.to_string());
                let redis = run.as_deref().map_or(Redis::Unreachable, Redis::Run);
                let Ok(pass) = Pass::plan(&drained, term.epoch, term.last_drain, redis) else {
                    return self.step_down(p);
                };
                term.last_drain = drained.at;
                let complete = drained.complete;
                let running = RunningPass { pass, outbox, session, complete, applied: false, compacted: false };
                self.processes[p].term = Some(term);
                // Guard: compacted changes are not drained again, so a leader that dies in between leaves them unpublished.
                if enforced(Guard::CompactLast) { self.apply(p, running) } else { self.compact(p, running) }
            }
            (TermStep::Drain, _) => {
                self.processes[p].term = Some(term);
                self.after(50 * MS, Event::Relay(p));
            }
            (TermStep::Compact(running), Some(Rows::Leads(true))) => {
                term.renewed = self.now;
                self.processes[p].term = Some(term);
                self.compacted(p, running);
            }
            // Guard: the next pass might publish this one's number again, with other changes.
            (TermStep::Compact(running), None) if !enforced(Guard::CompactInDoubt) => {
                self.processes[p].term = Some(term);
                self.compacted(p, running);
            }
            (TermStep::Compact(_), _) | (TermStep::Renew, Some(Rows::Leads(false))) => self.step_down(p),
            (TermStep::Renew, leads) => {
                if leads.is_some() {
                    term.renewed = self.now;
                }
                self.processes[p].term = Some(term);
                self.after(50 * MS, Event::Relay(p));
            }
            (step, _) => {
                term.step = step;
                self.processes[p].term = Some(term);
            }
        }
    }

    fn set_step(&mut self, p: usize, step: TermStep) {
        if let Some(term) = &mut self.processes[p].term {
            term.step = step;
        }
    }

    fn apply(&mut self, p: usize, mut running: RunningPass) {
        let Some(session) = running.session else {
            return self.publish(p, running);
        };
        if let Some(space) = running.pass.applies() {
            let changes = running.outbox.changes.iter().map(|(key, version)| (*key, Some(*version))).collect();
            let cut = self.processes[p].redis_cut_until > self.now;
            self.set_step(p, TermStep::Apply(running));
            let caller = self.relay_of(p);
            return self.call_on(session, cut, RedisCall::Apply { space: Some(space), changes }, caller);
        }
        running.applied = true;
        self.prove(p, running, session);
    }

    fn prove(&mut self, p: usize, running: RunningPass, session: Session) {
        let Some(space) = running.pass.proves(running.applied) else {
            return self.publish(p, running);
        };
        let notice = running.pass.notice();
        let proof = Proof { epoch: notice.epoch, seq: notice.seq, at: notice.at, space };
        let cut = self.processes[p].redis_cut_until > self.now;
        self.set_step(p, TermStep::Prove(running));
        let caller = self.relay_of(p);
        self.call_on(session, cut, RedisCall::Prove { proof }, caller);
    }

    pub(crate) fn redis_replied_to_relay(&mut self, p: usize, done: bool) {
        let Some(term) = &mut self.processes[p].term else { return };
        match std::mem::replace(&mut term.step, TermStep::Idle) {
            TermStep::Apply(mut running) => {
                running.applied = done;
                match running.session {
                    Some(session) => self.prove(p, running, session),
                    None => self.publish(p, running),
                }
            }
            TermStep::Prove(running) => self.publish(p, running),
            step => term.step = step,
        }
    }

    fn publish(&mut self, p: usize, running: RunningPass) {
        let notice = running.pass.notice();
        let changes = running.outbox.changes.clone();
        for q in 0..self.processes.len() {
            let copies = 1 + u8::from(self.rng.f64() < self.profile.nats_duplicates);
            for _ in 0..copies {
                if self.rng.f64() < self.profile.nats_loss {
                    continue;
                }
                let wait = self.delay() + self.step();
                let changes = changes.clone();
                self.after(wait, Event::Receive { process: q, notice, changes, direct: false });
            }
        }
        self.after(0, Event::Receive { process: p, notice, changes, direct: true });
        if running.compacted {
            return self.next_pass(p, running.complete);
        }
        self.set_step(p, TermStep::Published(running));
        let step = self.step();
        let pause = if self.rng.f64() < self.profile.leader_pauses { self.rng.i64(0..4 * SECOND) } else { 0 };
        self.after(step + pause, Event::Compact(p));
    }

    /// The leader's pause before the compaction is over.
    pub(crate) fn relay_compacts(&mut self, p: usize) {
        let Some(term) = &mut self.processes[p].term else { return };
        match std::mem::replace(&mut term.step, TermStep::Idle) {
            TermStep::Published(running) => self.compact(p, running),
            step => term.step = step,
        }
    }

    fn compact(&mut self, p: usize, running: RunningPass) {
        let caller = self.relay_of(p);
        let Some(term) = &mut self.processes[p].term else { return };
        let (epoch, owner) = (term.epoch, p);
        // Whoever compacts first believes that the rest will succeed.
        let applied = running.applied || !enforced(Guard::CompactLast);
        if let Some(compaction) = running.pass.compaction(applied) {
            let ids = running.outbox.ids.clone();
            term.step = TermStep::Compact(running);
            let space = self.rng.i64(2..i64::MAX);
            return self.query_postgres(Query::Compact { epoch, owner, compaction, space, ids }, caller);
        }
        if self.now - term.renewed > 500 * MS {
            term.step = TermStep::Renew;
            return self.query_postgres(Query::RenewLease { epoch, owner }, caller);
        }
        self.compacted(p, running);
    }

    fn compacted(&mut self, p: usize, mut running: RunningPass) {
        if !enforced(Guard::CompactLast) {
            running.compacted = true;
            return self.apply(p, running);
        }
        self.next_pass(p, running.complete);
    }

    fn next_pass(&mut self, p: usize, complete: bool) {
        self.set_step(p, TermStep::Idle);
        self.after(if complete { 50 * MS } else { MS }, Event::Relay(p));
    }
}
