//! The events to come, in the order of their times and, at one time, in the order in which they were written down.
//!
//! What happens is large and lies still; only its time and place go up and down the heap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::postgres::Time;

pub(crate) struct Agenda<W> {
    /// When, the how-manieth ever written down, and where it lies.
    order: BinaryHeap<Reverse<(Time, u64, usize)>>,
    events: Vec<Option<W>>,
    free: Vec<usize>,
    number: u64,
}

impl<W> Default for Agenda<W> {
    fn default() -> Self {
        Self { order: BinaryHeap::new(), events: Vec::new(), free: Vec::new(), number: 0 }
    }
}

impl<W> Agenda<W> {
    pub(crate) fn add(&mut self, at: Time, what: W) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(what);
        self.number += 1;
        self.order.push(Reverse((at, self.number, place)));
    }

    pub(crate) fn next(&mut self) -> Option<(Time, W)> {
        let Reverse((at, _, place)) = self.order.pop()?;
        self.free.push(place);
        self.events[place].take().map(|what| (at, what))
    }
}
