//! One process: its clock, window, floors and L1, and what `cache/src/{cache,inner,clock}.rs` do with them.

use std::collections::HashMap;
use std::hash::RandomState;

use coherence::clock::{Clock, Reading as ClockReading, Sample};
use coherence::entry::{Entry, Verdict, judge};
use coherence::flights::{Flights, Reader};
use coherence::floors::{Demand, Floors};
use coherence::guards::Guard;
use coherence::read::Tier;
use coherence::time::{Mono, PgTime};
use coherence::window::{Notice, Window};

use crate::check::Reading;
use crate::flights::{Outcome, Tell};
use crate::postgres::{Kind, MS, SECOND, Time};
use crate::relay::Reign;
use crate::removable::{Removable, enforced};
use crate::world::{Ask, Body, Caller, Query, Session, What, World};

/// One process.
pub(crate) struct Process {
    /// Where its monotonic clock began, and how much too fast it runs.
    origin: Time,
    ppm: i64,
    /// Raised when it begins anew; what its former life left under way is nobody's.
    pub(crate) life: u32,
    pub(crate) clock: Clock<Removable>,
    pub(crate) window: Window<Removable>,
    pub(crate) floors: Floors<usize, RandomState, Removable>,
    pub(crate) flights: Flights<usize, usize, Removable>,
    pub(crate) l1: HashMap<usize, Entry<Body>>,
    pub(crate) session: Option<Session>,
    pub(crate) reign: Option<Reign>,
    pub(crate) paused_until: Time,
    pub(crate) silent_until: Time,
    pub(crate) redis_cut_until: Time,
}

impl Process {
    pub(crate) fn new(_: usize, origin: Time, ppm: i64) -> Self {
        Self {
            origin,
            ppm,
            life: 0,
            clock: Clock::default(),
            window: Window::default(),
            floors: Floors::default(),
            flights: Flights::default(),
            l1: HashMap::new(),
            session: None,
            reign: None,
            paused_until: 0,
            silent_until: 0,
            redis_cut_until: 0,
        }
    }

    /// What its monotonic clock shows.
    pub(crate) fn mono(&self, at: Time) -> Mono {
        let run = i128::from(at) * i128::from(1_000_000 + self.ppm) / 1_000_000;
        Mono(self.origin + i64::try_from(run).unwrap_or(i64::MAX))
    }
}

impl World {
    pub(crate) fn mono(&self, p: usize) -> Mono {
        self.processes[p].mono(self.now)
    }

    /// Forgets what a process knew.
    pub(crate) fn restart(&mut self, p: usize) {
        let old = &self.processes[p];
        let mut new = Process::new(p, old.origin, old.ppm);
        new.life = old.life + 1;
        self.processes[p] = new;
        self.checker.restarted(p);
        self.after(MS, What::Sample(p));
        if p < 2 {
            self.after(10 * MS, What::Relay(p));
        }
    }

    /// A reader begins: `Cache::get`, `try_l1`.
    pub(crate) fn read(&mut self, p: usize) {
        let key = self.rng.usize(0..self.postgres.keys.len());
        let begun = self.mono(p);
        let floor = self.processes[p].floors.demand(&key, begun);
        let token = if self.rng.u8(0..6) == 0 { self.checker.some_token(&mut self.rng, key) } else { None };
        let least = token.map_or(0, |token| token.version);
        let demand = floor.and(Demand { version: least, since: Mono::PAST, ..Demand::NONE });
        let reading = self.checker.begin(
            &self.postgres,
            p,
            self.processes[p].life,
            key,
            self.now,
            Reader::new(begun, demand),
            token,
        );
        let wait = self.step();
        self.after(wait, What::Look(reading));
        let next = self.weather.read_every;
        let next = self.rng.i64(0..2 * next);
        self.after(next, What::Read(p));
    }

    /// The look into L1, then onto a flight.
    pub(crate) fn look(&mut self, reading: Reading) {
        let p = reading.process;
        if reading.life != self.processes[p].life {
            return;
        }
        let process = &self.processes[p];
        let mut at_hand = None;
        if let Some(entry) = process.l1.get(&reading.key) {
            match judge(entry, &process.window, &process.clock, reading.reader.demand, reading.reader.begun) {
                Verdict::Serve(_) => {
                    let entry = entry.clone();
                    return self.serve(&reading, &entry, Tier::L1);
                }
                Verdict::Unproven => at_hand = Some(entry.clone()),
                Verdict::Useless => {}
            }
        }
        self.board(reading, at_hand, 0);
    }

    pub(crate) fn serve(&mut self, reading: &Reading, entry: &Entry<Body>, tier: Tier) {
        self.checker.answered(&self.postgres, reading, entry.version, entry.body, tier, self.now);
    }

    /// A reader whose flight has landed.
    pub(crate) fn landed(&mut self, reading: Reading, outcome: Outcome, tell: Tell) {
        if reading.life != self.processes[reading.process].life {
            return;
        }
        match (outcome, tell) {
            (Some(answer), Tell::Own) => self.serve(&reading, &answer.entry, answer.tier),
            (Some(answer), Tell::Joined { times, at_hand }) => {
                let (version, fresh) = (answer.entry.version, answer.fresh);
                if reading.reader.accepts(version, fresh) {
                    self.serve(&reading, &answer.entry, answer.tier);
                } else {
                    self.board(reading, at_hand, times + 1);
                }
            }
            // The load failed: its own reader is told so, a joiner tries again.
            (None, Tell::Own) => {}
            (None, Tell::Joined { times, at_hand }) => self.board(reading, at_hand, times + 1),
        }
    }

    /// A writer commits: one or two keys in one transaction.
    pub(crate) fn write(&mut self, p: usize) {
        let count = self.postgres.keys.len();
        let first = self.rng.usize(0..count);
        let mut keys = vec![first];
        if self.rng.u8(0..3) == 0 && self.postgres.keys[first].kind == Kind::Row {
            keys.push(count - 1);
        }
        let ends = self.rng.u8(0..60) == 0;
        let now = self.now;
        let mut told = Vec::new();
        for key in keys {
            let before = self.postgres.keys[key].commits.len();
            let version = self.postgres.change(key, ends, now);
            if self.postgres.keys[key].commits.len() > before {
                told.push((key, version, before));
            }
        }
        let next = self.weather.write_every;
        let next = self.rng.i64(0..2 * next);
        self.after(next, What::Write(p));
        // Some writers die after the commit, or never learn of it: then nothing is told.
        if told.is_empty() || self.rng.f64() < self.weather.silent_writer {
            return;
        }
        let wait = self.delay() + self.step();
        self.after(wait, What::Committed { process: p, keys: told });
    }

    /// The commit's answer is here: `wrote` or `touched`, then the reply, then the others are told.
    pub(crate) fn committed(&mut self, p: usize, keys: Vec<(usize, Option<i64>, usize)>) {
        let now = self.mono(p);
        for (key, version, place) in keys {
            if enforced(Guard::WroteFirst) {
                match version {
                    Some(version) => self.raise(p, key, version),
                    None => {
                        self.processes[p].floors.fence(&key, now);
                        self.processes[p].l1.remove(&key);
                    }
                }
            }
            self.checker.replied(p, key, place, version);
            let wait = self.step();
            self.after(wait, What::Spread { process: p, key, version });
            if version.is_none() && self.rng.bool() {
                self.ask_postgres(Query::Version { key }, Caller::Token(p, key));
            }
        }
        if self.processes[p].reign.is_some() {
            self.wake(p);
        }
    }

    /// `Cache::spread`.
    pub(crate) fn spread(&mut self, p: usize, key: usize, version: Option<i64>) {
        for q in 0..self.processes.len() {
            if self.rng.f64() >= self.weather.nats_loss && self.processes[q].silent_until <= self.now {
                let wait = self.delay();
                self.after(wait, What::Hint { process: q, key, version });
            }
        }
        self.ask_redis(p, Ask::Apply { space: None, changes: vec![(key, version)] }, Caller::Nobody(p));
    }

    pub(crate) fn hint(&mut self, p: usize, key: usize, version: Option<i64>) {
        if let Some(version) = version {
            self.raise(p, key, version);
        }
        self.wake(p);
    }

    /// `Inner::raise`.
    fn raise(&mut self, p: usize, key: usize, version: i64) {
        let now = self.mono(p);
        let process = &mut self.processes[p];
        process.floors.raise(&key, version, now);
        if process.l1.get(&key).is_some_and(|entry| entry.version < version) {
            process.l1.remove(&key);
        }
    }

    pub(crate) fn raise_all(&mut self, p: usize, changes: &[(usize, i64)]) {
        for (key, version) in changes {
            self.raise(p, *key, *version);
        }
    }

    /// `Inner::receive`.
    pub(crate) fn hear(&mut self, p: usize, notice: Notice, changes: Vec<(usize, i64)>, direct: bool) {
        if !direct && self.processes[p].silent_until > self.now {
            return;
        }
        if enforced(Guard::ReceiveOrder) {
            self.raise_all(p, &changes);
        } else {
            let later = self.step();
            self.after(later, What::HearLate { process: p, changes });
        }
        let now = self.mono(p);
        let process = &mut self.processes[p];
        let contradicts = notice.at != PgTime::PAST && process.clock.contradicts(notice.at, now);
        if contradicts && enforced(Guard::ClockContradicted) {
            process.clock.distrust();
            process.window.close();
            self.after(MS, What::Sample(p));
            return;
        }
        process.window.receive(&notice);
    }

    /// A reading of PostgreSQL's clock is asked for.
    pub(crate) fn sample(&mut self, p: usize) {
        self.ask_postgres(Query::Clock, Caller::Sampler(p, self.now));
    }

    pub(crate) fn sampled(&mut self, p: usize, asked: Time, showed: Option<PgTime>) {
        let Some(showed) = showed else {
            return self.after(250 * MS, What::Sample(p));
        };
        // Longer than the patience of a reading.
        if self.now - asked > SECOND {
            return self.after(250 * MS, What::Sample(p));
        }
        let process = &mut self.processes[p];
        let (asked_at, answered) = (process.mono(asked), process.mono(self.now));
        let reading = process.clock.sampled(Sample { asked: asked_at, answered, lower: showed, upper: showed });
        if reading == ClockReading::Stepped {
            process.window.close();
        }
        self.checker.sampled(p, asked, self.now);
        self.after(self.weather.sample_every, What::Sample(p));
    }
}
