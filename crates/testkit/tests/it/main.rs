//! testkit against the real servers of this machine.
#![allow(clippy::unwrap_used)]

mod killed;
mod proxy;
mod round_trips;
mod servers;
mod spans;
