//! The changes that one watcher has not been sent yet: of each generation at most one, the latest.
//!
//! Invariant: of one generation only rising versions come out. So a terminal version, being the last, is never overtaken.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::id::GenerationId;
use tokio::sync::Notify;

use super::resume::Known;
use crate::model::Generation;

/// What a watcher is to be sent next.
#[derive(Debug)]
pub(super) enum Next {
    /// A generation changed.
    Update(Arc<Generation>),
    /// Changes may have been missed.
    Missed,
}

/// One watcher's pending changes.
#[derive(Default)]
pub(super) struct Pending {
    state: Mutex<State>,
    notify: Notify,
}

#[derive(Default)]
struct State {
    /// The latest version of each generation that was offered, sent or not.
    known: HashMap<GenerationId, Known>,
    /// What is to be sent, by generation, and the order in which they came.
    waiting: HashMap<GenerationId, Arc<Generation>>,
    order: VecDeque<GenerationId>,
    missed: bool,
}

impl State {
    /// Remembers a version; false when this or a later one was known.
    fn learn(&mut self, generation: &Generation) -> bool {
        let new = Known { version: generation.version, terminal: generation.state.is_terminal() };
        match self.known.get(&generation.id) {
            Some(old) if old.version > new.version => false,
            old => {
                // A version from a resume token carries no state: only the row says that it is the terminal one.
                let rises = old.is_none_or(|old| old.version < new.version);
                self.known.insert(generation.id, new);
                rises
            }
        }
    }
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is whole at each step, so a panic elsewhere leaves it usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a change, unless this or a later version was here before; it replaces an earlier one.
    pub(super) fn offer(&self, generation: &Arc<Generation>) {
        let mut state = self.lock();
        if !state.learn(generation) {
            return;
        }
        if state.waiting.insert(generation.id, Arc::clone(generation)).is_none() {
            state.order.push_back(generation.id);
        }
        drop(state);
        self.notify.notify_one();
    }

    /// Notes that changes may have been missed.
    pub(super) fn missed(&self) {
        self.lock().missed = true;
        self.notify.notify_one();
    }

    /// Takes the next change out.
    pub(super) fn take(&self) -> Option<Next> {
        let mut state = self.lock();
        while let Some(id) = state.order.pop_front() {
            if let Some(generation) = state.waiting.remove(&id) {
                return Some(Next::Update(generation));
            }
        }
        std::mem::take(&mut state.missed).then_some(Next::Missed)
    }

    /// Waits until something came in since it last returned.
    pub(super) async fn arrived(&self) {
        self.notify.notified().await;
    }

    /// These were sent in a snapshot: pending versions that are not newer are dropped.
    pub(super) fn sent(&self, generations: &[Arc<Generation>]) {
        let mut state = self.lock();
        for generation in generations {
            state.learn(generation);
            if state.waiting.get(&generation.id).is_some_and(|waiting| waiting.version <= generation.version) {
                state.waiting.remove(&generation.id);
            }
        }
    }

    /// The watcher had been sent these before, as its resume token says.
    pub(super) fn learn(&self, known: impl Iterator<Item = (GenerationId, Known)>) {
        self.lock().known.extend(known);
    }

    /// Whether this or a later version of a generation is known, so that it need not be read.
    pub(super) fn has(&self, id: GenerationId, version: i64) -> bool {
        self.lock().known.get(&id).is_some_and(|known| known.version >= version)
    }

    /// The known generations that are not in a terminal state.
    pub(super) fn open(&self) -> Vec<GenerationId> {
        self.lock().known.iter().filter(|(_, known)| !known.terminal).map(|(id, _)| *id).collect()
    }
}
