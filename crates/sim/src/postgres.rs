//! PostgreSQL as the protocol sees it: rows with versions, aggregates whose outbox rows are their bumps, the clock row, and
//! the relay's statements of `cache/src/relay/store.rs`.
//!
//! Invariant: every function is one statement in one snapshot, and commits are totally ordered.

use coherence::asof::Asof;
use coherence::guards::Guard;
use coherence::relay::{ClockRow, Compaction, Drained};
use coherence::time::PgTime;

use crate::removable::enforced;
use crate::time::{SECOND, Time};

/// How a key's version is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A row with a version of its own.
    Row,
    /// A key whose version is its number of changes.
    Aggregate,
}

/// A state of a key from its commit on.
#[derive(Clone, Copy, Debug)]
pub struct Commit {
    /// When it became visible.
    pub at: Time,
    /// The version that a reader gets; 0 when there is nothing.
    pub version: i64,
    /// What a reader gets: another number for every content, 0 when there is nothing.
    pub content: u64,
}

/// One key's whole history.
#[derive(Clone, Debug)]
pub struct History {
    /// How its version is kept.
    pub kind: Kind,
    /// All states, oldest first.
    pub commits: Vec<Commit>,
    /// The last version a row ever had.
    last: i64,
    /// A deleted row never comes back: ids are not used twice.
    deleted: bool,
}

impl History {
    /// The newest state.
    pub fn now(&self) -> Commit {
        self.commits[self.commits.len() - 1]
    }

    /// The place of the newest state that was visible before `at`.
    pub fn visible(&self, at: Time) -> usize {
        self.commits.partition_point(|commit| commit.at < at).saturating_sub(1)
    }

    /// The places of the states that an answer may be, oldest first. "Nothing" may be the time before a row and the time
    /// after it.
    pub fn places(&self, version: i64, content: u64) -> impl Iterator<Item = usize> {
        let same = move |commit: &Commit| commit.version == version && commit.content == content;
        (0..self.commits.len()).filter(move |place| same(&self.commits[*place]))
    }
}

#[derive(Clone, Copy, Debug)]
struct Row {
    id: i64,
    key: usize,
    version: Option<i64>,
}

/// The rows of one drain.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    /// Their ids.
    pub ids: Vec<i64>,
    /// Each key once, with its highest version.
    pub changes: Vec<(usize, i64)>,
}

/// The database.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// All keys.
    pub keys: Vec<History>,
    outbox: Vec<Row>,
    next_id: i64,
    next_content: u64,
    base: Vec<i64>,
    clock: ClockRow,
    owner: Option<usize>,
    lease_until: PgTime,
    /// How far its clock is from true time.
    pub offset: Time,
    /// How much too fast its clock runs, in parts per million.
    pub ppm: i64,
    /// The maximum of outbox rows that one pass takes.
    pass_rows: usize,
}

impl Postgres {
    /// Keys of these kinds; rows may begin as nothing.
    pub fn new(kinds: &[(Kind, bool)], ppm: i64, pass_rows: usize) -> Self {
        let mut next_content = 0;
        let keys = kinds
            .iter()
            .map(|(kind, exists)| {
                let version = i64::from(*kind == Kind::Row && *exists);
                let content = if *exists || *kind == Kind::Aggregate {
                    next_content += 1;
                    next_content
                } else {
                    0
                };
                let commits = vec![Commit { at: Time::MIN, version, content }];
                History { kind: *kind, commits, last: version, deleted: false }
            })
            .collect::<Vec<_>>();
        let clock = ClockRow { epoch: 0, seq: 0, space: 1, run: None, dirty: true };
        Self {
            base: vec![0; keys.len()],
            keys,
            outbox: Vec::new(),
            next_id: 0,
            next_content,
            clock,
            owner: None,
            lease_until: PgTime::PAST,
            offset: 1000 * SECOND,
            ppm,
            pass_rows,
        }
    }

    /// The reading of its clock.
    pub fn now(&self, at: Time) -> PgTime {
        let shown = i128::from(at) * i128::from(1_000_000 + self.ppm) / 1_000_000;
        PgTime((i64::try_from(shown).unwrap_or(i64::MAX) + self.offset) / 1000)
    }

    /// Changes a key, or with `deletes` deletes a row; returns the version that a writer learns from the statement: a row's
    /// new one, nothing for an aggregate.
    pub fn change(&mut self, key: usize, deletes: bool, at: Time) -> Option<i64> {
        let history = &mut self.keys[key];
        if history.deleted {
            return None;
        }
        let learned = match history.kind {
            Kind::Row => {
                history.last += 1;
                let exists = !(deletes && history.now().version > 0);
                history.deleted = !exists;
                self.next_content += u64::from(exists);
                let (version, content) = if exists { (history.last, self.next_content) } else { (0, 0) };
                history.commits.push(Commit { at, version, content });
                Some(history.last)
            }
            Kind::Aggregate => {
                self.next_content += 1;
                let version = history.now().version + 1;
                history.commits.push(Commit { at, version, content: self.next_content });
                None
            }
        };
        self.next_id += 1;
        self.outbox.push(Row { id: self.next_id, key, version: learned });
        learned
    }

    /// The version of an aggregate, as `cache_version` reads it.
    pub fn version(&self, key: usize) -> i64 {
        match self.keys[key].kind {
            Kind::Row => self.keys[key].now().version,
            Kind::Aggregate => {
                // The outbox row is the bump: what is not compacted yet counts as well.
                let pending = self.outbox.iter().filter(|row| row.key == key).count();
                self.base[key] + i64::try_from(pending).unwrap_or(i64::MAX)
            }
        }
    }

    /// The clock of a snapshot.
    pub fn asof(&self) -> Asof {
        Asof { epoch: self.clock.epoch, seq: self.clock.seq }
    }

    /// `take`.
    pub fn take(&mut self, epoch: i64, owner: usize, at: Time) -> bool {
        let now = self.now(at);
        if self.owner.is_some() && self.lease_until >= now && self.owner != Some(owner) {
            return false;
        }
        self.clock.epoch = epoch;
        self.clock.seq = 0;
        self.owner = Some(owner);
        self.lease_until = now + std::time::Duration::from_secs(2);
        true
    }

    /// `renew`.
    pub fn renew(&mut self, epoch: i64, owner: usize, at: Time) -> bool {
        let leads = self.clock.epoch == epoch && self.owner == Some(owner);
        if leads {
            self.lease_until = self.now(at) + std::time::Duration::from_secs(2);
        }
        leads
    }

    /// `drain`, in a transaction that began at `began`.
    pub fn drain(&self, began: PgTime) -> (Drained, Outbox) {
        let mut outbox = Outbox::default();
        for row in self.outbox.iter().take(self.pass_rows) {
            outbox.ids.push(row.id);
            let version = row.version.unwrap_or_else(|| self.version(row.key));
            match outbox.changes.iter_mut().find(|(key, _)| *key == row.key) {
                Some((_, held)) => *held = (*held).max(version),
                None => outbox.changes.push((row.key, version)),
            }
        }
        let (data, complete) = (!outbox.ids.is_empty(), outbox.ids.len() < self.pass_rows);
        (Drained { clock: self.clock.clone(), at: began, data, complete }, outbox)
    }

    /// `compact`.
    pub fn compact(
        &mut self,
        epoch: i64,
        owner: usize,
        compaction: &Compaction,
        space: i64,
        ids: &[i64],
        at: Time,
    ) -> bool {
        let leads = self.clock.epoch == epoch && self.owner == Some(owner);
        if !leads && enforced(Guard::CompactGuarded) {
            return false;
        }
        let clock = &mut self.clock;
        clock.seq = compaction.seq;
        clock.dirty = compaction.dirty;
        if let Some(run) = &compaction.reopen {
            clock.space = space;
            clock.run = Some(run.clone());
        }
        for row in self.outbox.iter().filter(|row| row.version.is_none() && ids.contains(&row.id)) {
            self.base[row.key] += 1;
        }
        self.outbox.retain(|row| !ids.contains(&row.id));
        self.lease_until = self.now(at) + std::time::Duration::from_secs(2);
        true
    }
}
