//! One in-flight load, step by step: from a miss in L1 to an answer.
//!
//! [`Read`] has what the load knows; each `on_…` takes what came back and returns what to do next. It does no I/O: the shell (or the
//! simulator) does, and every reader that joined waits for the one answer.

use std::marker::PhantomData;
use std::time::Duration;

use crate::asof::Asof;
use crate::clock::Clock;
use crate::entry::Entry;
use crate::guards::{Enforced, Guard, Guards};
use crate::lifetime::{Lifetime, l1_from_l2};
use crate::time::{Mono, PgTime};
use crate::watermarks::Requirement;
use crate::{BOUND, FILL_DEADLINE};

/// What Redis answered for a key, with the proof that it had in the same step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum L2<B> {
    /// Redis is not reachable, or not used.
    Unavailable,
    /// No proof is there: nothing that Redis has may be believed, and nothing may be put in.
    NoProof,
    /// The value.
    Hit(L2Hit<B>),
    /// The value is not there, and this load may put it in.
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
    /// The time that it has left in Redis.
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

/// The answer of a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<B> {
    /// The value.
    pub entry: Entry<B>,
    /// It includes every commit made before this instant.
    pub fresh: Mono,
    /// Where it came from.
    pub tier: Tier,
    /// The right to put it into Redis, if it was granted.
    pub fill: Option<Fill>,
    /// Whether it may be offered to L1.
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

/// What the load does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step<B> {
    /// Ask Redis; then [`Read::on_l2`].
    AskL2,
    /// Wait a moment for another process's load; then ask Redis again.
    Wait,
    /// Ask PostgreSQL for the version; then [`Read::on_version`].
    Validate,
    /// Load from the primary; then [`Read::on_loaded`].
    Load,
    /// Done.
    Answer(Answer<B>),
}

/// What a load may do.
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

/// A load in flight.
#[derive(Clone, Debug)]
pub struct Read<B, G = Enforced> {
    abilities: Abilities,
    unproven: Option<Entry<B>>,
    lease: Option<Lease>,
    waited: bool,
    guards: PhantomData<G>,
}

impl<B: Clone, G: Guards> Read<B, G> {
    /// A load that starts with what L1 has unproven, if anything.
    #[must_use]
    pub fn new(unproven: Option<Entry<B>>, abilities: Abilities) -> Self {
        Self { abilities, unproven, lease: None, waited: false, guards: PhantomData }
    }

    /// The first step.
    #[must_use]
    pub fn begin(&self) -> Step<B> {
        Step::AskL2
    }

    /// Redis answered; `asked` is when the call was sent.
    pub fn on_l2(
        &mut self,
        reply: L2<B>,
        clock: &Clock<G>,
        requirement: Requirement,
        asked: Mono,
        now: Mono,
    ) -> Step<B> {
        match reply {
            L2::Hit(hit) => self.on_hit(hit, clock, requirement, now),
            L2::Lease { token } => {
                // Counted from before the call: Redis granted the lease later, so ours ends first.
                self.lease = Some(Lease { token, granted: asked });
                self.ask_postgres(requirement)
            }
            L2::Busy if self.abilities.wait && !self.waited => {
                // Once: the other process may hang, and a second wait would cost this reader more than a load.
                self.waited = true;
                Step::Wait
            }
            L2::Busy | L2::NoProof | L2::Unavailable => self.ask_postgres(requirement),
        }
    }

    fn on_hit(&mut self, hit: L2Hit<B>, clock: &Clock<G>, requirement: Requirement, now: Mono) -> Step<B> {
        let entry =
            Entry { version: hit.version, asof: hit.asof, until: l1_from_l2::<G>(now, hit.left), body: hit.body };
        // Guard: Redis may be cut off from the relay, or be an old copy of itself after a failover; its proof then only ages.
        let fresh = clock.instant(hit.at, now).filter(|fresh| *fresh >= now - BOUND || !G::enforced(Guard::L2Age));
        if let Some(fresh) = fresh
            && (requirement.is_met(entry.version, fresh) || !G::enforced(Guard::L2Requirement))
        {
            return Step::Answer(Answer { entry, fresh, tier: Tier::L2, fill: None, keep: true });
        }
        if self.unproven.as_ref().is_none_or(|ours| ours.version < entry.version) {
            self.unproven = Some(entry);
        }
        self.ask_postgres(requirement)
    }

    fn ask_postgres(&self, requirement: Requirement) -> Step<B> {
        match &self.unproven {
            Some(entry) if self.abilities.validate && entry.version >= requirement.min_version => Step::Validate,
            _ => Step::Load,
        }
    }

    /// PostgreSQL answered with the version, in a snapshot taken after `asked`; nothing when it could not be asked.
    pub fn on_version(
        &mut self,
        current: Option<(i64, Asof)>,
        requirement: Requirement,
        asked: Mono,
        now: Mono,
    ) -> Step<B> {
        match (current, self.unproven.take()) {
            // Guard: equal versions are equal content; any other version, higher or lower, is another body.
            (Some((version, asof)), Some(entry))
                if (version == entry.version || !G::enforced(Guard::ValidatedVersion))
                    && (now < entry.until || !G::enforced(Guard::ValidatedEnd))
                    && requirement.is_met(version, asked) =>
            {
                let entry = Entry { asof, ..entry };
                let fill = self.fill(Lifetime::remaining::<G>(entry.until.since(now)), now);
                Step::Answer(Answer { entry, fresh: asked, tier: Tier::Validated, fill, keep: true })
            }
            _ => Step::Load,
        }
    }

    /// The query that was sent at `asked` returned; `requirement` is what was known when the load started.
    #[must_use]
    pub fn on_loaded(&self, loaded: Loaded<B>, requirement: Requirement, asked: Mono, now: Mono) -> Answer<B> {
        // A snapshot from after the load started shows all that was known then, unless the row is gone or PostgreSQL lost a commit.
        // Both are the truth, and answered. Guard: they are not kept, since a watermark takes them for a load that was late.
        let keep = requirement.is_met(loaded.version, asked) || !G::enforced(Guard::LoadedKeep);
        let fill = if keep { self.fill(loaded.lifetime, now) } else { None };
        let entry = Entry {
            version: loaded.version,
            asof: loaded.asof,
            until: loaded.lifetime.l1_until(asked),
            body: loaded.body,
        };
        Answer { entry, fresh: asked, tier: Tier::Loaded, fill, keep }
    }

    /// Guard: a holder that was paused past its lease may not fill, whatever Redis still has of the lease.
    fn fill(&self, lifetime: Lifetime, now: Mono) -> Option<Fill> {
        self.lease
            .filter(|lease| now.since(lease.granted) <= FILL_DEADLINE || !G::enforced(Guard::FillDeadline))
            .map(|lease| Fill { token: lease.token, lifetime })
    }
}

#[cfg(test)]
mod tests;
