//! What one watcher has not been sent yet: at most one record for each generation, the latest.
//!
//! Invariant: for one generation only rising versions come out. So a terminal record, being the last, is never overtaken.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::id::GenerationId;
use tokio::sync::Notify;

use super::seen::Known;
use crate::record::Record;

/// Something for the watcher.
#[derive(Debug)]
pub(super) enum News {
    /// A generation changed.
    Update(Arc<Record>),
    /// Changes may have been missed.
    Missed,
}

/// A watcher's inbox.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Default)]
struct State {
    /// The latest of each generation that was offered, sent or not.
    known: HashMap<GenerationId, Known>,
    /// What is to be sent, by generation, and in which order.
    waiting: HashMap<GenerationId, Arc<Record>>,
    order: VecDeque<GenerationId>,
    missed: bool,
}

impl State {
    /// Takes note of a record; false when this or a later version was known.
    fn learn(&mut self, record: &Record) -> bool {
        let new = Known { version: record.version, terminal: record.state.is_terminal() };
        match self.known.get(&record.id) {
            Some(old) if old.version > new.version => false,
            old => {
                // A version that was learned from a token is only now known to be the last.
                let rises = old.is_none_or(|old| old.version < new.version);
                self.known.insert(record.id, new);
                rises
            }
        }
    }
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is whole at each step, so a panic elsewhere leaves it usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a record in, unless this or a later version was here before; it takes the place of an earlier one.
    pub(super) fn offer(&self, record: &Arc<Record>) {
        let mut state = self.lock();
        if !state.learn(record) {
            return;
        }
        if state.waiting.insert(record.id, Arc::clone(record)).is_none() {
            state.order.push_back(record.id);
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Says that changes may have been missed.
    pub(super) fn missed(&self) {
        self.lock().missed = true;
        self.arrived.notify_one();
    }

    /// Takes the next out.
    pub(super) fn take(&self) -> Option<News> {
        let mut state = self.lock();
        while let Some(id) = state.order.pop_front() {
            if let Some(record) = state.waiting.remove(&id) {
                return Some(News::Update(record));
            }
        }
        std::mem::take(&mut state.missed).then_some(News::Missed)
    }

    /// Returns when something came in since it last returned.
    pub(super) async fn news(&self) {
        self.arrived.notified().await;
    }

    /// These were sent by other means: what waits and is not newer is dropped.
    pub(super) fn caught_up(&self, records: &[Arc<Record>]) {
        let mut state = self.lock();
        for record in records {
            state.learn(record);
            if state.waiting.get(&record.id).is_some_and(|waiting| waiting.version <= record.version) {
                state.waiting.remove(&record.id);
            }
        }
    }

    /// The watcher knew these before it came.
    pub(super) fn learn(&self, known: impl Iterator<Item = (GenerationId, Known)>) {
        self.lock().known.extend(known);
    }

    /// Whether this or any later version of a generation is known, which is then not worth reading.
    pub(super) fn has(&self, id: GenerationId, version: i64) -> bool {
        self.lock().known.get(&id).is_some_and(|known| known.version >= version)
    }

    /// The generations seen here that are not in a terminal state.
    pub(super) fn open(&self) -> Vec<GenerationId> {
        self.lock().known.iter().filter(|(_, known)| !known.terminal).map(|(id, _)| *id).collect()
    }
}
