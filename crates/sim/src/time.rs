//! True time, which nobody inside the simulation can read.

/// Nanoseconds since the simulation's start.
pub type Time = i64;

/// A second of it.
pub const SECOND: Time = 1_000_000_000;

/// A millisecond of it.
pub const MS: Time = 1_000_000;
