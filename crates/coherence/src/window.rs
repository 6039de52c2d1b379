//! The window: which relay messages this process has received without a gap, and up to which time that proves it current.
//!
//! Invariant: while the window is open, every change numbered `first+1..=last` of its epoch has been applied to this
//! process's L1, and every change committed before `at` is numbered at most `last`. An entry loaded at or after `first`
//! is therefore current as of `at`.

use std::marker::PhantomData;

use crate::asof::Asof;
use crate::guards::{Enforced, Guard, Guards};
use crate::time::PgTime;

/// The head of a relay message; its changes are applied before the window receives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The term of the relay that sent it.
    pub epoch: i64,
    /// Every change up to and including the ones in this message has a number at most this.
    pub seq: i64,
    /// Every change committed before this is numbered at most `seq`. [`PgTime::PAST`] when the relay could not take all
    /// at once.
    pub at: PgTime,
    /// Whether it carries changes; one that does not is a heartbeat and repeats the last number.
    pub data: bool,
}

/// Why a window was closed or began again; also the label of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The first message since the process began or since it was closed.
    Start,
    /// The relay of another term sent it.
    Epoch,
    /// A number was skipped: messages were lost (a slow consumer shows as this, too).
    Gap,
    /// The connection was lost or replaced.
    Disconnect,
    /// PostgreSQL's clock was stepped.
    ClockStep,
    /// The relay was unresponsive: no message came for longer than the bound.
    Unresponsive,
}

impl Cause {
    /// The metric's label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Epoch => "epoch",
            Self::Gap => "gap",
            Self::Disconnect => "disconnect",
            Self::ClockStep => "clock_step",
            Self::Unresponsive => "unresponsive",
        }
    }
}

/// What a message did to the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// It was the next one, or a heartbeat.
    Kept,
    /// The window began anew: what was loaded before must be validated, and watchers may have missed changes.
    Restarted(Cause),
    /// It says nothing new.
    Ignored,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    epoch: i64,
    first: i64,
    last: i64,
    at: PgTime,
}

/// The window of one outbox partition.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window<G = Enforced> {
    open: Option<Open>,
    /// What was open before the last close; it may say how old something is, and never serves it as fresh.
    past: Option<Open>,
    guards: PhantomData<G>,
}

impl<G: Guards> Window<G> {
    /// Receives a message, whose changes must have been applied to L1 and the watermarks before.
    pub fn receive(&mut self, m: &Notice) -> Received {
        let anew = Open { epoch: m.epoch, first: m.seq, last: m.seq, at: m.at };
        let Some(open) = &mut self.open else {
            self.open = Some(anew);
            return Received::Restarted(Cause::Start);
        };
        if m.epoch != open.epoch && G::enforced(Guard::WindowEpoch) {
            // A leader that was paused and resumes after its successor published proves nothing that is not known.
            if m.at < open.at {
                return Received::Ignored;
            }
            // Guard: numbers of two terms cannot be compared; what was loaded under the old one may lack changes of the new.
            self.open = Some(anew);
            return Received::Restarted(Cause::Epoch);
        }
        if m.seq == open.last || (m.data && m.seq == open.last + 1) {
            open.last = m.seq;
            open.at = open.at.max(m.at);
            return Received::Kept;
        }
        if m.seq > open.last {
            // Guard: a message in between was lost, and with it changes that were not applied to L1.
            if !G::enforced(Guard::WindowGap) {
                open.last = m.seq;
                open.at = open.at.max(m.at);
                return Received::Kept;
            }
            self.open = Some(anew);
            return Received::Restarted(Cause::Gap);
        }
        Received::Ignored
    }

    /// Closes the window; returns whether it was open.
    pub fn close(&mut self) -> bool {
        let Some(open) = self.open.take() else { return false };
        self.past = Some(open);
        true
    }

    /// Whether any proof is held.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The time as of which this process has seen everything, while the window is open.
    #[must_use]
    pub fn at(&self) -> Option<PgTime> {
        self.open.map(|open| open.at)
    }

    /// The number up to which this process has seen everything, while the window is open.
    #[must_use]
    pub fn last(&self) -> Option<i64> {
        self.open.map(|open| open.last)
    }

    /// The time as of which an entry of this origin is current, if the window covers it.
    #[must_use]
    pub fn covers(&self, asof: Asof) -> Option<PgTime> {
        // Guard: an entry from before the window's first message may lack a change whose message was never received.
        self.open
            .filter(|open| asof.epoch == open.epoch && (asof.seq >= open.first || !G::enforced(Guard::WindowFirst)))
            .map(|open| open.at)
    }

    /// The latest time as of which an entry of this origin is known to have been current, be it long ago.
    #[must_use]
    pub fn covered(&self, asof: Asof) -> Option<PgTime> {
        let past = Self { open: self.past, past: None, guards: PhantomData };
        self.covers(asof).or_else(|| past.covers(asof))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(epoch: i64, seq: i64, at: i64) -> Notice {
        Notice { epoch, seq, at: PgTime(at), data: true }
    }

    fn heartbeat(epoch: i64, seq: i64, at: i64) -> Notice {
        Notice { epoch, seq, at: PgTime(at), data: false }
    }

    fn open() -> Window {
        let mut window: Window = Window::default();
        assert_eq!(window.receive(&data(1, 10, 100)), Received::Restarted(Cause::Start));
        window
    }

    fn asof(epoch: i64, seq: i64) -> Asof {
        Asof { epoch, seq }
    }

    #[test]
    fn the_next_message_and_a_heartbeat_move_the_proof_on() {
        let mut window = open();
        assert_eq!(window.receive(&heartbeat(1, 10, 110)), Received::Kept);
        assert_eq!(window.receive(&data(1, 11, 120)), Received::Kept);
        assert_eq!(window.covers(asof(1, 10)), Some(PgTime(120)), "first stays: 10 is still covered");
        assert_eq!(window.covers(asof(1, 9)), None);
    }

    #[test]
    fn a_skipped_number_restarts_the_window() {
        let mut window = open();
        assert_eq!(window.receive(&data(1, 12, 120)), Received::Restarted(Cause::Gap));
        assert_eq!(window.covers(asof(1, 11)), None, "11 was never seen");
        assert_eq!(window.covers(asof(1, 12)), Some(PgTime(120)));
    }

    #[test]
    fn a_heartbeat_that_shows_a_lost_message_restarts_the_window() {
        let mut window = open();
        assert_eq!(window.receive(&heartbeat(1, 11, 120)), Received::Restarted(Cause::Gap));
        assert_eq!(window.covers(asof(1, 10)), None);
    }

    #[test]
    fn late_and_duplicate_messages_change_nothing() {
        let mut window = open();
        window.receive(&data(1, 11, 120));
        assert_eq!(window.receive(&data(1, 10, 100)), Received::Ignored);
        assert_eq!(window.receive(&data(1, 11, 120)), Received::Kept);
        assert_eq!(window.at(), Some(PgTime(120)));
    }

    #[test]
    fn a_new_term_restarts_the_window_but_a_superseded_leader_does_not() {
        let mut window = open();
        assert_eq!(window.receive(&data(2, 0, 130)), Received::Restarted(Cause::Epoch));
        assert_eq!(window.covers(asof(1, 10)), None);
        assert_eq!(window.receive(&data(1, 11, 125)), Received::Ignored);
        assert_eq!(window.covers(asof(2, 0)), Some(PgTime(130)));
    }

    #[test]
    fn a_closed_window_covers_nothing() {
        let mut window = open();
        assert!(window.close());
        assert!(!window.close());
        assert_eq!(window.covers(asof(1, 10)), None);
    }

    #[test]
    fn what_a_closed_window_proved_is_remembered_as_covered() {
        let mut window = open();
        window.receive(&data(1, 11, 120));
        window.close();
        assert!(!window.close());
        assert_eq!((window.covers(asof(1, 10)), window.covered(asof(1, 10))), (None, Some(PgTime(120))));
        assert_eq!((window.covered(asof(1, 9)), window.covered(asof(2, 11))), (None, None));
        window.receive(&data(2, 0, 500));
        assert_eq!(window.covered(asof(2, 0)), Some(PgTime(500)));
        assert_eq!(window.covered(asof(1, 11)), Some(PgTime(120)), "no younger for what came after");
    }

    #[test]
    fn a_partial_drain_moves_the_number_and_not_the_proof() {
        let mut window = open();
        window.receive(&Notice { epoch: 1, seq: 11, at: PgTime::PAST, data: true });
        assert_eq!(window.covers(asof(1, 11)), Some(PgTime(100)));
    }
}
