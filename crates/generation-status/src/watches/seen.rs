//! What a watcher has been sent, and the resume token that says so.
//!
//! Invariant: a token names the version of every generation that its holder knows and that may change again. So any
//! process can tell what the holder has not seen from the rows alone, whatever became of the process that sent it; no
//! clock and no order of commits is trusted, but for [`LATE`].

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Buf;
use domain::id::{AccountId, GenerationId};
use domain::name::{GenerationParent, SceneName};
use domain::token::Seal;
use prost::encoding::{decode_varint, encode_varint};
use uuid::Uuid;

use super::Selection;
use crate::record::Record;

/// The most generations that a parent's token names: each costs about 23 characters of every event.
const LISTED: usize = 256;
/// A start is committed at most this many milliseconds after another whose id is later: a start's deadline is 10 s, the
/// rest is for clocks that disagree.
const LATE: u128 = 60_000;

/// The first byte of a token: what follows.
const NAMED: u8 = 1;
const PARENT: u8 = 2;
const UNTOLD: u8 = 3;

/// What a watcher knows of one generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) version: i64,
    pub(super) terminal: bool,
}

/// What a token gave.
#[derive(Debug)]
pub(super) enum Opened {
    /// All that its holder knows.
    Seen(Seen),
    /// There was more than a token holds.
    Untold,
}

/// What one watcher has been sent.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    seal: Seal,
    /// The generations of a watch that names them, in order.
    names: Option<Arc<[GenerationId]>>,
    known: BTreeMap<GenerationId, Known>,
    /// What is not known and not newer than this is over, and was over before the snapshot or was sent at its end.
    line: GenerationId,
    /// The line of the token that the watch began with, or of its last snapshot.
    past: GenerationId,
    /// Whether the last snapshot held all that was open.
    whole: bool,
}

impl Seen {
    pub(super) fn new(account: AccountId, selection: &Selection) -> Self {
        let names = match selection {
            Selection::Named(ids) => Some(Arc::clone(ids)),
            Selection::Of(_) => None,
        };
        Self {
            seal: Seal::new(account, &purpose(selection)),
            names,
            known: BTreeMap::new(),
            line: GenerationId(Uuid::nil()),
            past: GenerationId(Uuid::nil()),
            whole: true,
        }
    }

    /// What the holder of a token has been sent; nothing when it is no token of this watch.
    pub(super) fn opened(mut self, token: &str) -> Option<Opened> {
        let body = self.seal.open(token)?;
        let mut body = body.as_slice();
        match (body.try_get_u8().ok()?, self.names.clone()) {
            (NAMED, Some(names)) => {
                for id in names.iter() {
                    self.take(*id, &mut body)?;
                }
            }
            (PARENT, None) => {
                self.line = GenerationId(Uuid::from_u128(body.try_get_u128().ok()?));
                self.past = self.line;
                while body.len() > size_of::<u128>() {
                    let id = GenerationId(Uuid::from_u128(body.get_u128()));
                    self.take(id, &mut body)?;
                }
            }
            (UNTOLD, None) => return Some(Opened::Untold),
            _ => return None,
        }
        body.is_empty().then_some(Opened::Seen(self))
    }

    fn take(&mut self, id: GenerationId, body: &mut &[u8]) -> Option<()> {
        let version = i64::try_from(decode_varint(body).ok()?).ok()?;
        self.known.insert(id, Known { version, terminal: false });
        Some(())
    }

    /// A snapshot was sent: what is open, `whole` when nothing of that was left out, and what is newer than `line`.
    pub(super) fn snapshot(&mut self, records: &[Arc<Record>], whole: bool, line: GenerationId) {
        self.known.clear();
        self.whole = whole;
        (self.line, self.past) = (line, line);
        records.iter().for_each(|record| self.note(record));
        self.forget();
    }

    /// A generation was sent.
    pub(super) fn update(&mut self, record: &Record) {
        self.note(record);
        self.forget();
    }

    /// Whether this is of an end that was told long ago, or before the first snapshot: word of it may come late, to a process
    /// that does not remember it.
    pub(super) fn is_past(&self, record: &Record) -> bool {
        let is_told = self.names.is_none() && self.whole && record.id <= self.past;
        is_told && record.state.is_terminal() && !self.known.contains_key(&record.id)
    }

    /// A generation was looked at: a token does not tell whether what it names is over.
    pub(super) fn looked(&mut self, record: &Record) {
        if self.known.get(&record.id).is_some_and(|known| known.version == record.version) {
            self.note(record);
        }
    }

    fn note(&mut self, record: &Record) {
        self.line = self.line.max(late(record.id));
        self.known.insert(record.id, Known { version: record.version, terminal: record.state.is_terminal() });
    }

    /// What is over never changes again, and need be told from what is new only above the line.
    fn forget(&mut self) {
        if self.names.is_none() {
            self.known.retain(|id, known| !known.terminal || *id > self.line);
        }
    }

    /// What a parent's watcher does not know is new only above this.
    pub(super) fn line(&self) -> GenerationId {
        self.line
    }

    /// Whether everything that may change is known, and so what was missed can be told.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    pub(super) fn known(&self) -> impl Iterator<Item = (GenerationId, Known)> {
        self.known.iter().map(|(id, known)| (*id, *known))
    }

    /// The resume token for what has been sent up to now.
    pub(super) fn token(&self) -> String {
        let mut body = Vec::new();
        match &self.names {
            Some(names) => {
                body.push(NAMED);
                for id in names.iter() {
                    put(&mut body, self.known.get(id).map_or(0, |known| known.version));
                }
            }
            None if self.whole && self.known.len() <= LISTED => {
                body.push(PARENT);
                body.extend_from_slice(self.line.0.as_bytes());
                for (id, known) in &self.known {
                    body.extend_from_slice(id.0.as_bytes());
                    put(&mut body, known.version);
                }
            }
            None => body.push(UNTOLD),
        }
        self.seal.token(&body)
    }
}

/// The latest id of which it is certain that, if it was started at all, that was committed before this one.
fn late(id: GenerationId) -> GenerationId {
    // A UUIDv7 begins with 48 bits of milliseconds.
    let milliseconds = (id.0.as_u128() >> 80).saturating_sub(LATE);
    GenerationId(Uuid::from_u128(milliseconds << 80))
}

fn put(body: &mut Vec<u8>, version: i64) {
    // Versions are never negative.
    encode_varint(version.unsigned_abs(), body);
}

/// What tells this selection from any other.
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
    use super::*;

    fn at(milliseconds: u128, low: u128) -> GenerationId {
        GenerationId(Uuid::from_u128(milliseconds << 80 | low))
    }

    fn of(selection: &Selection) -> Seen {
        Seen::new(AccountId(Uuid::from_u128(1)), selection)
    }

    fn opened(selection: &Selection, token: &str) -> Seen {
        match of(selection).opened(token) {
            Some(Opened::Seen(seen)) => seen,
            other => panic!("{other:?}"),
        }
    }

    fn known(version: i64, terminal: bool) -> Known {
        Known { version, terminal }
    }

    #[test]
    fn a_token_of_names_says_each_version() {
        let ids: Arc<[GenerationId]> = (0..1_000).map(|low| at(5, low)).collect();
        let selection = Selection::Named(Arc::clone(&ids));
        let mut seen = of(&selection);
        seen.known = ids.iter().zip(1..).map(|(id, version)| (*id, known(version, version % 2 == 0))).collect();
        let token = seen.token();
        assert!(token.len() < 3_000, "{}", token.len());
        let again = opened(&selection, &token);
        assert!(again.known().zip(1..).all(|((_, known), version)| known.version == version && !known.terminal));
        let others = Selection::Named(ids[1..].into());
        assert!(of(&others).opened(&token).is_none());
    }

    #[test]
    fn a_parents_token_leaves_out_what_is_over_and_old() {
        let selection = Selection::Of(GenerationParent::Account);
        let mut seen = of(&selection);
        let (old, open, new) = (at(1_000, 1), at(1_000, 2), at(LATE + 2_000, 3));
        seen.known = [(old, known(9, true)), (open, known(4, false)), (new, known(7, true))].into();
        seen.line = late(new);
        seen.forget();
        let again = opened(&selection, &seen.token());
        assert_eq!(again.known().collect::<Vec<_>>(), [(open, known(4, false)), (new, known(7, false))]);
        assert!(old < again.line() && again.line() < new);
        assert_eq!(again.token(), seen.token());
    }

    #[test]
    fn what_a_token_cannot_name_it_says() {
        let selection = Selection::Of(GenerationParent::Account);
        let mut seen = of(&selection);
        seen.known = (0..=LISTED as u128).map(|low| (at(5, low), known(1, false))).collect();
        let token = seen.token();
        assert!(matches!(of(&selection).opened(&token), Some(Opened::Untold)));
        seen.known.pop_last();
        assert!(seen.token().len() < 7_000);
        assert_eq!(opened(&selection, &seen.token()).known().count(), LISTED);
        seen.whole = false;
        assert!(matches!(of(&selection).opened(&seen.token()), Some(Opened::Untold)));
    }
}
