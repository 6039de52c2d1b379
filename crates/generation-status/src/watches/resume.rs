//! What a watcher has been sent, and the resume token that says so.
//!
//! Invariant: a token names the version of every generation that its holder knows and that may change again. So any process
//! finds what the holder has not been sent from the rows alone, whatever became of the process that sent it. No clock and no
//! order of commits is trusted, except for [`MAX_COMMIT_DELAY_MS`].

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Buf;
use cache::watch::Known;
use chassis::keyring::tokens::{Seal, Tokens};
use domain::id::{AccountId, GenerationId};
use domain::name::{GenerationParent, SceneName};
use prost::encoding::{decode_varint, encode_varint};
use uuid::Uuid;

use super::selection::Selection;
use crate::model::Generation;

/// How many generations a parent's token names at most: each costs about 23 characters of every event.
const MAX_LISTED: usize = 256;
/// A start commits at most this many milliseconds after another whose id is later: a start's deadline is 10 s, and the rest
/// allows for clocks that disagree.
const MAX_COMMIT_DELAY_MS: u128 = 60_000;

/// The first byte of a token says what follows.
const TAG_NAMED: u8 = 1;
const TAG_PARENT: u8 = 2;
const TAG_TOO_MUCH: u8 = 3;

/// The content of a token.
#[derive(Debug)]
pub(super) enum Opened {
    /// All that its holder was sent.
    Sent(Sent),
    /// Its holder was sent more than a token can name.
    TooMuch,
}

/// What one watcher has been sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    seal: Seal,
    /// The generations of a watch that names them, in order.
    names: Option<Arc<[GenerationId]>>,
    known: BTreeMap<GenerationId, Known>,
    /// A generation that is not in `known` and not newer than this has ended, and its end was sent or was before the snapshot.
    horizon: GenerationId,
    /// The horizon of the token that the watch began with, or of its last snapshot.
    initial_horizon: GenerationId,
    /// Whether the last snapshot held every open generation.
    complete: bool,
}

impl Sent {
    pub(super) fn new(tokens: &Tokens, account: AccountId, selection: &Selection) -> Self {
        let names = match selection {
            Selection::Named(ids) => Some(Arc::clone(ids)),
            Selection::Of(_) => None,
        };
        Self {
            seal: tokens.seal(account.0, &purpose(selection)),
            names,
            known: BTreeMap::new(),
            horizon: GenerationId(Uuid::nil()),
            initial_horizon: GenerationId(Uuid::nil()),
            complete: true,
        }
    }

    /// Opens a token; `None` when it is not one of this watch.
    pub(super) fn open(self, token: &str) -> Option<Opened> {
        let body = self.seal.open(token)?;
        self.read(&body)
    }

    fn read(mut self, mut body: &[u8]) -> Option<Opened> {
        match (body.try_get_u8().ok()?, self.names.clone()) {
            (TAG_NAMED, Some(names)) => {
                for id in names.iter() {
                    self.read_version(*id, &mut body)?;
                }
            }
            (TAG_PARENT, None) => {
                self.horizon = GenerationId(Uuid::from_u128(body.try_get_u128().ok()?));
                self.initial_horizon = self.horizon;
                while body.len() > size_of::<u128>() {
                    let id = GenerationId(Uuid::from_u128(body.get_u128()));
                    self.read_version(id, &mut body)?;
                }
            }
            (TAG_TOO_MUCH, None) => return Some(Opened::TooMuch),
            _ => return None,
        }
        body.is_empty().then_some(Opened::Sent(self))
    }

    fn read_version(&mut self, id: GenerationId, body: &mut &[u8]) -> Option<()> {
        let version = i64::try_from(decode_varint(body).ok()?).ok()?;
        self.known.insert(id, Known { version, is_final: false });
        Some(())
    }

    /// The parts of a snapshot follow. Until its end a parent's token can name nothing, as what is left may be anything; one of
    /// names says of which nothing was sent.
    pub(super) fn begin_snapshot(&mut self) {
        self.known.clear();
        self.complete = false;
        self.horizon = GenerationId(Uuid::nil());
    }

    /// A part of a snapshot was sent.
    pub(super) fn part_of_snapshot<'g>(&mut self, generations: impl Iterator<Item = &'g Generation>) {
        generations.for_each(|generation| self.remember(generation));
    }

    /// The last part was sent: all of them are every generation newer than `horizon`, and open ones, all when `complete`.
    pub(super) fn end_snapshot(&mut self, complete: bool, horizon: GenerationId) {
        self.complete = complete;
        self.horizon = self.horizon.max(horizon);
        self.initial_horizon = horizon;
        self.prune();
    }

    /// A generation was sent.
    pub(super) fn update(&mut self, generation: &Generation) {
        self.remember(generation);
        self.prune();
    }

    /// Whether this is an end that was sent long ago, or that was before the first snapshot: its message may come late, to a
    /// process that has pruned it.
    pub(super) fn is_outdated(&self, generation: &Generation) -> bool {
        let was_covered = self.names.is_none() && self.complete && generation.id <= self.initial_horizon;
        was_covered && generation.state.is_terminal() && !self.known.contains_key(&generation.id)
    }

    /// A generation was read again: a token says a version and not whether that is terminal.
    pub(super) fn reread(&mut self, generation: &Generation) {
        if self.known.get(&generation.id).is_some_and(|known| known.version == generation.version) {
            self.remember(generation);
        }
    }

    fn remember(&mut self, generation: &Generation) {
        self.horizon = self.horizon.max(horizon_of(generation.id));
        self.known
            .insert(generation.id, Known { version: generation.version, is_final: generation.state.is_terminal() });
    }

    /// A terminal generation never changes again; above the horizon it is kept so that it is not taken for a new one.
    fn prune(&mut self) {
        if self.names.is_none() {
            self.known.retain(|id, known| !known.is_final || *id > self.horizon);
        }
    }

    /// A generation that a parent's watcher does not know is new only above this.
    pub(super) fn horizon(&self) -> GenerationId {
        self.horizon
    }

    /// Whether every open generation is known, so that missed changes can be found by reading.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    pub(super) fn known(&self) -> impl Iterator<Item = (GenerationId, Known)> {
        self.known.iter().map(|(id, known)| (*id, *known))
    }

    /// The resume token for what has been sent up to now.
    pub(super) fn token(&self) -> String {
        self.seal.token(&self.body())
    }

    fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        match &self.names {
            Some(names) => {
                body.push(TAG_NAMED);
                for id in names.iter() {
                    write_version(&mut body, self.known.get(id).map_or(0, |known| known.version));
                }
            }
            None if self.complete && self.known.len() <= MAX_LISTED => {
                body.push(TAG_PARENT);
                body.extend_from_slice(self.horizon.0.as_bytes());
                for (id, known) in &self.known {
                    body.extend_from_slice(id.0.as_bytes());
                    write_version(&mut body, known.version);
                }
            }
            None => body.push(TAG_TOO_MUCH),
        }
        body
    }
}

/// What is written for what was read of a token's body, of a watch that names so many generations or, with none, of all; nothing where
/// the body is none. For the fuzz targets: nobody else has a body without its token.
#[must_use]
pub fn reread(tokens: &Tokens, names: usize, body: &[u8]) -> Option<Vec<u8>> {
    let named = (1..=names as u128).map(|id| GenerationId(Uuid::from_u128(id)));
    let selection = match names {
        0 => Selection::Of(GenerationParent::Account),
        _ => Selection::Named(named.collect()),
    };
    match Sent::new(tokens, AccountId(Uuid::nil()), &selection).read(body)? {
        Opened::Sent(sent) => Some(sent.body()),
        Opened::TooMuch => Some(vec![TAG_TOO_MUCH]),
    }
}

/// The latest id whose start, if there was one, certainly committed before this one's.
fn horizon_of(id: GenerationId) -> GenerationId {
    // A UUIDv7 begins with 48 bits of milliseconds.
    let milliseconds = (id.0.as_u128() >> 80).saturating_sub(MAX_COMMIT_DELAY_MS);
    GenerationId(Uuid::from_u128(milliseconds << 80))
}

fn write_version(body: &mut Vec<u8>, version: i64) {
    // Versions are never negative.
    encode_varint(version.unsigned_abs(), body);
}

/// What distinguishes this selection's tokens from any other's.
fn purpose(selection: &Selection) -> Vec<u8> {
    match selection {
        Selection::Of(GenerationParent::Account) => b"watch".to_vec(),
        Selection::Of(GenerationParent::Project(project)) => format!("watch/{}", project.name()).into_bytes(),
        Selection::Of(GenerationParent::Scene(SceneName { project, scene })) => {
            format!("watch/{}/{scene}", project.name()).into_bytes()
        }
        Selection::Named(ids) => {
            let ids = ids.iter().flat_map(|id| id.0.into_bytes());
            b"watch/generations/".iter().copied().chain(ids).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use chassis::keyring::InternalKeys;

    use super::*;

    fn at(milliseconds: u128, low: u128) -> GenerationId {
        GenerationId(Uuid::from_u128(milliseconds << 80 | low))
    }

    fn sent_of(selection: &Selection) -> Sent {
        let keys = InternalKeys::parse("a key of 32 or more characters that tests have").unwrap();
        Sent::new(&Tokens::new(&keys, "watches"), AccountId(Uuid::from_u128(1)), selection)
    }

    fn opened(selection: &Selection, token: &str) -> Sent {
        match sent_of(selection).open(token) {
            Some(Opened::Sent(sent)) => sent,
            other => panic!("{other:?}"),
        }
    }

    fn known(version: i64, is_final: bool) -> Known {
        Known { version, is_final }
    }

    #[test]
    fn a_token_of_names_carries_each_version() {
        let ids: Arc<[GenerationId]> = (0..1_000).map(|low| at(5, low)).collect();
        let selection = Selection::Named(Arc::clone(&ids));
        let mut sent = sent_of(&selection);
        sent.known = ids.iter().zip(1..).map(|(id, version)| (*id, known(version, version % 2 == 0))).collect();
        let token = sent.token();
        assert!(token.len() < 3_000, "{}", token.len());
        let again = opened(&selection, &token);
        assert!(again.known().zip(1..).all(|((_, known), version)| known.version == version && !known.is_final));
        let others = Selection::Named(ids[1..].into());
        assert!(sent_of(&others).open(&token).is_none());
    }

    #[test]
    fn a_parents_token_omits_old_terminal_generations() {
        let selection = Selection::Of(GenerationParent::Account);
        let mut sent = sent_of(&selection);
        let (old, open, new) = (at(1_000, 1), at(1_000, 2), at(MAX_COMMIT_DELAY_MS + 2_000, 3));
        sent.known = [(old, known(9, true)), (open, known(4, false)), (new, known(7, true))].into();
        sent.horizon = horizon_of(new);
        sent.prune();
        let again = opened(&selection, &sent.token());
        assert_eq!(again.known().collect::<Vec<_>>(), [(open, known(4, false)), (new, known(7, false))]);
        assert!(old < again.horizon() && again.horizon() < new);
        assert_eq!(again.token(), sent.token());
    }

    #[test]
    fn a_token_says_when_it_cannot_name_everything() {
        let selection = Selection::Of(GenerationParent::Account);
        let mut sent = sent_of(&selection);
        sent.known = (0..=MAX_LISTED as u128).map(|low| (at(5, low), known(1, false))).collect();
        let token = sent.token();
        assert!(matches!(sent_of(&selection).open(&token), Some(Opened::TooMuch)));
        sent.known.pop_last();
        assert!(sent.token().len() < 7_000);
        assert_eq!(opened(&selection, &sent.token()).known().count(), MAX_LISTED);
        sent.complete = false;
        assert!(matches!(sent_of(&selection).open(&sent.token()), Some(Opened::TooMuch)));
    }
}
