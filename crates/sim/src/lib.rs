//! A seeded simulator of the coherent cache: the shipped rules of `coherence`, driven through processes, relays and servers
//! that lose, delay, duplicate and reorder messages, stall, die, fail over, and step their clocks.
//!
//! Invariant: a seed is a history. Running it again, anywhere, gives the same reads and the same result.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod body;
mod checker;
mod dispatch;
mod events;
mod fault_profile;
mod faults;
mod gateway;
mod load;
mod loads;
pub mod mutants;
mod network;
pub mod postgres;
mod process;
mod queue;
mod reads;
mod receive;
pub mod redis;
mod relay;
mod removable;
pub mod run;
mod simulation;
mod term;
pub mod time;
mod writes;

pub use checker::Violation;
pub use coherence::guards::Guard;
