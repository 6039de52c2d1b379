//! The metrics of watches, by what they watch.

use crate::metrics::{WATCH_EVENTS, WATCH_RESUMES, WATCHES};

/// What became of a resume token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumeOutcome {
    /// The watch went on with what the client had not seen.
    Exact,
    /// The client was told that it missed something, and sent a snapshot.
    Gap,
    /// The token was refused.
    Refused,
}

/// Counts the watches of one kind; the kind is the metrics' label.
#[derive(Clone, Copy, Debug)]
pub struct Metrics(pub &'static str);

impl Metrics {
    /// A watch was opened; it counts as open until what is returned is dropped.
    #[must_use]
    pub fn open(self) -> OpenWatch {
        WATCHES.with([self.0]).increment(1.0);
        OpenWatch(self)
    }

    /// An event was sent.
    pub fn sent(self, event: &'static str) {
        WATCH_EVENTS.with([self.0, event]).increment(1);
    }

    /// A client came with a resume token.
    pub fn resumed(self, outcome: ResumeOutcome) {
        let outcome = match outcome {
            ResumeOutcome::Exact => "exact",
            ResumeOutcome::Gap => "gap",
            ResumeOutcome::Refused => "refused",
        };
        WATCH_RESUMES.with([self.0, outcome]).increment(1);
    }
}

/// An open watch, until it is dropped.
#[derive(Debug)]
pub struct OpenWatch(Metrics);

impl Drop for OpenWatch {
    fn drop(&mut self) {
        WATCHES.with([self.0.0]).decrement(1.0);
    }
}
