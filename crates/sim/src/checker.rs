//! The promises that are checked of every answer.
//!
//! - the bound: it includes every commit that was visible a second before the read began;
//! - forward: it is not older than an answer that was given in the same process before the read began;
//! - own writes: it includes what this process had replied to a writer, or what the caller's token names;
//! - content: equal version, equal content;
//! - lifetime: what a tier answers is not shown beyond its time.

use coherence::STEP;
use coherence::in_flight::Reader;
use coherence::read::Tier;
use fastrand::Rng;

use crate::body::Body;
use crate::postgres::{History, Postgres};
use crate::removable::Removable;
use crate::time::{MS, SECOND, Time};

/// A read, and what its answer is checked against.
#[derive(Clone, Debug)]
pub(crate) struct CheckedRead {
    pub(crate) process: usize,
    pub(crate) incarnation: u32,
    pub(crate) key: usize,
    pub(crate) reader: Reader<Removable>,
    at: Time,
    /// The places in the key's history that the answer must reach.
    bound: usize,
    forward: usize,
    own: usize,
    token: usize,
    /// PostgreSQL's clock was stepped, and this process cannot know yet: nothing is claimed.
    unclaimed: bool,
    /// The reader of a gateway that waits for this one's answer.
    pub(crate) passed_to: Option<Box<CheckedRead>>,
}

/// The token that a caller has of a write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WriteToken {
    pub(crate) version: i64,
    place: usize,
}

/// A promise broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub promise: &'static str,
    /// The read, in words.
    pub what: String,
}

/// Everything that answers are checked against.
pub(crate) struct Checker {
    pub(crate) violation: Option<Violation>,
    /// Reads checked, by tier: L1, L2, validated, loaded.
    pub(crate) reads: [u64; 4],
    pub(crate) joined: u64,
    pub(crate) validations: u64,
    keys: usize,
    answered: Vec<usize>,
    own: Vec<usize>,
    tokens: Vec<Vec<WriteToken>>,
    /// Checks even what is not claimed.
    strict: bool,
    stepped: Option<Time>,
    /// Since when each process knows of the step, if it does.
    aware: Vec<Option<Time>>,
}

impl Checker {
    pub(crate) fn new(keys: usize, processes: usize, strict: bool) -> Self {
        Self {
            violation: None,
            reads: [0; 4],
            joined: 0,
            validations: 0,
            keys,
            answered: vec![0; keys * processes],
            own: vec![0; keys * processes],
            tokens: vec![Vec::new(); keys],
            strict,
            stepped: None,
            aware: vec![None; processes],
        }
    }

    /// A process lost its memory, and with it what it had answered and written: only tokens bind it now.
    pub(crate) fn restarted(&mut self, p: usize) {
        for key in 0..self.keys {
            self.answered[p * self.keys + key] = 0;
            self.own[p * self.keys + key] = 0;
        }
    }

    /// PostgreSQL's clock was stepped by this much.
    pub(crate) fn stepped(&mut self, by: Time, at: Time) {
        if by.unsigned_abs() > STEP.as_nanos() as u64 {
            self.stepped = Some(at);
            self.aware.fill(None);
        }
    }

    /// A process has read PostgreSQL's clock.
    pub(crate) fn sampled(&mut self, p: usize, asked: Time, at: Time) {
        if self.stepped.is_some_and(|stepped| asked >= stepped) && self.aware[p].is_none() {
            self.aware[p] = Some(at);
        }
    }

    /// From a step that is not small until a second after a process has read the clock again, nothing is claimed there.
    fn unclaimed(&self, p: usize, at: Time) -> bool {
        !self.strict && self.stepped.is_some() && self.aware[p].is_none_or(|aware| at < aware + SECOND)
    }

    #[expect(clippy::too_many_arguments, reason = "each is a separate fact about a read")]
    pub(crate) fn begin(
        &self,
        postgres: &Postgres,
        process: usize,
        incarnation: u32,
        key: usize,
        at: Time,
        reader: Reader<Removable>,
        token: Option<WriteToken>,
    ) -> CheckedRead {
        let slot = process * self.keys + key;
        CheckedRead {
            process,
            incarnation,
            key,
            reader,
            at,
            bound: postgres.keys[key].visible(at - SECOND),
            forward: self.answered[slot],
            own: self.own[slot],
            token: token.map_or(0, |token| token.place),
            unclaimed: self.unclaimed(process, at),
            passed_to: None,
        }
    }

    pub(crate) fn replied(&mut self, p: usize, key: usize, place: usize, version: Option<i64>) {
        let own = &mut self.own[p * self.keys + key];
        *own = (*own).max(place);
        if let Some(version) = version {
            self.tokens[key].push(WriteToken { version, place });
        }
    }

    /// A token for an aggregate, made by asking for its version after the commit; returns its place.
    pub(crate) fn token(&mut self, postgres: &Postgres, key: usize, version: i64) -> Option<usize> {
        let place = postgres.keys[key].commits.iter().position(|commit| commit.version == version)?;
        self.tokens[key].push(WriteToken { version, place });
        Some(place)
    }

    /// A write's token goes through a process: its readers are bound by it as by an own write.
    pub(crate) fn written_through(&mut self, p: usize, key: usize, place: usize) {
        let own = &mut self.own[p * self.keys + key];
        *own = (*own).max(place);
    }

    pub(crate) fn some_token(&self, rng: &mut Rng, key: usize) -> Option<WriteToken> {
        let tokens = &self.tokens[key];
        // Mostly a recent one: an old one requires nothing that is not required anyway.
        let back = rng.usize(0..3).min(tokens.len());
        if back == 0 { tokens.last().copied() } else { tokens.get(tokens.len() - back).copied() }
    }

    pub(crate) fn answered(
        &mut self,
        postgres: &Postgres,
        read: &CheckedRead,
        version: i64,
        body: Body,
        tier: Tier,
        now: Time,
    ) {
        self.reads[tier as usize] += 1;
        let history = &postgres.keys[read.key];
        let needed = read.bound.max(read.forward).max(read.own).max(read.token);
        let mut places = history.places(version, body.content);
        let Some(first) = places.next() else {
            return self.broken("content", history, read, version, body, tier, now, 0);
        };
        // Of the states that the answer may be, the oldest that is new enough binds later answers the least.
        let place = std::iter::once(first).chain(places).find(|place| *place >= needed).unwrap_or(first);
        if read.unclaimed {
            return;
        }
        if place < read.bound {
            return self.broken("bound", history, read, version, body, tier, now, read.bound);
        }
        if place < read.forward {
            return self.broken("forward", history, read, version, body, tier, now, read.forward);
        }
        if place < read.own {
            return self.broken("own writes", history, read, version, body, tier, now, read.own);
        }
        if place < read.token {
            return self.broken("token", history, read, version, body, tier, now, read.token);
        }
        let age = read.at - body.loaded_at;
        // A tenth of jitter, and what the network and the reader's own load may take.
        let max = body.lifetime + body.lifetime / 10 + 1100 * MS;
        if matches!(tier, Tier::L1 | Tier::L2) && age > max {
            return self.broken("lifetime", history, read, version, body, tier, now, 0);
        }
        let answered = &mut self.answered[read.process * self.keys + read.key];
        *answered = (*answered).max(place);
    }

    #[expect(clippy::too_many_arguments, reason = "each is a separate fact about a read")]
    fn broken(
        &mut self,
        promise: &'static str,
        history: &History,
        read: &CheckedRead,
        version: i64,
        body: Body,
        tier: Tier,
        now: Time,
        needed: usize,
    ) {
        let ms = |time: Time| time as f64 / MS as f64;
        let required = history.commits.get(needed).map_or(0.0, |commit| ms(commit.at.max(0)));
        let what = format!(
            "process {} read key {} from {:?}: version {version}, content {}, loaded at {:.3} ms; begun at {:.3} ms, \
             answered at {:.3} ms; it should have had place {needed}, committed at {required:.3} ms",
            read.process,
            read.key,
            tier,
            body.content,
            ms(body.loaded_at),
            ms(read.at),
            ms(now),
        );
        self.violation = Some(Violation { promise, what });
    }
}
