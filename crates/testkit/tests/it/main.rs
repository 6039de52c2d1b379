//! testkit against the real servers of this machine.
#![allow(clippy::unwrap_used)]

mod accounts;
mod grants;
mod indexes;
mod killed;
mod proxy;
mod roles;
mod round_trips;
mod servers;
mod spans;
