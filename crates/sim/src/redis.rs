//! Redis as the four scripts see it: what `get`, `fill`, `apply` and `prove` in `cache/src/redis` do, on one server's memory.
//!
//! Invariant: each function is one script, and a script is one step. `tests/it/scripts.rs` of the crate `cache` puts the
//! same operations to this model and to a real Redis.

use std::collections::HashMap;
use std::time::Duration;

use coherence::asof::Asof;
use coherence::guards::Guard;
use coherence::read::{L2, L2Hit};
use coherence::time::PgTime;
use coherence::{FILL_DEADLINE, WATERMARK_TTL};

use crate::removable::enforced;

/// Milliseconds of Redis's clock.
pub type Millis = i64;

/// An unrenewed proof is deleted after this.
const PROOF_LIFETIME: Millis = 10_000;

/// What a relay proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The term.
    pub epoch: i64,
    /// The number up to which everything is applied.
    pub seq: i64,
    /// As of when.
    pub at: PgTime,
    /// The name space.
    pub space: i64,
}

#[derive(Clone, Debug, Default)]
struct Slot<B> {
    version: Option<i64>,
    body: Option<B>,
    token: Option<u64>,
    token_until: Millis,
    until: Millis,
}

/// One server's memory.
#[derive(Clone, Debug)]
pub struct Redis<B> {
    proof: Option<(Proof, Millis)>,
    slots: HashMap<(i64, usize), Slot<B>>,
}

impl<B> Default for Redis<B> {
    fn default() -> Self {
        Self { proof: None, slots: HashMap::new() }
    }
}

impl<B: Clone> Redis<B> {
    /// The proof that it has now.
    pub fn proof(&self, now: Millis) -> Option<Proof> {
        self.proof.filter(|(_, until)| now < *until).map(|(proof, _)| proof)
    }

    fn slot(&mut self, at: (i64, usize), now: Millis) -> Option<&mut Slot<B>> {
        if self.slots.get(&at).is_some_and(|slot| slot.until <= now) {
            self.slots.remove(&at);
        }
        self.slots.get_mut(&at)
    }

    /// `get.lua` for one key.
    pub fn get(&mut self, key: usize, token: u64, now: Millis) -> L2<B> {
        match self.proof(now) {
            Some(proof) => self.get_under(proof, key, token, now),
            None => L2::NoProof,
        }
    }

    /// The part of `get.lua` behind the proof.
    pub fn get_under(&mut self, proof: Proof, key: usize, token: u64, now: Millis) -> L2<B> {
        let lease = millis(FILL_DEADLINE);
        let at = (proof.space, key);
        if let Some(slot) = self.slot(at, now) {
            if let Some(body) = &slot.body {
                let left = Duration::from_millis(u64::try_from(slot.until - now).unwrap_or(0));
                let asof = Asof { epoch: proof.epoch, seq: proof.seq };
                let version = slot.version.unwrap_or(0);
                return L2::Hit(L2Hit { asof, at: proof.at, version, body: body.clone(), left });
            }
            if slot.token.is_some() && slot.token_until > now {
                return L2::Busy;
            }
        }
        let slot = self.slots.entry(at).or_insert_with(|| Slot {
            version: None,
            body: None,
            token: None,
            token_until: 0,
            until: 0,
        });
        slot.token = Some(token);
        slot.token_until = now + lease;
        slot.until = slot.until.max(now + lease);
        L2::Lease { token }
    }

    /// `fill.lua`.
    pub fn fill(&mut self, key: usize, token: u64, version: i64, body: B, lifetime: Millis, now: Millis) -> bool {
        let Some(proof) = self.proof(now) else { return false };
        let at = (proof.space, key);
        if self.slot(at, now).is_none() {
            if enforced(Guard::FillLease) {
                return false;
            }
            let empty = Slot { version: None, body: None, token: None, token_until: now, until: 0 };
            self.slots.insert(at, empty);
        }
        let Some(slot) = self.slot(at, i64::MIN) else { return false };
        if slot.token != Some(token) && enforced(Guard::FillLease) {
            return false;
        }
        if slot.token_until < now && enforced(Guard::FillLeaseEnds) {
            return false;
        }
        let lower = slot.version.is_some_and(|held| version < held || (slot.body.is_some() && version == held));
        if lower && enforced(Guard::FillVersion) {
            return false;
        }
        *slot = Slot { version: Some(version), body: Some(body), token: None, token_until: 0, until: now + lifetime };
        true
    }

    /// `apply.lua` for one key; no version means "changed, to what is not known". `body` is what an applier would create with
    /// [`Guard::ApplyNeverCreates`] taken out.
    pub fn apply(&mut self, space: Option<i64>, key: usize, version: Option<i64>, body: Option<B>, now: Millis) {
        let proven = self.proof(now).map(|proof| proof.space);
        let Some(space) = space.filter(|_| enforced(Guard::ApplyNamesSpace)).or(proven) else { return };
        let at = (space, key);
        let Some(slot) = self.slot(at, now) else {
            if let (false, Some(version), Some(body)) = (enforced(Guard::ApplyNeverCreates), version, body) {
                let until = now + 10_000;
                let slot = Slot { version: Some(version), body: Some(body), token: None, token_until: 0, until };
                self.slots.insert(at, slot);
            }
            return;
        };
        match (slot.version, version) {
            (_, None) => {
                self.slots.remove(&at);
            }
            (None, _) if slot.token.is_some() && enforced(Guard::ApplyVoidsLease) => {
                self.slots.remove(&at);
            }
            (Some(held), Some(version)) if held < version => {
                let token = if enforced(Guard::ApplyVoidsLease) { None } else { slot.token };
                let token_until = slot.token_until;
                let until = now + millis(WATERMARK_TTL);
                *slot = Slot { version: Some(version), body: None, token, token_until, until };
            }
            _ => {}
        }
    }

    /// `prove.lua`.
    pub fn prove(&mut self, proof: Proof, now: Millis) {
        self.proof = Some((proof, now + PROOF_LIFETIME));
    }

    /// Evicts one entry, in every name space.
    pub fn evict(&mut self, key: usize) {
        self.slots.retain(|(_, held), _| *held != key);
    }

    /// Evicts the proof.
    pub fn evict_proof(&mut self) {
        self.proof = None;
    }

    /// Loses everything.
    pub fn flush(&mut self) {
        *self = Self::default();
    }
}

fn millis(duration: Duration) -> Millis {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
