//! How many webhooks are taken at a time, and how many bytes all of them hold. A sender is nobody until a worker has verified the
//! whole body, so what nobody can make the gateway hold is bounded.
//!
//! Invariant: the bodies that are held have together at most [`MAX_HOOKS`] times [`FREE`] and [`MAX_BYTES`] bytes.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The webhooks that are taken at a time.
const MAX_HOOKS: usize = 64;
/// The bytes that bodies hold together, the first [`FREE`] of each apart.
const MAX_BYTES: usize = 16 << 20;
/// The bytes of each body that are not counted: most webhooks are smaller, and large ones take no room from them.
const FREE: usize = 32 << 10;

/// The budget of all webhooks; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    hooks: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
}

/// The place of one webhook, with the bytes that it holds.
#[derive(Debug)]
pub(super) struct Place {
    bytes: Arc<Semaphore>,
    held: usize,
    permits: Option<OwnedSemaphorePermit>,
    _hook: OwnedSemaphorePermit,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self { hooks: Arc::new(Semaphore::new(MAX_HOOKS)), bytes: Arc::new(Semaphore::new(MAX_BYTES)) }
    }

    /// A place for one more webhook, if there is one.
    pub(super) fn enter(&self) -> Option<Place> {
        let hook = Arc::clone(&self.hooks).try_acquire_owned().ok()?;
        Some(Place { bytes: Arc::clone(&self.bytes), held: FREE, permits: None, _hook: hook })
    }
}

impl Place {
    /// Makes room for a body of `length` bytes; false when there is none.
    pub(super) fn grow(&mut self, length: usize) -> bool {
        let Some(more) = length.checked_sub(self.held).filter(|more| *more > 0) else { return true };
        let permits =
            u32::try_from(more).ok().and_then(|more| Arc::clone(&self.bytes).try_acquire_many_owned(more).ok());
        let Some(permits) = permits else { return false };
        match &mut self.permits {
            Some(all) => all.merge(permits),
            none => *none = Some(permits),
        }
        self.held = length;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_share_what_there_is_and_small_ones_need_none_of_it() {
        let budget = Budget::new();
        let mut large: Vec<_> = std::iter::repeat_with(|| budget.enter().unwrap()).take(6).collect();
        let grown = large.iter_mut().map(|place| place.grow(500_000) && place.grow(3 << 20));
        assert_eq!(grown.filter(|grown| *grown).count(), 5, "of three MiB each");
        let mut small = budget.enter().unwrap();
        assert!(small.grow(FREE) && !small.grow(FREE + (2 << 20)));
        large.clear();
        assert!(small.grow(2 << 20), "what was held is free again");
    }

    #[test]
    fn there_are_only_so_many_places() {
        let budget = Budget::new();
        let mut places: Vec<_> = std::iter::from_fn(|| budget.enter()).collect();
        assert_eq!(places.len(), MAX_HOOKS);
        places.pop();
        assert!(budget.enter().is_some());
    }
}
