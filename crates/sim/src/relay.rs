//! The relay's loop, step by step, as `cache/src/relay.rs` runs it.
//!
//! Order: drain, apply, prove, publish, receive, fold; after a fold in doubt the epoch is given up.

use coherence::guards::Guard;
use coherence::relay::{Pass, Redis};
use coherence::time::PgTime;

use crate::postgres::{MS, Outbox, SECOND, Time};
use crate::redis::Proof;
use crate::removable::{Removable, enforced};
use crate::world::{Ask, Caller, Query, Rows, Session, What, World};

/// A leadership, and where its pass stands.
#[derive(Clone, Debug)]
pub(crate) struct Reign {
    epoch: i64,
    before: PgTime,
    renewed: Time,
    at: At,
}

#[derive(Clone, Debug)]
enum At {
    Idle,
    Drain,
    Apply(Passing),
    Prove(Passing),
    /// About to fold.
    Told(Passing),
    Fold(Passing),
    Renew,
}

/// A pass under way.
#[derive(Clone, Debug)]
struct Passing {
    pass: Pass<Removable>,
    outbox: Outbox,
    session: Option<Session>,
    complete: bool,
    applied: bool,
    /// In a world that folds first, what is left to do is done after the fold.
    folded: bool,
}

impl World {
    /// A process tries to lead, or begins a pass.
    pub(crate) fn relay(&mut self, p: usize) {
        let owner = p;
        match &mut self.processes[p].reign {
            None => {
                let epoch = self.rng.i64(1..i64::MAX);
                // What the answer will say belongs to this epoch.
                self.processes[p].reign = Some(Reign { epoch, before: PgTime::PAST, renewed: self.now, at: At::Idle });
                let caller = Caller::Relay(p, self.processes[p].life);
                self.ask_postgres(Query::Take { epoch, owner }, caller);
            }
            Some(reign) if matches!(reign.at, At::Idle) && reign.before != PgTime::PAST || is_led(reign) => {
                reign.at = At::Drain;
                let caller = Caller::Relay(p, self.processes[p].life);
                self.ask_postgres(Query::Begin, caller);
            }
            Some(_) => {}
        }
    }

    /// A change was made: the leader does not wait for its next tick.
    pub(crate) fn wake(&mut self, p: usize) {
        if self.processes[p].reign.as_ref().is_some_and(is_led) {
            self.after(3 * MS, What::Relay(p));
        }
    }

    fn step_down(&mut self, p: usize) {
        self.processes[p].reign = None;
        self.after(3 * MS, What::Relay(p));
    }

    pub(crate) fn relay_told_rows(&mut self, p: usize, rows: Option<Rows>) {
        let Some(mut reign) = self.processes[p].reign.take() else { return };
        match (std::mem::replace(&mut reign.at, At::Idle), rows) {
            // The lease was asked for.
            (At::Idle, Some(Rows::Mine(true))) => {
                reign.before = PgTime(i64::MIN + 1);
                self.processes[p].reign = Some(reign);
                self.after(0, What::Relay(p));
            }
            (At::Idle, _) => self.after(250 * MS, What::Relay(p)),
            (At::Drain, Some(Rows::Drained(drained, outbox))) => {
                let session = self.session(p);
                let run = session.map(|session| session.run.to_string());
                let redis = run.as_deref().map_or(Redis::Away, Redis::Run);
                let Ok(pass) = Pass::plan(&drained, reign.epoch, reign.before, redis) else {
                    return self.step_down(p);
                };
                reign.before = drained.at;
                let complete = drained.complete;
                let passing = Passing { pass, outbox, session, complete, applied: false, folded: false };
                self.processes[p].reign = Some(reign);
                if enforced(Guard::FoldLast) { self.tell_redis(p, passing) } else { self.fold(p, passing) }
            }
            (At::Drain, _) => {
                self.processes[p].reign = Some(reign);
                self.after(50 * MS, What::Relay(p));
            }
            (At::Fold(passing), Some(Rows::Mine(true))) => {
                reign.renewed = self.now;
                self.processes[p].reign = Some(reign);
                self.passed(p, passing);
            }
            (At::Fold(passing), None) if !enforced(Guard::FoldInDoubt) => {
                self.processes[p].reign = Some(reign);
                self.passed(p, passing);
            }
            (At::Fold(_), _) | (At::Renew, Some(Rows::Mine(false))) => self.step_down(p),
            (At::Renew, mine) => {
                if mine.is_some() {
                    reign.renewed = self.now;
                }
                self.processes[p].reign = Some(reign);
                self.after(50 * MS, What::Relay(p));
            }
            (at, _) => {
                reign.at = at;
                self.processes[p].reign = Some(reign);
            }
        }
    }

    fn stand(&mut self, p: usize, at: At) {
        if let Some(reign) = &mut self.processes[p].reign {
            reign.at = at;
        }
    }

    fn tell_redis(&mut self, p: usize, mut passing: Passing) {
        let Some(session) = passing.session else {
            return self.publish(p, passing);
        };
        if let Some(space) = passing.pass.applies() {
            let changes = passing.outbox.changes.iter().map(|(key, version)| (*key, Some(*version))).collect();
            let cut = self.processes[p].redis_cut_until > self.now;
            self.stand(p, At::Apply(passing));
            let caller = Caller::Relay(p, self.processes[p].life);
            return self.ask_on(session, cut, Ask::Apply { space: Some(space), changes }, caller);
        }
        passing.applied = true;
        self.prove(p, passing, session);
    }

    fn prove(&mut self, p: usize, passing: Passing, session: Session) {
        let Some(space) = passing.pass.proves(passing.applied) else {
            return self.publish(p, passing);
        };
        let notice = passing.pass.notice();
        let proof = Proof { epoch: notice.epoch, seq: notice.seq, at: notice.at, space };
        let cut = self.processes[p].redis_cut_until > self.now;
        self.stand(p, At::Prove(passing));
        let caller = Caller::Relay(p, self.processes[p].life);
        self.ask_on(session, cut, Ask::Fresh { proof }, caller);
    }

    pub(crate) fn relay_told_redis(&mut self, p: usize, done: bool) {
        let Some(reign) = &mut self.processes[p].reign else { return };
        match std::mem::replace(&mut reign.at, At::Idle) {
            At::Apply(mut passing) => {
                passing.applied = done;
                match passing.session {
                    Some(session) => self.prove(p, passing, session),
                    None => self.publish(p, passing),
                }
            }
            At::Prove(passing) => self.publish(p, passing),
            at => reign.at = at,
        }
    }

    fn publish(&mut self, p: usize, passing: Passing) {
        let notice = passing.pass.notice();
        let changes = passing.outbox.changes.clone();
        for q in 0..self.processes.len() {
            let copies = 1 + u8::from(self.rng.f64() < self.weather.nats_double);
            for _ in 0..copies {
                if self.rng.f64() < self.weather.nats_loss {
                    continue;
                }
                let wait = self.delay() + self.step();
                let changes = changes.clone();
                self.after(wait, What::Hear { process: q, notice, changes, direct: false });
            }
        }
        self.after(0, What::Hear { process: p, notice, changes, direct: true });
        if passing.folded {
            return self.again(p, passing.complete);
        }
        // Here a leader may fall asleep.
        self.stand(p, At::Told(passing));
        let wait =
            self.step() + if self.rng.f64() < self.weather.sleepy_leader { self.rng.i64(0..4 * SECOND) } else { 0 };
        self.after(wait, What::Fold(p));
    }

    pub(crate) fn relay_folds(&mut self, p: usize) {
        let Some(reign) = &mut self.processes[p].reign else { return };
        match std::mem::replace(&mut reign.at, At::Idle) {
            At::Told(passing) => self.fold(p, passing),
            at => reign.at = at,
        }
    }

    fn fold(&mut self, p: usize, passing: Passing) {
        let Some(reign) = &mut self.processes[p].reign else { return };
        let (epoch, owner) = (reign.epoch, p);
        // A world that folds first believes that the rest will follow.
        let applied = passing.applied || !enforced(Guard::FoldLast);
        if let Some(fold) = passing.pass.fold(applied) {
            let ids = passing.outbox.ids.clone();
            reign.at = At::Fold(passing);
            let space = self.rng.i64(2..i64::MAX);
            let caller = Caller::Relay(p, self.processes[p].life);
            return self.ask_postgres(Query::Fold { epoch, owner, fold, space, ids }, caller);
        }
        if self.now - reign.renewed > 500 * MS {
            reign.at = At::Renew;
            let caller = Caller::Relay(p, self.processes[p].life);
            return self.ask_postgres(Query::Renew { epoch, owner }, caller);
        }
        self.passed(p, passing);
    }

    fn passed(&mut self, p: usize, mut passing: Passing) {
        if !enforced(Guard::FoldLast) {
            passing.folded = true;
            return self.tell_redis(p, passing);
        }
        self.again(p, passing.complete);
    }

    fn again(&mut self, p: usize, complete: bool) {
        self.stand(p, At::Idle);
        self.after(if complete { 50 * MS } else { MS }, What::Relay(p));
    }
}

/// Whether the lease was granted and no pass is under way.
fn is_led(reign: &Reign) -> bool {
    matches!(reign.at, At::Idle) && reign.before != PgTime::PAST
}
