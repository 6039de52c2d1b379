//! A seeded simulator of the coherent cache: the shipped rules of `coherence`, driven through processes, relays and servers
//! that lose, delay, double and reorder messages, stall, die, fail over, and set their clocks.
//!
//! Invariant: a seed is a history. Running it again, anywhere, gives the same reads and the same verdict.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod agenda;
mod check;
mod faults;
mod flights;
pub mod mutations;
pub mod postgres;
mod process;
pub mod redis;
mod relay;
mod removable;
pub mod run;
mod wires;
mod world;

pub use check::Violation;
pub use coherence::guards::Guard;
