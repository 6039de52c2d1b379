//! The catalogue against what providers publish, and against the entries that ship.

mod conformance;
mod shared;
