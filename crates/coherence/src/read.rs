//! One flight, step by step: from a miss in L1 to an answer.
//!
//! [`Read`] holds what the flight knows; each `on_…` takes in what came back and says what to do next. It never waits
//! and never asks: the shell (or the simulator) does, with every reader that joined waiting for the one answer.

use std::marker::PhantomData;
use std::time::Duration;

use crate::clock::Clock;
use crate::entry::{Asof, Entry};
use crate::floors::Demand;
use crate::guards::{Enforced, Guard, Guards};
use crate::lifetime::{Lifetime, l1_from_l2};
use crate::time::{Mono, PgTime};
use crate::{BOUND, FILL_DEADLINE};

/// What Redis said of a key, with the proof that stood beside it when it said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum L2<B> {
    /// Redis is not reachable, or not used.
    Unavailable,
    /// No proof is there: nothing that Redis holds may be believed, and nothing may be put in.
    NoProof,
    /// The value.
    Hit(L2Hit<B>),
    /// The value is not there, and this flight may put it in.
    Lease {
        /// The right to fill: valid until used, voided by a change, or expired.
        token: u64,
    },
    /// The value is not there, and another process is loading it.
    Busy,
}

/// A value in Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L2Hit<B> {
    /// Every change numbered up to this has been applied to it.
    pub asof: Asof,
    /// The time of that proof.
    pub at: PgTime,
    /// The value's version.
    pub version: i64,
    /// The encoded body.
    pub body: B,
    /// What it has left to live in Redis.
    pub left: Duration,
}

/// What a load from the primary returned: body, version and clock of one snapshot, taken after the load began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded<B> {
    /// The version; 0 for what does not exist.
    pub version: i64,
    /// `cache_clock` in the same snapshot.
    pub asof: Asof,
    /// The encoded body; empty for what does not exist.
    pub body: B,
    /// How long it may stay.
    pub lifetime: Lifetime,
}

/// Which tier an answer came from; also the label of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tier {
    /// This process's memory.
    L1,
    /// Redis.
    L2,
    /// A cached body whose version was asked of PostgreSQL.
    Validated,
    /// PostgreSQL, or whatever the load asks.
    Loaded,
}

impl Tier {
    /// The metric's label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::L1 => "l1",
            Self::L2 => "l2",
            Self::Validated => "validated",
            Self::Loaded => "loaded",
        }
    }
}

/// A flight's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<B> {
    /// The value.
    pub entry: Entry<B>,
    /// It includes every commit made before this instant.
    pub fresh: Mono,
    /// Where it came from.
    pub tier: Tier,
    /// The lease under which it may be put into Redis, and for how long at most.
    pub fill: Option<Fill>,
    /// Whether L1 may be offered it.
    pub keep: bool,
}

/// The right to put an answer into Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// The lease.
    pub token: u64,
    /// Which lifetime applies.
    pub lifetime: Lifetime,
}

/// What the flight does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<B> {
    /// Ask Redis; then [`Read::on_l2`].
    AskL2,
    /// Wait for another process's load, this part of the longest wait; then ask Redis again.
    Wait,
    /// Ask PostgreSQL for the version; then [`Read::on_version`].
    Validate,
    /// Load from the primary; then [`Read::on_loaded`].
    Load,
    /// Done.
    Answer(Answer<B>),
}

/// What a flight may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// The version of this key can be had without its data (aggregates, in a process with a database).
    pub validate: bool,
    /// It may wait for another process that loads the same key.
    pub wait: bool,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    token: u64,
    granted: Mono,
}

/// A flight under way.
#[derive(Clone, Debug)]
pub struct Read<B, G = Enforced> {
    abilities: Abilities,
    at_hand: Option<Entry<B>>,
    lease: Option<Lease>,
    waited: bool,
    guards: PhantomData<G>,
}

impl<B: Clone, G: Guards> Read<B, G> {
    /// A flight that starts with what L1 holds unproven, if anything.
    #[must_use]
    pub fn new(at_hand: Option<Entry<B>>, abilities: Abilities) -> Self {
        Self { abilities, at_hand, lease: None, waited: false, guards: PhantomData }
    }

    /// The first step.
    #[must_use]
    pub fn begin(&self) -> Step<B> {
        Step::AskL2
    }

    /// Redis answered; `asked` is when the question was sent.
    pub fn on_l2(&mut self, reply: L2<B>, clock: &Clock<G>, demand: Demand, asked: Mono, now: Mono) -> Step<B> {
        match reply {
            L2::Hit(hit) => self.on_hit(hit, clock, demand, now),
            L2::Lease { token } => {
                self.lease = Some(Lease { token, granted: asked });
                self.ask_truth(demand)
            }
            L2::Busy if self.abilities.wait && !self.waited => {
                self.waited = true;
                Step::Wait
            }
            L2::Busy | L2::NoProof | L2::Unavailable => self.ask_truth(demand),
        }
    }

    fn on_hit(&mut self, hit: L2Hit<B>, clock: &Clock<G>, demand: Demand, now: Mono) -> Step<B> {
        let entry =
            Entry { version: hit.version, asof: hit.asof, until: l1_from_l2::<G>(now, hit.left), body: hit.body };
        // Guard: Redis may be cut off from the relay, or be an old copy of itself after a failover; its proof then stops
        // growing younger.
        let fresh = clock.instant(hit.at, now).filter(|fresh| *fresh >= now - BOUND || !G::enforced(Guard::L2Age));
        if let Some(fresh) = fresh
            && (demand.met(entry.version, fresh) || !G::enforced(Guard::L2Demand))
        {
            return Step::Answer(Answer { entry, fresh, tier: Tier::L2, fill: None, keep: true });
        }
        if self.at_hand.as_ref().is_none_or(|mine| mine.version < entry.version) {
            self.at_hand = Some(entry);
        }
        self.ask_truth(demand)
    }

    fn ask_truth(&self, demand: Demand) -> Step<B> {
        match &self.at_hand {
            Some(entry) if self.abilities.validate && entry.version >= demand.version => Step::Validate,
            _ => Step::Load,
        }
    }

    /// PostgreSQL told the version, in a snapshot taken after `asked`; nothing when it could not be asked.
    pub fn on_version(&mut self, told: Option<(i64, Asof)>, demand: Demand, asked: Mono, now: Mono) -> Step<B> {
        match (told, self.at_hand.take()) {
            // Guard: equal versions are equal content; any other version, higher or lower, is not what is at hand.
            (Some((version, asof)), Some(entry))
                if (version == entry.version || !G::enforced(Guard::ValidatedVersion))
                    && (now < entry.until || !G::enforced(Guard::ValidatedEnd))
                    && demand.met(version, asked) =>
            {
                let entry = Entry { asof, ..entry };
                let fill = self.fill(Lifetime::rest::<G>(entry.until.since(now)), now);
                Step::Answer(Answer { entry, fresh: asked, tier: Tier::Validated, fill, keep: true })
            }
            _ => Step::Load,
        }
    }

    /// The load that began at `asked` returned; `demand` is what was known when the flight began.
    #[must_use]
    pub fn on_loaded(&self, loaded: Loaded<B>, demand: Demand, asked: Mono, now: Mono) -> Answer<B> {
        // A snapshot from after the flight began shows all that was known then, unless the row is gone or PostgreSQL
        // lost a commit. Both are the truth, and answered. Guard: they are not kept, since for a floor they look like a
        // load that was late.
        let keep = demand.met(loaded.version, asked) || !G::enforced(Guard::LoadedKeep);
        let fill = if keep { self.fill(loaded.lifetime, now) } else { None };
        let entry = Entry {
            version: loaded.version,
            asof: loaded.asof,
            until: loaded.lifetime.l1_until(asked),
            body: loaded.body,
        };
        Answer { entry, fresh: asked, tier: Tier::Loaded, fill, keep }
    }

    /// Guard: a holder that slept past its lease may not fill, whatever Redis still remembers of it.
    fn fill(&self, lifetime: Lifetime, now: Mono) -> Option<Fill> {
        self.lease
            .filter(|lease| now.since(lease.granted) <= FILL_DEADLINE || !G::enforced(Guard::FillDeadline))
            .map(|lease| Fill { token: lease.token, lifetime })
    }
}

#[cfg(test)]
mod tests;
