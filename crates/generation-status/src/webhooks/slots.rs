//! Slots for deliveries in flight: some for endpoints that answer promptly, some for slow ones.
//!
//! Invariant: an endpoint that answers nothing keeps a prompt slot for a second at most, as long as a slow one is free; so however
//! many slow endpoints there are, those that answer find a slot.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::model::FreeSlots;

/// How many deliveries a process has in flight at once to endpoints that answer promptly, or were never called.
const PROMPT_SLOTS: usize = 32;
/// How many to slow endpoints. A delivery in flight is a connection and a few kilobytes.
const SLOW_SLOTS: usize = 64;

/// The slots of this process; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    prompt: Arc<Semaphore>,
    slow: Arc<Semaphore>,
}

impl Slots {
    pub(super) fn new() -> Self {
        Self { prompt: Arc::new(Semaphore::new(PROMPT_SLOTS)), slow: Arc::new(Semaphore::new(SLOW_SLOTS)) }
    }

    pub(super) fn free(&self) -> FreeSlots {
        let count = |slots: &Semaphore| u32::try_from(slots.available_permits()).unwrap_or_default();
        FreeSlots { prompt: count(&self.prompt), slow: count(&self.slow) }
    }

    /// Takes a slot; `None` when none is free.
    pub(super) fn take(&self, slow: bool) -> Option<Slot> {
        let slots = if slow { &self.slow } else { &self.prompt };
        let permit = Arc::clone(slots).try_acquire_owned().ok()?;
        Some(Slot { permit, slow, slots: self.clone() })
    }
}

/// A slot that a delivery holds until it is dropped.
#[derive(Debug)]
pub(super) struct Slot {
    permit: OwnedSemaphorePermit,
    slow: bool,
    slots: Slots,
}

impl Slot {
    /// Changes a prompt slot for a slow one, if one is free; returns whether it is a slow one now.
    pub(super) fn make_slow(&mut self) -> bool {
        if !self.slow
            && let Ok(permit) = Arc::clone(&self.slots.slow).try_acquire_owned()
        {
            self.permit = permit;
            self.slow = true;
        }
        self.slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_changed_for_a_slow_one_while_there_is_one() {
        let slots = Slots::new();
        let mut held: Vec<Slot> = (0..PROMPT_SLOTS).map(|_| slots.take(false).unwrap()).collect();
        assert!(slots.take(false).is_none());
        assert!(held.iter_mut().all(Slot::make_slow));
        assert_eq!(slots.free(), FreeSlots { prompt: PROMPT_SLOTS as u32, slow: (SLOW_SLOTS - PROMPT_SLOTS) as u32 });
        held.extend((0..PROMPT_SLOTS).map(|_| slots.take(false).unwrap()));
        assert!(held.iter_mut().all(Slot::make_slow));
        let mut last = slots.take(false).unwrap();
        assert!(!last.make_slow(), "it stays where it is");
        held.pop();
        assert!(last.make_slow() && last.make_slow());
        drop((held, last));
        assert_eq!(slots.free(), FreeSlots { prompt: PROMPT_SLOTS as u32, slow: SLOW_SLOTS as u32 });
    }
}
