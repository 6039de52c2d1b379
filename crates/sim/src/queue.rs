//! The events to come, in the order of their times and, at one time, in the order in which they were added.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::time::Time;

pub(crate) struct EventQueue<E> {
    /// The time of each event, its number, and its slot. Events are large: only these three are moved in the heap.
    order: BinaryHeap<Reverse<(Time, u64, usize)>>,
    slots: Vec<Option<E>>,
    free: Vec<usize>,
    number: u64,
}

impl<E> Default for EventQueue<E> {
    fn default() -> Self {
        Self { order: BinaryHeap::new(), slots: Vec::new(), free: Vec::new(), number: 0 }
    }
}

impl<E> EventQueue<E> {
    pub(crate) fn add(&mut self, at: Time, event: E) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[slot] = Some(event);
        self.number += 1;
        self.order.push(Reverse((at, self.number, slot)));
    }

    pub(crate) fn next(&mut self) -> Option<(Time, E)> {
        let Reverse((at, _, slot)) = self.order.pop()?;
        self.free.push(slot);
        self.slots[slot].take().map(|event| (at, event))
    }
}
