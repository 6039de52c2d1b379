//! Credits: balances, and the entries of the ledger as an account sees them.

use catalogue::Line;
use domain::id::{GenerationId, LedgerId};
use domain::money::Micros;
use time::OffsetDateTime;

/// The balance of an account; no part of it is ever negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Balance {
    pub(crate) available: Micros,
    pub(crate) held: Micros,
    pub(crate) spent: Micros,
}

/// The kind of an entry in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    Hold,
    Capture,
    Release,
    Grant,
    Adjust,
}

impl EntryKind {
    pub(crate) const ALL: [Self; 5] = [Self::Hold, Self::Capture, Self::Release, Self::Grant, Self::Adjust];

    /// The name in the column `ledger.entry`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Capture => "capture",
            Self::Release => "release",
            Self::Grant => "grant",
            Self::Adjust => "adjust",
        }
    }
}

/// One entry of the ledger, as its account sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: LedgerId,
    pub(crate) kind: EntryKind,
    pub(crate) generation: Option<GenerationId>,
    /// The generation's charge; zero unless it completed.
    pub(crate) spent: Micros,
    /// The change of the available balance.
    pub(crate) available: Micros,
    pub(crate) reason: Option<String>,
    /// What a hold or a capture is made up of.
    pub(crate) lines: Vec<Line>,
    pub(crate) create_time: OffsetDateTime,
}

/// A grant or an adjustment: credits that come from outside the ledger, or go there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issue {
    /// Negative takes credits away.
    pub(crate) amount: Micros,
    /// The reason of an adjustment; `None` for a grant.
    pub(crate) reason: Option<String>,
}

/// The outcome of a grant or an adjustment.
#[derive(Clone, Debug)]
pub(crate) enum Issued {
    /// The balance that includes it.
    New(Balance),
    /// The same request id issued this before.
    Existing(Issue),
}
