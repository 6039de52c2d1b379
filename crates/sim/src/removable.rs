//! The guards of the simulator, each of which can be taken out of the thread that runs a seed.
//!
//! Invariant: only what this crate instantiates with [`Removable`] asks here. A service instantiates the same rules with
//! [`coherence::guards::Enforced`], and no crate that ships depends on this one.

use std::cell::Cell;

use coherence::guards::{Guard, Guards};

thread_local! {
    static REMOVED: Cell<u128> = const { Cell::new(0) };
}

/// Enforces every guard that was not removed from this thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Removable;

impl Guards for Removable {
    #[inline]
    fn enforced(guard: Guard) -> bool {
        REMOVED.get() & (1 << guard as u32) == 0
    }
}

/// Takes these guards, and no others, out of this thread.
pub(crate) fn remove(guards: &[Guard]) {
    REMOVED.set(guards.iter().fold(0, |set, guard| set | (1 << *guard as u32)));
}

/// Whether the models of the servers and of the shell enforce a guard.
pub(crate) fn enforced(guard: Guard) -> bool {
    Removable::enforced(guard)
}
