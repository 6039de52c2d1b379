//! The state of one process: its clock, window, watermarks, in-flight loads and L1, its connection to Redis and its relay.

use std::collections::HashMap;
use std::hash::RandomState;

use coherence::clock::Clock;
use coherence::entry::Entry;
use coherence::in_flight::InFlightLoads;
use coherence::time::Mono;
use coherence::watermarks::Watermarks;
use coherence::window::Window;

use crate::body::Body;
use crate::events::Session;
use crate::removable::Removable;
use crate::term::Term;
use crate::time::Time;

/// One process.
pub(crate) struct Process {
    /// The start of its monotonic clock, and how much too fast that runs.
    origin: Time,
    ppm: i64,
    /// Raised when it starts again: what the incarnation before had in flight is nobody's.
    pub(crate) incarnation: u32,
    pub(crate) clock: Clock<Removable>,
    pub(crate) window: Window<Removable>,
    pub(crate) watermarks: Watermarks<usize, RandomState, Removable>,
    /// By their places in the simulation's loads.
    pub(crate) in_flight: InFlightLoads<usize, usize, Removable>,
    pub(crate) l1: HashMap<usize, Entry<Body>>,
    /// What was written through it in other processes.
    pub(crate) written: HashMap<usize, i64>,
    /// When its last reading of PostgreSQL's clock was asked for, by whomever.
    pub(crate) sampled: Time,
    pub(crate) session: Option<Session>,
    pub(crate) term: Option<Term>,
    pub(crate) paused_until: Time,
    pub(crate) nats_cut_until: Time,
    pub(crate) redis_cut_until: Time,
}

impl Process {
    pub(crate) fn new(origin: Time, ppm: i64) -> Self {
        Self {
            origin,
            ppm,
            incarnation: 0,
            clock: Clock::default(),
            window: Window::default(),
            watermarks: Watermarks::default(),
            in_flight: InFlightLoads::default(),
            l1: HashMap::new(),
            written: HashMap::new(),
            sampled: 0,
            session: None,
            term: None,
            paused_until: 0,
            nats_cut_until: 0,
            redis_cut_until: 0,
        }
    }

    /// Forgets all but its monotonic clock, which is the machine's.
    pub(crate) fn restart(&mut self) {
        *self = Self { incarnation: self.incarnation + 1, ..Self::new(self.origin, self.ppm) };
    }

    /// The reading of its monotonic clock.
    pub(crate) fn mono(&self, at: Time) -> Mono {
        let elapsed = i128::from(at) * i128::from(1_000_000 + self.ppm) / 1_000_000;
        Mono(self.origin + i64::try_from(elapsed).unwrap_or(i64::MAX))
    }
}
