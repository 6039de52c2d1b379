//! How many webhooks are taken at a time, and how many bytes all of them hold. A sender is nobody until a worker has verified the
//! whole body, so what nobody can make the gateway hold is bounded.
//!
//! Invariant: the bodies that are held have together at most [`MAX_HOOKS`] times [`FREE`] and [`MAX_BYTES`] bytes.

use std::{net::IpAddr, sync::Arc};

use chassis::server::{ByAddress, Place as OfAddress};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The webhooks that are taken at a time.
const MAX_HOOKS: usize = 64;
/// Those of one address: providers send from a few, and none of them is to keep the others out.
const MAX_HOOKS_PER_ADDRESS: usize = 32;
/// The bytes that bodies hold together, the first [`FREE`] of each apart.
const MAX_BYTES: usize = 16 << 20;
/// The bytes of each body that are not counted: most webhooks are smaller, and large ones take no room from them.
const FREE: usize = 32 << 10;

/// The budget of all webhooks; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    hooks: ByAddress,
    bytes: Arc<Semaphore>,
}

/// The place of one webhook, with the bytes that it holds.
#[derive(Debug)]
pub(super) struct Place {
    bytes: Arc<Semaphore>,
    held: usize,
    permits: Option<OwnedSemaphorePermit>,
    _hook: OfAddress,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self {
            hooks: ByAddress::new("hook", MAX_HOOKS, MAX_HOOKS_PER_ADDRESS),
            bytes: Arc::new(Semaphore::new(MAX_BYTES)),
        }
    }

    /// A place for one more webhook from `address`, if there is one.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Place> {
        let hook = self.hooks.try_take(address).ok()?;
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
        let (budget, sender) = (Budget::new(), IpAddr::from([192, 0, 2, 1]));
        let mut large: Vec<_> = std::iter::repeat_with(|| budget.enter(sender).unwrap()).take(6).collect();
        let grown = large.iter_mut().map(|place| place.grow(500_000) && place.grow(3 << 20));
        assert_eq!(grown.filter(|grown| *grown).count(), 5, "of three MiB each");
        let mut small = budget.enter(sender).unwrap();
        assert!(small.grow(FREE) && !small.grow(FREE + (2 << 20)));
        large.clear();
        assert!(small.grow(2 << 20), "what was held is free again");
    }

    #[test]
    fn there_are_only_so_many_places() {
        let budget = Budget::new();
        let sender = |last| IpAddr::from([192, 0, 2, last]);
        let mut places: Vec<_> = std::iter::from_fn(|| budget.enter(sender(1))).collect();
        assert_eq!(places.len(), MAX_HOOKS_PER_ADDRESS, "one address takes no more");
        places.extend((2..).map_while(|last| budget.enter(sender(last))));
        assert_eq!(places.len(), MAX_HOOKS);
        places.pop();
        assert!(budget.enter(sender(1)).is_none() && budget.enter(sender(2)).is_some());
    }
}
