//! What watchers are sent: a generation, and all that they watch.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use domain::id::GenerationId;

use crate::model::Generation;
use crate::presenter::Presenter;

/// A version of a generation, which is encoded once, however many are sent it.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) generation: Generation,
    /// Without the reason why it is blocked, which changes without a new version.
    encoded: OnceLock<Bytes>,
}

impl Shown {
    /// The encoded generation, with the current reason why it is blocked.
    pub(crate) fn encoded(&self, presenter: &Presenter) -> Bytes {
        let encoded = self.encoded.get_or_init(|| presenter.encoded(&self.generation));
        presenter.with_block_reason(&self.generation, encoded.clone())
    }
}

impl From<Generation> for Shown {
    fn from(generation: Generation) -> Self {
        Self { generation, encoded: OnceLock::new() }
    }
}

/// All that is watched, which everyone who waits for it shares.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    /// Newest first.
    pub(super) generations: Arc<[Arc<Shown>]>,
    /// Whether it holds every open generation.
    pub(super) complete: bool,
    /// It holds every generation that is newer than this.
    pub(super) horizon: GenerationId,
}
