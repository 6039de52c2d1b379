//! Flights: what `cache/src/{boarding,flight}.rs` do between a miss and an answer.

use std::time::Duration;

use coherence::entry::{Entry, Verdict, admits, judge};
use coherence::flights::FlightId;
use coherence::floors::Demand;
use coherence::lifetime::Lifetime;
use coherence::read::{Abilities, Answer, L2, Read, Step, Tier};
use coherence::time::Mono;

use crate::check::Reading;
use crate::postgres::{Kind, MS, Time};
use crate::removable::Removable;
use crate::world::{Ask, Body, Caller, Query, Rows, Told, What, World};

/// What a flight ends with; nothing when its load failed.
pub(crate) type Outcome = Option<Answer<Body>>;

/// To whom an outcome is told.
#[derive(Clone, Debug)]
pub(crate) enum Tell {
    /// The reader whose flight it was.
    Own,
    /// One who joined, for the so-manieth time.
    Joined { times: u8, at_hand: Option<Entry<Body>> },
}

/// A flight under way.
pub(crate) struct Flying {
    pub(crate) process: usize,
    life: u32,
    key: usize,
    id: FlightId,
    demand: Demand,
    started: Mono,
    read: Read<Body, Removable>,
    asked: Mono,
    readers: Vec<(Reading, Tell)>,
    landed: bool,
}

/// The lifetime of a key that may be shown for `life` after its load.
pub(crate) fn lifetime(life: Time) -> Lifetime {
    Lifetime { l1: Duration::from_secs(30), l2: Duration::from_nanos(u64::try_from(life).unwrap_or(0)) }
}

impl World {
    /// Joins the newest flight that can serve this reader, or starts one.
    pub(crate) fn board(&mut self, reading: Reading, at_hand: Option<Entry<Body>>, times: u8) {
        let p = reading.process;
        let now = self.mono(p);
        // After two flights of others a reader flies itself.
        let found = self.processes[p].flights.joinable(&reading.key, reading.reader.demand, now).copied();
        if let Some(flight) = found.filter(|_| times < 2) {
            self.checker.joined += 1;
            let tell = Tell::Joined { times, at_hand };
            self.flights[flight].readers.push((reading, tell));
            return;
        }
        let number = self.flights.len();
        let key = reading.key;
        let id = self.processes[p].flights.depart(&key, number, now);
        let validate = self.postgres.keys[key].kind == Kind::Aggregate;
        let read = Read::new(at_hand, Abilities { validate, wait: self.rng.u8(0..4) > 0 });
        let (demand, life) = (reading.reader.demand, reading.life);
        let readers = vec![(reading, Tell::Own)];
        self.flights.push(Flying {
            process: p,
            life,
            key,
            id,
            demand,
            started: now,
            read,
            asked: now,
            readers,
            landed: false,
        });
        let wait = self.step();
        self.after(wait, What::FlightLook(number));
    }

    fn is_of_a_former_life(&self, f: usize) -> bool {
        self.flights[f].life != self.processes[self.flights[f].process].life
    }

    /// Another flight may have landed between the reader's look at L1 and its departure.
    pub(crate) fn flight_look(&mut self, f: usize) {
        if self.is_of_a_former_life(f) {
            return;
        }
        let flight = &self.flights[f];
        let process = &self.processes[flight.process];
        if let Some(entry) = process.l1.get(&flight.key) {
            let now = process.mono(self.now);
            if let Verdict::Serve(fresh) = judge(entry, &process.window, &process.clock, flight.demand, now) {
                let answer = Answer { entry: entry.clone(), fresh, tier: Tier::L1, fill: None, keep: false };
                return self.tell(f, &Some(answer));
            }
        }
        self.flight_ask_l2(f);
    }

    pub(crate) fn flight_ask_l2(&mut self, f: usize) {
        if self.is_of_a_former_life(f) {
            return;
        }
        let (p, key) = (self.flights[f].process, self.flights[f].key);
        self.flights[f].asked = self.mono(p);
        let token = self.rng.u64(1..);
        self.ask_redis(p, Ask::Get { key, token }, Caller::Flight(f));
    }

    pub(crate) fn flight_told_l2(&mut self, f: usize, told: Option<Told>) {
        if self.is_of_a_former_life(f) {
            return;
        }
        let reply = match told {
            Some(Told::L2(reply)) => reply,
            _ => L2::Unavailable,
        };
        let p = self.flights[f].process;
        let (now, clock) = (self.mono(p), self.processes[p].clock);
        let flight = &mut self.flights[f];
        let step = flight.read.on_l2(reply, &clock, flight.demand, flight.asked, now);
        self.take(f, step);
    }

    pub(crate) fn flight_told_rows(&mut self, f: usize, rows: Option<Rows>) {
        if self.is_of_a_former_life(f) {
            return;
        }
        let now = self.mono(self.flights[f].process);
        let flight = &mut self.flights[f];
        match rows {
            Some(Rows::Version(version, asof)) => {
                let step = flight.read.on_version(Some((version, asof)), flight.demand, flight.asked, now);
                self.take(f, step);
            }
            Some(Rows::Loaded(loaded)) => {
                let answer = flight.read.on_loaded(loaded, flight.demand, flight.asked, now);
                self.take(f, Step::Answer(answer));
            }
            // A version that could not be asked means a load; a load that failed is told.
            _ if matches!(flight.read.on_version(None, flight.demand, flight.asked, now), Step::Load)
                && !flight.landed =>
            {
                self.tell(f, &None);
            }
            _ => {}
        }
    }

    fn take(&mut self, f: usize, step: Step<Body>) {
        let (p, key) = (self.flights[f].process, self.flights[f].key);
        match step {
            Step::AskL2 => self.flight_ask_l2(f),
            Step::Wait => {
                let wait = 5 * MS + self.rng.i64(0..45 * MS);
                self.after(wait, What::FlightAgain(f));
            }
            Step::Validate => {
                self.flights[f].asked = self.mono(p);
                self.checker.validations += 1;
                self.ask_postgres(Query::Version { key }, Caller::Flight(f));
            }
            Step::Load => {
                self.flights[f].asked = self.mono(p);
                self.ask_postgres(Query::Load { key }, Caller::Flight(f));
            }
            Step::Answer(answer) => {
                let now = self.mono(p);
                self.processes[p].floors.settle(&key, answer.entry.version, answer.fresh, now);
                let wait = self.step();
                self.after(wait, What::Answered { flight: f, answer });
            }
        }
    }

    /// The second half of `Seat::answer`: L1 is offered it, then it is told.
    pub(crate) fn flight_keep(&mut self, f: usize, answer: Answer<Body>) {
        if self.is_of_a_former_life(f) {
            return;
        }
        let (p, key, started) = (self.flights[f].process, self.flights[f].key, self.flights[f].started);
        if answer.keep {
            let now = self.mono(p);
            let process = &mut self.processes[p];
            if admits(process.l1.get(&key), &answer.entry, answer.fresh, &process.floors, &key, started, now) {
                process.l1.insert(key, answer.entry.clone());
            }
        }
        let fill = answer.fill;
        let entry = answer.entry.clone();
        self.tell(f, &Some(answer));
        if let Some(fill) = fill {
            let live = fill.lifetime.l2_for(self.rng.f64());
            let live = i64::try_from(live.as_millis()).unwrap_or(i64::MAX);
            let ask = Ask::Fill { key, token: fill.token, version: entry.version, body: entry.body, live };
            self.ask_redis(p, ask, Caller::Nobody(p));
        }
    }

    fn tell(&mut self, f: usize, outcome: &Outcome) {
        let flight = &mut self.flights[f];
        flight.landed = true;
        let (p, key, id) = (flight.process, flight.key, flight.id);
        let readers = std::mem::take(&mut flight.readers);
        self.processes[p].flights.land(&key, id);
        for (reading, tell) in readers {
            let wait = self.step();
            self.after(wait, What::Landed { reading, outcome: outcome.clone(), tell });
        }
    }
}
