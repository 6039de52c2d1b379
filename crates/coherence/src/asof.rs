//! Where a snapshot stands in the relay's numbering.

/// The position of a value's snapshot: it includes every change of this epoch numbered up to `seq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asof {
    /// The relay's term whose numbers these are.
    pub epoch: i64,
    /// The last number that was compacted when the snapshot was taken.
    pub seq: i64,
}
